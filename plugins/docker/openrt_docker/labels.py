"""Labels on what openrt makes with the engine: whose it is, and who made it."""

from __future__ import annotations

import json
import os
import pathlib
import socket
from collections.abc import Mapping
from typing import Any

ID = "openrt.id"
OWNER = "openrt.owner"
AGENT = "openrt.agent"
DERIVED = "openrt.derived"
WORKDIR = "openrt.workdir"
USER = "openrt.user"
GO_VARIABLES = "openrt.go-variables"
"""See ``openrt_docker.go_variables``."""
NAMES = "openrt.labels"
"""The names of the labels that the user asked for, as a JSON list: the image's own are none of
the sandbox's."""


def of_a_sandbox(id: str, workdir: str, user: str, asked: Mapping[str, str]) -> dict[str, str]:
    """All labels of a sandbox's container."""
    return {
        **asked,
        ID: id,
        OWNER: owner(),
        WORKDIR: workdir,
        USER: user,
        NAMES: json.dumps(sorted(asked)),
    }


def native(user: str, go_variables: Mapping[str, str]) -> dict[str, Any]:
    """What of the labels a handle carries as details of the runtime."""
    return {"user": user, **({"go_variables": dict(go_variables)} if go_variables else {})}


def asked_for(told: Mapping[str, str]) -> dict[str, str]:
    """Those of a container's labels that the user asked for."""
    try:
        names = json.loads(told.get(NAMES) or "[]")
    except ValueError:
        return {}
    if not isinstance(names, list):
        return {}
    return {name: told[name] for name in names if isinstance(name, str) and name in told}


def for_snapshot(told: Mapping[str, str], image: Mapping[str, str]) -> dict[str, str]:
    """The labels of an image made of a container: those of the image that it was made from.

    The engine cannot take one away, so that the sandbox's own become empty: an empty id is no
    sandbox's.
    """
    return {name: image.get(name, "") for name in told}


def owner() -> str:
    """Host, boot, pid namespace, pid and start time of this process, separated by spaces.

    Another process tells from it whether the owner of a sandbox is proven dead: only on the same
    host and boot, and in the same pid namespace.
    """
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "?"
    started = _read("/proc/self/stat").rpartition(")")[2].split()
    return " ".join(
        (
            socket.gethostname(),
            boot,
            namespace,
            str(os.getpid()),
            started[19] if len(started) > 19 else "?",
        )
    )


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip() or "?"
    except OSError:
        return "?"


def is_dead(told: str) -> bool:
    """Whether the process that a label OWNER tells of is proven dead: it was on this host, in this
    boot and pid namespace, and no process has its number and start time."""
    fields = told.split(" ")
    here = owner().split(" ")
    if len(fields) != len(here) or fields[:3] != here[:3] or "?" in fields:
        return False
    started = _read(f"/proc/{fields[3]}/stat").rpartition(")")[2].split()
    return len(started) < 20 or started[19] != fields[4] or started[0] in ("Z", "X")
