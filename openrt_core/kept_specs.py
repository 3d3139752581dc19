"""The optional hooks about what lives on without a client; a part of ``openrt_core.hookspecs``."""

from __future__ import annotations

from openrt_core.models import BackgroundCommand, SandboxHandle
from openrt_core.plugin import hookspec
from openrt_core.process import Process

# The bodies are specifications, as in hookspecs.


@hookspec(firstresult=True)
def openrt_disconnect(handle: SandboxHandle) -> bool:
    """Lets the connection of this process to a sandbox go that lives on without it: one that is
    kept, or another process's. True if there was a connection.

    What runs over it and is no background command is killed. A later call of any hook connects
    again. Never raises because the sandbox has ended meanwhile.
    """


@hookspec(firstresult=True)
def openrt_list_commands(handle: SandboxHandle) -> list[BackgroundCommand]:
    """The background commands of the sandbox, unordered: those that run, and those that ended and
    are remembered.

    Raises:
        SandboxGoneError, TransportError
    """


@hookspec(firstresult=True)
def openrt_attach(
    handle: SandboxHandle, command_id: str, offsets: tuple[int, int], process: Process
) -> Process:
    """Attaches to a background command, which may have ended, and returns ``process`` at once.

    The runtime does as in ``openrt_exec``: the command's output from the offsets on is fed to
    ``process``, then its end; ``process.lost`` tells what of it is not kept any more. The controls
    act on the command itself. The process fails with CommandError when there is none of this id.

    Args:
        handle: the sandbox.
        command_id: as in the list, and in ``Process.background_id``.
        offsets: of stdout and stderr, bytes.
        process: made by the core; ``process.command.argv`` holds the id.

    Raises:
        SandboxGoneError, TransportError
    """


@hookspec(firstresult=True)
def openrt_forget_command(handle: SandboxHandle, command_id: str) -> bool:
    """Forgets a background command that has ended, and its output. False when there is none.

    Raises:
        CommandError: it still runs.
        SandboxGoneError, TransportError
    """
