"""The contract: the hooks that a runtime implements and that wrappers go around.

Four hooks are required (mount, provision, exec, teardown), two are the core's own (prepare,
prepare_command), the others are optional: implementing one is a capability. All are blocking and
thread-safe, take exactly the parameters below (an implementation may leave out those that it does
not need), and never return None. They may raise any error of ``openrt_core.errors``; what else
they raise reaches the user as it is.

The smallest runtime::

    class Plugin:
        spec_version = 1
        features = frozenset({"streams"})

        @hookimpl
        def openrt_mount(self, mount, spec):
            raise VolumeError(f"{mount.source} cannot be mounted here.")

        @hookimpl
        def openrt_provision(self, spec, attachments):
            return SandboxHandle(runtime="mine", id=spec.id, workdir=spec.workdir)

        @hookimpl
        def openrt_exec(self, handle, command, process):
            ...start it; attach controls to process; return process at once

        @hookimpl
        def openrt_teardown(self, handle):
            return True
"""

from __future__ import annotations

from collections.abc import Sequence

from openrt_core.models import (
    Attachment,
    Command,
    Entry,
    Mount,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
)
from openrt_core.plugin import hookspec
from openrt_core.process import Process
from openrt_core.transfer_specs import (
    openrt_download as openrt_download,
)
from openrt_core.transfer_specs import (
    openrt_upload as openrt_upload,
)

REQUIRED = frozenset({"openrt_mount", "openrt_provision", "openrt_exec", "openrt_teardown"})
CORE = frozenset({"openrt_prepare", "openrt_prepare_command"})


# The bodies are specifications: pluggy never calls them, so an ellipsis is all there is to say.
# mypy's empty-body is off for this module (pyproject.toml).


@hookspec(firstresult=True)
def openrt_prepare(spec: SandboxSpec) -> SandboxSpec:
    """The place where wrappers change or refuse what is about to be made. The core's own returns
    ``spec``.

    Args:
        spec: what was asked for, defaults and settings applied. Its id must be kept.
    """


@hookspec(firstresult=True)
def openrt_prepare_command(handle: SandboxHandle, command: Command) -> Command:
    """The place where wrappers change or refuse a command. The core's own returns ``command``."""


@hookspec(firstresult=True)
def openrt_preflight(spec: SandboxSpec) -> bool:
    """Checks credentials, the engine and options before anything is spent. True, or it raises.

    Raises:
        AuthenticationError, EngineUnreachableError, UnsupportedError, SettingError
    """


@hookspec(firstresult=True)
def openrt_mount(mount: Mount, spec: SandboxSpec) -> Attachment:
    """Plans one mount: touches nothing, spends nothing. Provision makes what it names, teardown
    releases it.

    Raises:
        VolumeError: this runtime cannot honour it.
    """


@hookspec(firstresult=True)
def openrt_provision(spec: SandboxSpec, attachments: Sequence[Attachment]) -> SandboxHandle:
    """Makes the sandbox and returns when it can run commands.

    ``spec.id`` is written on what is made (name, label, tag) in the creating call itself, so that
    teardown by id finds it whenever this call is cut short.

    Args:
        spec: what is asked for.
        attachments: one for each of ``spec.mounts``, in their order.

    Raises:
        ProvisionError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_exec(handle: SandboxHandle, command: Command, process: Process) -> Process:
    """Starts one command and returns ``process`` at once, like Popen.

    The runtime attaches its controls (``process.attach``), then feeds it: ``started``, ``feed``,
    and exactly one of ``exited`` and ``failed``. No thread is kept per running command.

    Args:
        handle: the sandbox.
        command: what to run; ``cwd`` and ``user`` are filled in from the handle when they were
            None.
        process: made by the core, limits and callbacks armed.

    Raises:
        SandboxGoneError, TransportError: the command was not started.
    """


@hookspec(firstresult=True)
def openrt_teardown(handle: SandboxHandle) -> bool:
    """Removes the sandbox and all that provision made for it; True if it was there.

    Idempotent; works from another process, with nothing but the runtime's name and the id in the
    handle, and when provision never returned. Checks the runtime's own label before it removes
    anything.
    """


@hookspec(firstresult=True)
def openrt_connect(id: str) -> SandboxHandle:
    """Joins a sandbox that another process made, or that was kept.

    Raises:
        SandboxGoneError: there is none of this id.
    """


@hookspec(firstresult=True)
def openrt_status(handle: SandboxHandle) -> SandboxStatus:
    """The state of the sandbox; for one that is gone, with what is known of its end."""


@hookspec(firstresult=True)
def openrt_read_file(handle: SandboxHandle, path: str, user: int | str | None) -> bytes:
    """The content of one file.

    Args:
        handle: the sandbox.
        path: absolute.
        user: with whose rights; None for the handle's user.

    Raises:
        FileError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_write_file(
    handle: SandboxHandle, path: str, data: bytes, mode: int | None, user: int | str | None
) -> int:
    """Writes one file, atomically where it can; missing folders above it are made. The number of
    bytes written.

    Args:
        handle: the sandbox.
        path: absolute.
        data: the whole content.
        mode: permission bits; None keeps those of a file that is there, else 0o644.
        user: with whose rights, and whose it will be; None for the handle's user.

    Raises:
        FileError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_list_files(handle: SandboxHandle, path: str, user: int | str | None) -> list[Entry]:
    """The entries of one folder, unordered, without ``.`` and ``..``.

    Raises:
        FileError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_stat_file(
    handle: SandboxHandle, path: str, follow: bool, user: int | str | None
) -> Entry:
    """One entry, whose ``name`` is ``path``.

    Args:
        handle: the sandbox.
        path: absolute.
        follow: whether a link stands for what it points to.
        user: with whose rights.

    Raises:
        FileError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_remove_file(
    handle: SandboxHandle, path: str, recursive: bool, user: int | str | None
) -> bool:
    """Removes a file, a link or a folder (a full one only with ``recursive``). True; never
    follows links.

    Raises:
        FileError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_rename_file(handle: SandboxHandle, path: str, to: str, user: int | str | None) -> bool:
    """Renames ``path``; what was at ``to`` is replaced, as rename(2) does. True.

    Raises:
        FileError: or one of its kinds.
    """


@hookspec(firstresult=True)
def openrt_make_directory(
    handle: SandboxHandle,
    path: str,
    mode: int,
    parents: bool,
    exist_ok: bool,
    user: int | str | None,
) -> bool:
    """Makes a folder. True, also when it was there and ``exist_ok``.

    Raises:
        FileError: or one of its kinds.
    """
