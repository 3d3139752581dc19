"""An audit log: one JSON line for what is about to be done, one for how it ended."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import stat
import threading
from collections.abc import Generator, Mapping
from typing import Any

from openrt_core import (
    Command,
    ConfigurationError,
    OpenrtError,
    Process,
    SandboxHandle,
    SandboxSpec,
    SettingError,
    hookimpl,
)
from openrt_core.events import Event
from openrt_core.plugin import WrapperContext

VARIABLE = "OPENRT_AUDIT_LOG"
SHORT = 4
"""Values of variables that are shorter than this are no secrets: masking them hides everything."""

Hook = Generator[None, Any, Any]


class Audit:
    """Writes the log. A line that cannot be written refuses what it was about, and all that comes
    after."""

    def __init__(self, path: pathlib.Path, runtime: str) -> None:
        self._path = path
        self._runtime = runtime
        self._broken: OSError | None = None
        self._masked: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    @hookimpl(wrapper=True)
    def openrt_prepare(self, spec: SandboxSpec) -> Hook:
        """What is asked for."""
        self._masked[spec.id] = _values(spec.secrets, spec.env)
        mounts = [{"source": m.source, "target": m.target, "mode": m.mode} for m in spec.mounts]
        return (
            yield from self._around(
                "prepare", spec.id, image=spec.image, network=spec.network, mounts=mounts
            )
        )

    @hookimpl(wrapper=True)
    def openrt_provision(self, spec: SandboxSpec) -> Hook:
        """What is made, wrappers further inside included."""
        try:
            return (yield from self._around("provision", spec.id, network=spec.network))
        except BaseException:
            self._masked.pop(spec.id, None)
            raise

    @hookimpl(wrapper=True)
    def openrt_exec(self, handle: SandboxHandle, command: Command, process: Process) -> Hook:
        """The start; the outcome comes when the command is over."""
        masked = self._masked.get(handle.id, frozenset()) | _values({}, command.env)
        argv = [_mask(argument, masked) for argument in command.argv]
        process.add_done_callback(lambda done: self._ended(handle, done))
        names = sorted(command.env)
        return (yield from self._around("exec", handle.id, argv=argv, env=names, user=command.user))

    @hookimpl(wrapper=True)
    def openrt_teardown(self, handle: SandboxHandle) -> Hook:
        """Its removal. The core removes it also when this raises."""
        self._masked.pop(handle.id, None)
        return (yield from self._around("teardown", handle.id))

    @hookimpl(wrapper=True)
    def openrt_read_file(self, handle: SandboxHandle, path: str) -> Hook:
        return (yield from self._around("read_file", handle.id, path=path))

    @hookimpl(wrapper=True)
    def openrt_write_file(self, handle: SandboxHandle, path: str, data: bytes) -> Hook:
        return (yield from self._around("write_file", handle.id, path=path, size=len(data)))

    @hookimpl(wrapper=True)
    def openrt_upload(self, handle: SandboxHandle, source: str, path: str) -> Hook:
        return (yield from self._around("upload", handle.id, source=source, path=path))

    @hookimpl(wrapper=True)
    def openrt_download(self, handle: SandboxHandle, path: str, target: str) -> Hook:
        return (yield from self._around("download", handle.id, path=path, target=target))

    @hookimpl(wrapper=True)
    def openrt_list_files(self, handle: SandboxHandle, path: str) -> Hook:
        return (yield from self._around("list_files", handle.id, path=path))

    @hookimpl(wrapper=True)
    def openrt_stat_file(self, handle: SandboxHandle, path: str) -> Hook:
        return (yield from self._around("stat_file", handle.id, path=path))

    @hookimpl(wrapper=True)
    def openrt_remove_file(self, handle: SandboxHandle, path: str) -> Hook:
        return (yield from self._around("remove_file", handle.id, path=path))

    @hookimpl(wrapper=True)
    def openrt_rename_file(self, handle: SandboxHandle, path: str, to: str) -> Hook:
        return (yield from self._around("rename_file", handle.id, path=path, to=to))

    @hookimpl(wrapper=True)
    def openrt_make_directory(self, handle: SandboxHandle, path: str) -> Hook:
        return (yield from self._around("make_directory", handle.id, path=path))

    def event(self, event: Event) -> None:
        """For ``context.subscribe``. Messages may hold anything, so only their kind is kept."""
        self._write("event", event.sandbox, kind=event.kind, source=event.source)

    def _around(self, what: str, sandbox: str, **facts: Any) -> Hook:
        if self._broken is not None:
            raise _refused(self._path, self._broken)
        self._write(what, sandbox, **facts)
        try:
            result = yield
        except BaseException as error:
            try:
                self._write(f"{what}.failed", sandbox, error=_named(error))
            except ConfigurationError as unwritten:
                error.add_note(str(unwritten))
            raise
        self._write(f"{what}.done", sandbox)
        return result

    def _ended(self, handle: SandboxHandle, process: Process) -> None:
        try:
            result = process.result()
        except Exception as error:  # noqa: BLE001  # it is the outcome
            self._write("exec.ended", handle.id, error=_named(error))
        else:
            self._write("exec.ended", handle.id, exit_code=result.exit_code, signal=result.signal)

    def _write(self, what: str, sandbox: str, **facts: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        line = {"time": now, "what": what, "runtime": self._runtime, "sandbox": sandbox, **facts}
        try:
            with self._lock:
                _append(self._path, (json.dumps(line) + "\n").encode())
        except OSError as error:
            self._broken = error
            raise _refused(self._path, error) from error


def _append(path: pathlib.Path, line: bytes) -> None:
    """One write to the end of the file, which is looked up each time: it may have been rotated."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{path} is no file of the user's own")
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        if os.write(descriptor, line) < len(line):
            raise OSError(f"{path} took a part of a line only")
    finally:
        os.close(descriptor)


def _refused(path: pathlib.Path, error: OSError) -> ConfigurationError:
    why = error.strerror or str(error)
    return ConfigurationError(f"The audit log {path} cannot be written: {why}.")


def _named(error: BaseException) -> str:
    """What kind of error; its text may quote anything."""
    return error.code if isinstance(error, OpenrtError) else type(error).__name__


def _values(secrets: Mapping[str, str], env: Mapping[str, str]) -> frozenset[str]:
    named = {value for value in env.values() if len(value) >= SHORT}
    return frozenset(named | {value for value in secrets.values() if value})


def _mask(text: str, masked: frozenset[str]) -> str:
    for value in sorted(masked, key=len, reverse=True):
        text = text.replace(value, "********")
    return text


def create(context: WrapperContext) -> Audit:
    """The factory that the entry point names. It does no I/O: the file is opened with the first
    line.

    Raises:
        SettingError: OPENRT_AUDIT_LOG is no absolute path.
    """
    path = pathlib.Path(os.environ.get(VARIABLE, ""))
    if not path.is_absolute():
        raise SettingError(f"{VARIABLE} must be the absolute path of a file.", hint="")
    audit = Audit(path, context.runtime)
    context.subscribe(audit.event)
    return audit
