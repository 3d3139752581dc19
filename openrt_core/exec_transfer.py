"""Upload and download over exec alone, as streams through a command's stdin and stdout.

A single file takes a shell, cat, stat and touch; a folder takes tar, GNU's or busybox's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import Final

from openrt_core import transfer_scripts as scripts
from openrt_core.errors import FileError, OpenrtError, TransportError, UnsupportedError, file_error
from openrt_core.events import Progress
from openrt_core.exec_files import ARGUMENT_BYTES, ExecFiles, User, octal
from openrt_core.local_files import LocalFile, make_folder, mtime_of
from openrt_core.models import OutputMode, SandboxHandle
from openrt_core.plugin import hookimpl
from openrt_core.running import Running
from openrt_core.tar_extract import extract
from openrt_core.tar_reader import CHUNK, Source, TarReader

END_WAIT: Final = 5.0
"""Seconds that an interrupted transfer waits for the command that it killed."""
CLEAN_TIMEOUT: Final = 15.0
"""Seconds for removing what an interrupted upload left."""
HEAD_BYTES: Final = 100
_HEAD: Final = re.compile(rb"([0-7]{1,5}) ([0-9]{1,19}) (-?[0-9]{1,12})")


class ExecTransfer(ExecFiles):
    """All file hooks of a runtime that has none."""

    @hookimpl
    def openrt_upload(
        self, handle: SandboxHandle, source: str, path: str, user: User, progress: Progress
    ) -> int:
        info = os.stat(source)
        if stat.S_ISDIR(info.st_mode):
            return self._upload_folder(handle, source, info, path, user, progress)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "neither a file nor a folder", source)
        with open(source, "rb", buffering=0) as file:
            info = os.fstat(file.fileno())
            pieces = _exactly(file.read, info.st_size, source)
            self._upload_file(
                handle, pieces, info, (path, os.path.basename(source)), user, progress
            )
        return info.st_size

    def _upload_file(
        self,
        handle: SandboxHandle,
        pieces: Iterator[bytes],
        info: os.stat_result,
        names: tuple[str, str],
        user: User,
        progress: Progress,
    ) -> None:
        path, name = names
        mode, size = f"{info.st_mode & 0o777:o}", str(info.st_size)
        arguments = (path, secrets.token_hex(8), mode, name, size, str(mtime_of(info)))
        try:
            if self.stdin:
                self._stream(handle, pieces, arguments, user, progress)
            else:
                self._send_in_parts(handle, pieces, arguments, user, progress)
        except BaseException:
            # What went wrong before is what the user has to see.
            with contextlib.suppress(OpenrtError):
                self._do(handle, scripts.UPLOAD_UNDO, arguments, user, timeout=CLEAN_TIMEOUT)
            raise

    def _stream(
        self,
        handle: SandboxHandle,
        pieces: Iterator[bytes],
        arguments: tuple[str, ...],
        user: User,
        progress: Progress,
    ) -> None:
        sent, size = 0, int(arguments[4])
        with self._running(handle, scripts.UPLOAD, arguments, user, stdin=True) as running:
            for piece in pieces:
                if not running.send(piece):
                    break
                sent += len(piece)
                progress(sent, size)
            running.end(whole=sent == size)

    def _send_in_parts(
        self,
        handle: SandboxHandle,
        pieces: Iterator[bytes],
        arguments: tuple[str, ...],
        user: User,
        progress: Progress,
    ) -> None:
        sent, size = 0, int(arguments[4])
        self._do(handle, scripts.UPLOAD_BEGIN, arguments, user)
        for piece in pieces:
            for at in range(0, len(piece), ARGUMENT_BYTES):
                part = octal(piece[at : at + ARGUMENT_BYTES])
                self._do(handle, scripts.UPLOAD_PART, (*arguments, part), user)
            sent += len(piece)
            progress(sent, size)
        self._do(handle, scripts.UPLOAD_END, arguments, user)

    def _upload_folder(
        self,
        handle: SandboxHandle,
        source: str,
        info: os.stat_result,
        path: str,
        user: User,
        progress: Progress,
    ) -> int:
        if not self.stdin:
            raise UnsupportedError(
                "This runtime cannot feed a command's stdin, which the upload of a folder needs.",
                hint="Upload its files one by one.",
            )
        # tarfile brings all compressions with it: it is imported when it is used.
        from openrt_core.tar_writer import END, TarWriter

        script = f".openrt-{secrets.token_hex(8)}"
        writer = TarWriter(source, script)
        arguments = (path, f"{info.st_mode & 0o777:o}", str(mtime_of(info)), script)
        with self._running(handle, scripts.UNPACK, arguments, user, stdin=True) as running:
            whole = True
            for piece in writer:
                whole = running.send(piece)
                if not whole:
                    break
                progress(writer.done, None)
            if whole:
                # tar may be gone before the last of it: it needs no more than its first blocks.
                running.send(END)
            running.end(whole=whole)
        if writer.changed is not None:
            raise OSError(errno.EIO, "changed its size while it was read", writer.changed)
        return writer.done

    @hookimpl
    def openrt_download(
        self,
        handle: SandboxHandle,
        path: str,
        target: str,
        user: User,
        limit: int,
        progress: Progress,
    ) -> int:
        with self._running(handle, scripts.DOWNLOAD, (path,), user) as running:
            source = Source(running.receive)
            head = _line(source)
            if head is None and running.at_end:
                running.end(whole=False)
            elif head == b"":
                return _download_folder(running, source, path, target, limit, progress)
            elif head is not None and (match := _HEAD.fullmatch(head)) is not None:
                mode, size, mtime = int(match[1], 8) & 0o777, int(match[2]), int(match[3])
                with LocalFile(target, path) as file:
                    done = _copy(source, file, path, size, limit, progress)
                    running.end(whole=True)
                    file.finish(mode, mtime)
                return done
            raise TransportError(
                f"The sandbox's answer about {path!r} cannot be read.", started="yes"
            )

    @contextlib.contextmanager
    def _running(
        self,
        handle: SandboxHandle,
        script: str,
        arguments: tuple[str, ...],
        user: User,
        *,
        stdin: bool = False,
    ) -> Iterator[Running]:
        """A command that is killed when the block ends with an error."""
        output = OutputMode.CAPTURE if stdin else OutputMode.STREAM
        process = self._start(
            handle, script, arguments, user, stdin=stdin, output=output, timeout=None
        )
        try:
            running = Running(process, arguments[0])
            watch = running.watch()
            try:
                yield running
            finally:
                watch.stop()
        except BaseException:
            process.kill()
            process.join(END_WAIT)
            raise


def _download_folder(
    running: Running, source: Source, path: str, target: str, limit: int, progress: Progress
) -> int:
    made = make_folder(target)
    reader = TarReader(source, path, limit)
    try:
        done = extract(reader, target, progress, made=made)
    except FileError as error:
        if error.code == "file.archive" and running.at_end:
            # What tar complained of explains more than what it sent.
            running.end(whole=True)
        raise
    running.end(whole=True)
    return done


def _copy(
    source: Source, file: LocalFile, path: str, size: int, limit: int, progress: Progress
) -> int:
    done = 0
    while piece := source.some(CHUNK):
        done += len(piece)
        if done > limit:
            raise file_error(errno.EFBIG, path)
        file.write(piece)
        # Files in /proc say that they are empty.
        progress(done, size if done <= size else None)
    return done


def _line(source: Source) -> bytes | None:
    """The first line without its end; None when there is none, or a long one."""
    line = b""
    while len(line) < HEAD_BYTES and (byte := source.exactly(1)):
        if byte == b"\n":
            return line
        line += byte
    return None


def _exactly(read: Callable[[int], bytes | None], size: int, path: str) -> Iterator[bytes]:
    """The content of a local file, which must be as long as it says."""
    left = size
    while left and (piece := read(min(left, CHUNK))):
        left -= len(piece)
        yield piece
    if left or read(1):
        raise OSError(errno.EIO, "changed its size while it was read", path)
