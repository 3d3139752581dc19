"""The optional hooks about sandboxes and images as wholes; a part of ``openrt_core.hookspecs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openrt_core.models import SandboxHandle
from openrt_core.plugin import hookspec

# The bodies are specifications, as in hookspecs.


@hookspec(firstresult=True)
def openrt_list(labels: Mapping[str, str]) -> list[SandboxHandle]:
    """The sandboxes of this runtime that are there, whoever made them, unordered; also paused
    ones, none that has ended. Each handle is as ``openrt_connect`` would return it, but for what
    only the sandbox itself knows; none is joined.

    Args:
        labels: only sandboxes that were made with all of these; empty for every one.

    Raises:
        EngineUnreachableError, AuthenticationError
    """


@hookspec(firstresult=True)
def openrt_pause(handle: SandboxHandle) -> bool:
    """Stops all that runs in the sandbox, its memory kept, until it is resumed. True if it ran,
    False if it was paused already.

    Raises:
        SandboxGoneError: it has ended.
    """


@hookspec(firstresult=True)
def openrt_resume(handle: SandboxHandle) -> bool:
    """Lets a paused sandbox run on. True if it was paused, False if it ran already.

    Raises:
        SandboxGoneError: it has ended.
    """


@hookspec(firstresult=True)
def openrt_snapshot(handle: SandboxHandle, name: str) -> str:
    """Keeps the sandbox's files, without its mounts, as an image. The reference of the image, for
    ``SandboxSpec.image``.

    The image holds nothing of the sandbox's environment, secrets and labels beyond what was
    written to files. It stays until the user removes it.

    Args:
        handle: of a sandbox that runs or is paused.
        name: what the image will be called; an image that has the name loses it.

    Raises:
        SandboxGoneError: it has ended.
        SettingError: no image can have this name.
        ProvisionError: the image could not be made.
    """


@hookspec(firstresult=True)
def openrt_expose(handle: SandboxHandle, port: int) -> str:
    """Makes a TCP port of the sandbox reachable, for as long as the sandbox is open here. The URL
    at which it is, without a slash at the end.

    Whether something listens at the port yet does not matter. The same port twice is the same URL.

    Args:
        handle: the sandbox.
        port: 1 to 65535.

    Raises:
        SandboxGoneError, TransportError
    """


@hookspec(firstresult=True)
def openrt_build_image(
    base: str | None, commands: Sequence[str], platform: str | None, rebuild: bool
) -> str:
    """An image that is ``base`` after these commands, built when there is none yet. Its reference,
    for ``SandboxSpec.image``.

    What was built is found again by a hash of the base's content and the commands, so that the
    same question is answered at once.

    Args:
        base: name of an image, None for the runtime's default.
        commands: texts for the image's ``/bin/sh -c``, run as root one after the other.
        platform: as in ``SandboxSpec``.
        rebuild: whether it is built again although there is one.

    Raises:
        ImageNotFoundError: there is no such base.
        ProvisionError: a command failed; carries the last that it printed.
    """
