"""Labels on what openrt makes with the engine: whose it is, and who made it."""

from __future__ import annotations

import os
import pathlib
import socket

ID = "openrt.id"
OWNER = "openrt.owner"
AGENT = "openrt.agent"
WORKDIR = "openrt.workdir"
USER = "openrt.user"


def owner() -> str:
    """Host, boot, pid namespace, pid and start time of this process, separated by spaces.

    Another process tells from it whether the owner of a sandbox is proven dead: only on the same
        host and boot, and in the
    same pid namespace.
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
