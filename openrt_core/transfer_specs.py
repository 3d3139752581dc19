"""The optional hooks that copy files and folders; a part of ``openrt_core.hookspecs``."""

from __future__ import annotations

from openrt_core.events import Progress
from openrt_core.models import SandboxHandle
from openrt_core.plugin import hookspec

# The bodies are specifications, as in hookspecs.


@hookspec(firstresult=True)
def openrt_upload(
    handle: SandboxHandle,
    source: str,
    path: str,
    user: int | str | None,
    progress: Progress,
) -> int:
    """Copies a file or a folder of this machine into the sandbox, as docs/files.md says. The
    number of bytes in files.

    Args:
        handle: the sandbox.
        source: absolute path of this machine.
        path: absolute path in the sandbox.
        user: with whose rights, and whose it will be.
        progress: called again and again in this thread; what it raises ends the upload.

    Raises:
        FileError: or one of its kinds, of the sandbox.
        OSError: of this machine.
    """


@hookspec(firstresult=True)
def openrt_download(
    handle: SandboxHandle,
    path: str,
    target: str,
    user: int | str | None,
    limit: int,
    progress: Progress,
) -> int:
    """Copies a file or a folder of the sandbox to this machine, as docs/files.md says. The number
    of bytes in files.

    Args:
        handle: the sandbox.
        path: absolute path in the sandbox.
        target: absolute path of this machine; nothing is written but what belongs there.
        user: with whose rights.
        limit: bytes; more is an error.
        progress: called again and again in this thread; what it raises ends the download.

    Raises:
        FileError: or one of its kinds, of the sandbox.
        OSError: of this machine.
    """
