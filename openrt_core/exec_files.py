"""File hooks over exec alone, for runtimes that have none: a POSIX shell and small tools do it.

Paths and modes are arguments of the scripts, never part of their text. What a tool says when it
fails is read for its reason only, by the ends that C libraries and shells give to their messages.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from openrt_core import exec_scripts as scripts
from openrt_core.errors import FileError, OpenrtError, TransportError, file_error
from openrt_core.exec_listing import parse_entry, parse_listing
from openrt_core.models import Command, Entry, ExecResult, OutputMode, SandboxHandle
from openrt_core.plugin import hookimpl
from openrt_core.process import Process
from openrt_core.streams import read_both

FILE_TIMEOUT: Final = 300.0
"""Seconds for one file operation."""
READ_LIMIT: Final = 1024 * 1024 * 1024
"""Bytes of the largest file that is read: the sandbox must not fill the client's memory."""
ARGUMENT_BYTES: Final = 24 * 1024
"""Bytes in one argument of printf, four characters each: Linux takes 128 KiB an argument."""

User = int | str | None
Run = Callable[[SandboxHandle, Command], Process]

_REASONS: Final = (
    ("no such file or directory", errno.ENOENT),
    ("nonexistent directory", errno.ENOENT),
    ("directory nonexistent", errno.ENOENT),
    ("no such file", errno.ENOENT),
    ("permission denied", errno.EACCES),
    ("operation not permitted", errno.EPERM),
    ("read-only file system", errno.EROFS),
    ("not a directory", errno.ENOTDIR),
    ("is a directory", errno.EISDIR),
    ("file exists", errno.EEXIST),
    ("directory not empty", errno.ENOTEMPTY),
    ("file name too long", errno.ENAMETOOLONG),
    ("filename too long", errno.ENAMETOOLONG),
    ("too many levels of symbolic links", errno.ELOOP),
    ("symbolic link loop", errno.ELOOP),
    ("no space left on device", errno.ENOSPC),
    ("disk quota exceeded", errno.EDQUOT),
    ("quota exceeded", errno.EDQUOT),
    ("not a regular file", errno.EINVAL),
    ("input/output error", errno.EIO),
)


class ExecFiles:
    """The file hooks, for one runtime.

    Args:
        run: starts a command in a sandbox.

    Attributes:
        stdin: whether the runtime can feed a command's stdin.
    """

    def __init__(self, run: Run) -> None:
        self.stdin = False
        self._run = run

    @hookimpl
    def openrt_read_file(self, handle: SandboxHandle, path: str, user: User) -> bytes:
        process = self._start(handle, scripts.READ, (path,), user, output=OutputMode.STREAM)
        assert process.stdout is not None
        assert process.stderr is not None
        chunks, size, complaint = [], 0, b""
        try:
            # Both at once: a command whose stderr nobody reads may stop, and a complaint may come
            # in pieces.
            for reader, chunk in read_both(process.stdout, process.stderr):
                if reader is process.stderr:
                    complaint = (complaint + chunk)[-scripts.COMPLAINT_BYTES :]
                    continue
                size += len(chunk)
                if size > READ_LIMIT:
                    raise file_error(errno.EFBIG, path)
                chunks.append(chunk)
            result = process.wait()
        except BaseException:
            process.kill()
            raise
        if not result.ok:
            _fail(result.exit_code, complaint, path)
        return b"".join(chunks)

    @hookimpl
    def openrt_write_file(
        self, handle: SandboxHandle, path: str, data: bytes, mode: int | None, user: User
    ) -> int:
        arguments = (path, secrets.token_hex(8), "" if mode is None else f"{mode:o}")
        if self.stdin:
            self._do(handle, scripts.WRITE, arguments, user, data=data)
        elif len(data) <= ARGUMENT_BYTES:
            self._do(handle, scripts.WRITE_ARGUMENT, (*arguments, octal(data)), user)
        else:
            self._write_in_parts(handle, arguments, data, user)
        return len(data)

    def _write_in_parts(
        self, handle: SandboxHandle, arguments: tuple[str, str, str], data: bytes, user: User
    ) -> None:
        self._do(handle, scripts.WRITE_BEGIN, arguments, user)
        try:
            for part in _parts(data):
                self._do(handle, scripts.WRITE_PART, (*arguments, octal(part)), user)
            self._do(handle, scripts.WRITE_END, arguments, user)
        except BaseException:
            # What went wrong before is what the user has to see.
            with contextlib.suppress(OpenrtError):
                self._do(handle, scripts.WRITE_UNDO, arguments, user)
            raise

    @hookimpl
    def openrt_list_files(self, handle: SandboxHandle, path: str, user: User) -> list[Entry]:
        result = self._do(handle, scripts.LIST, (path,), user)
        if result.truncated:
            raise file_error(errno.EFBIG, path, "The listing is too long")
        with _understood(path):
            return parse_listing(result.stdout)

    @hookimpl
    def openrt_stat_file(self, handle: SandboxHandle, path: str, follow: bool, user: User) -> Entry:
        result = self._do(handle, scripts.STAT_FOLLOWED if follow else scripts.STAT, (path,), user)
        with _understood(path):
            return parse_entry(path, result.stdout)

    @hookimpl
    def openrt_remove_file(
        self, handle: SandboxHandle, path: str, recursive: bool, user: User
    ) -> bool:
        if not path.strip("/"):
            raise file_error(errno.EPERM, path)
        self._do(handle, scripts.REMOVE, (path, "r" if recursive else ""), user)
        return True

    @hookimpl
    def openrt_rename_file(self, handle: SandboxHandle, path: str, to: str, user: User) -> bool:
        self._do(handle, scripts.RENAME, (path, to), user)
        return True

    @hookimpl
    def openrt_make_directory(
        self,
        handle: SandboxHandle,
        path: str,
        mode: int,
        parents: bool,
        exist_ok: bool,
        user: User,
    ) -> bool:
        flags = ("p" if parents else "", "e" if exist_ok else "")
        self._do(handle, scripts.MAKE_DIRECTORY, (path, f"{mode:o}", *flags), user)
        return True

    def _start(
        self,
        handle: SandboxHandle,
        script: str,
        arguments: tuple[str, ...],
        user: User,
        *,
        stdin: bool = False,
        output: OutputMode = OutputMode.CAPTURE,
        timeout: float | None = FILE_TIMEOUT,
    ) -> Process:
        argv: tuple[str, ...] = ("/bin/sh", "-c", script, "openrt", *arguments)
        env: dict[str, str] = {"LC_ALL": "C"}
        command = Command(
            argv=argv,
            env=env,
            cwd="/",
            user=user,
            stdin=stdin,
            timeout=timeout,
            output=output,
        )
        return self._run(handle, command)

    def _do(
        self,
        handle: SandboxHandle,
        script: str,
        arguments: tuple[str, ...],
        user: User,
        data: bytes | None = None,
        timeout: float | None = FILE_TIMEOUT,
    ) -> ExecResult:
        process = self._start(
            handle, script, arguments, user, stdin=data is not None, timeout=timeout
        )
        try:
            if data is not None:
                process.feed_input(data)
            result = process.wait()
        except BaseException:
            process.kill()
            raise
        if not result.ok:
            _fail(result.exit_code, result.stderr[-scripts.COMPLAINT_BYTES :], arguments[0])
        return result


def octal(data: bytes) -> str:
    """Bytes as the shell's printf takes them."""
    return "".join(f"\\{byte:03o}" for byte in data)


def _parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), ARGUMENT_BYTES):
        yield data[start : start + ARGUMENT_BYTES]


def reason(complaint: str) -> int | None:
    """The number of the module errno that a tool's complaint ends with."""
    text = complaint.rstrip().lower()
    return next((number for ending, number in _REASONS if text.endswith(ending)), None)


def _fail(status: int, complaint: bytes, path: str) -> NoReturn:
    text = complaint.decode("utf-8", "replace").rstrip()
    number = reason(text)
    if number is not None:
        raise file_error(number, path)
    if status == 127:
        raise file_error(errno.ENOSYS, path, "The image lacks a tool that file operations need")
    last = "".join(c if c.isprintable() else "?" for c in text[-200:])
    raise FileError(f"The file operation failed with status {status}: {last!r}", path=path)


class _understood:
    """Turns what the parsers stumble over into an error of the way to the sandbox."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, (ValueError, IndexError)):
            raise TransportError(
                f"The sandbox's answer about {self._path!r} cannot be read.", started="yes"
            ) from error
