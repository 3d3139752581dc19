"""Which feature each field of a spec or a command needs once it is not at its default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from openrt_core.errors import UnsupportedError
from openrt_core.models import Command, Mount, SandboxHandle, SandboxSpec

_SAME_NAME: Final = (
    "image",
    "user",
    "ports",
    "cpu",
    "memory",
    "pids",
    "disk",
    "gpu",
    "platform",
    "labels",
    "lifetime",
    "idle_limit",
    "keep",
    "read_only",
    "options",
)
_DEFAULT: Final = SandboxSpec(id="default")
_NETWORKS: Final = {"none": "network_none", "host": "network_host"}


def check_spec(runtime: str, features: frozenset[str], spec: SandboxSpec) -> None:
    """Refuses a spec that needs a feature or hook that the runtime does not have.

    Raises:
        UnsupportedError
    """
    for needed, field in _needs(spec):
        if not features & set(needed):
            raise _unsupported(runtime, field, needed)


def check_command(
    runtime: str, features: frozenset[str], handle: SandboxHandle, command: Command
) -> None:
    """Refuses a command that needs a feature the runtime does not name.

    Raises:
        UnsupportedError
    """
    if command.stdin and "stdin" not in features:
        raise _unsupported(runtime, "input for a command", ("stdin",))
    if command.tty is not None and "tty" not in features:
        raise _unsupported(runtime, "a terminal for a command", ("tty",))
    if command.background and "background" not in features:
        raise _unsupported(runtime, "a command in the background", ("background",))
    if command.user not in (None, handle.user) and "user" not in features:
        raise _unsupported(runtime, f"user={command.user!r} for a command", ("user",))


def _needs(spec: SandboxSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in _SAME_NAME:
        if getattr(spec, name) != getattr(_DEFAULT, name):
            yield (name,), name
    if spec.image_commands:
        yield ("build_image",), "image_commands"
    if spec.network != "default":
        yield (_NETWORKS.get(spec.network, "network_named"),), f"network={spec.network}"
    for mount in spec.mounts:
        yield from _mount_needs(mount)


def _mount_needs(mount: Mount) -> Iterator[tuple[tuple[str, ...], str]]:
    field = f"the {mount.mode} mount at {mount.target}"
    if mount.named:
        yield ("named_volume",), f"{field} of the named volume {mount.source!r}"
    if mount.mode == "overlay":
        yield ("overlay",), field
    elif not mount.named:
        yield ("bind", "copy"), field


def _unsupported(runtime: str, field: str, needed: tuple[str, ...]) -> UnsupportedError:
    hint = None
    if {"bind", "copy", "overlay"} & set(needed):
        hint = (
            "Copy what is needed with sandbox.files, or choose another runtime: `openrt runtimes` "
            "shows which can mount."
        )
    return UnsupportedError(
        f"The runtime {runtime!r} cannot do {field} (feature {' or '.join(needed)}).", hint=hint
    )
