"""What the engine is asked to create for one sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openrt_core.models import Attachment, SandboxSpec
from openrt_docker import go_variables, labels
from openrt_docker.agent_volume import FOLDER, PROGRAM
from openrt_docker.engine import Engine
from openrt_docker.images import Image
from openrt_docker.kwargs import Extra

PIDS_LIMIT = 4096
"""Processes and threads of a sandbox when nothing else is asked for; it bounds a fork bomb."""


def name(id: str) -> str:
    """The container's name for a sandbox's id."""
    return f"openrt-{id}"


def create_arguments(
    engine: Engine,
    spec: SandboxSpec,
    attachments: Sequence[Attachment],
    image: Image,
    volume: str,
    user: str,
    more: Extra,
) -> dict[str, Any]:
    """The arguments of the SDK's low-level ``create_container``.

    ``more`` goes over ours. The spec's environment and secrets are not among them: `docker inspect`
    would show them. The agent is told them for each command.
    """
    return {
        "image": image.id,
        "name": name(spec.id),
        "hostname": spec.id[:12],
        **more.container,
        "entrypoint": [PROGRAM, "serve", "--label", spec.id],
        "command": [],
        "user": "0:0",
        "working_dir": "/",
        "stdin_open": True,
        "tty": False,
        # The agent heeds no other: a command could send it.
        "stop_signal": "SIGKILL",
        "environment": go_variables.neutral(image.go_variables),
        "labels": {
            **labels.of_a_sandbox(spec.id, spec.workdir, user, spec.labels),
            labels.GO_VARIABLES: go_variables.to_label(image.go_variables),
        },
        "host_config": _host_config(engine, spec, attachments, volume, more),
        # The SDK has no parameter for it; without it the end of our stream would not be the
        # agent's.
        "stdin_once": True,
    }


def _host_config(
    engine: Engine,
    spec: SandboxSpec,
    attachments: Sequence[Attachment],
    volume: str,
    more: Extra,
) -> dict[str, Any]:
    import docker.types

    mounts = [
        docker.types.Mount(
            target=a.mount.target,
            source=a.mount.source,
            type="volume" if a.kind == "volume" else "bind",
            read_only=a.mount.mode == "ro",
        )
        for a in attachments
    ]
    mounts.append(
        docker.types.Mount(
            target=FOLDER, source=volume, type="volume", read_only=True, no_copy=True
        )
    )
    options: dict[str, Any] = {
        "mounts": mounts,
        # An engine that logs what the agent sends slows it to a tenth and fills the disk.
        "log_config": docker.types.LogConfig(type="none"),
        # A kept one outlives restarts of a daemon with live-restore, which removes all others, and
        # can tell how it ended.
        "auto_remove": not spec.keep,
        "network_mode": {"default": "bridge"}.get(spec.network, spec.network),
        "pids_limit": spec.pids or PIDS_LIMIT,
        "read_only": spec.read_only,
        # Nothing in a sandbox needs to make devices or forge packets. AUDIT_WRITE stays, for
        # `connect` alone: what commands lack, for the agent drops it, they cannot look into.
        "cap_drop": ["MKNOD", "NET_RAW"],
    }
    if spec.memory is not None:
        options["mem_limit"] = spec.memory
        options["memswap_limit"] = spec.memory
    if spec.cpu is not None:
        options["nano_cpus"] = int(spec.cpu * 1e9)
    if spec.gpu is not None:
        options["device_requests"] = [_gpu(spec.gpu)]
    if spec.read_only:
        options["tmpfs"] = {"/run": "mode=0755,size=64m", "/tmp": "mode=1777,exec,size=4g"}
    return dict(engine.client().api.create_host_config(**{**options, **more.host}))


def _gpu(gpu: str) -> Any:
    import docker.types

    if gpu == "all":
        return docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])
    return docker.types.DeviceRequest(device_ids=gpu.split(","), capabilities=[["gpu"]])
