"""The command of a transfer: fed or read in pieces, watched for a standstill."""

from __future__ import annotations

import _thread
import errno
import logging
import os
from collections.abc import Callable
from typing import Final

from openrt_core import deadlines
from openrt_core.errors import FileError, TransportError, file_error
from openrt_core.exec_files import reason
from openrt_core.exec_scripts import COMPLAINT_BYTES
from openrt_core.process import Process
from openrt_core.waiting import Latch

log = logging.getLogger("openrt")

STALL: Final = 300.0
"""Seconds without a byte after which a transfer is given up, within twice that."""
_NO_TAR: Final = "openrt: no tar"


class Running:
    """One command that was started for a transfer.

    Args:
        process: it, with stdin, or with output as a stream.
        path: what it is about in the sandbox, for errors.

    Attributes:
        at_end: whether all of its output was read.
    """

    def __init__(self, process: Process, path: str) -> None:
        self.at_end = False
        self._process = process
        self._path = path
        self._moved = 0
        self._stalled: TransportError | None = None
        self._complaint = bytearray()
        self._complained = Latch()
        if process.stderr is None:
            self._complained.set()
        else:
            # A command that complains a lot must not wait for us while we wait for its output.
            _thread.start_new_thread(self._listen, ())

    def send(self, data: bytes) -> bool:
        """Writes to its stdin; False when it takes no more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            return False
        self._moved += len(data)
        return True

    def receive(self, size: int) -> bytes:
        """Some of its output; none at the end."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        self._moved += len(data)
        self.at_end = not data
        return data

    def end(self, *, whole: bool) -> None:
        """Waits for its end.

        Args:
            whole: whether it was given, or gave, all that belongs to it.

        Raises:
            FileError: or one of its kinds: it failed, or ended too early.
            TransportError, SandboxGoneError: it was lost, or stood still.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        result = self._process.wait()
        if self._stalled is not None:
            raise self._stalled
        self._complained.wait()
        complaint = bytes(self._complaint) or result.stderr[:COMPLAINT_BYTES]
        if not result.ok:
            raise self._failure(result.exit_code, complaint.decode("utf-8", "replace"))
        if not whole:
            raise file_error(errno.EIO, self._path, "The command in the sandbox ended too early")

    def watch(self) -> Watch:
        """Gives the command up when nothing moves, until the watch is stopped."""
        return Watch(lambda: self._moved, self._give_up)

    def _give_up(self) -> None:
        self._stalled = TransportError(
            f"The transfer of {self._path!r} stood still for {STALL:g} s.", started="yes"
        )
        self._process.kill()
        # The sandbox may not answer to that either.
        self._process.failed(self._stalled)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        try:
            for chunk in self._process.stderr:
                self._complaint += chunk[: COMPLAINT_BYTES - len(self._complaint)]
        except Exception:
            # What loses a command is raised by its wait() as well.
            log.debug("the command of a transfer was lost", exc_info=True)
        finally:
            self._complained.set()

    def _failure(self, status: int, complaint: str) -> FileError:
        lines = complaint.splitlines()
        if status == 127:
            if _NO_TAR in lines:
                return FileError(
                    f"The image has no tar, which folders need: {self._path!r}",
                    path=self._path,
                    number=errno.ENOSYS,
                    hint="Use an image with tar, GNU's or busybox's, or copy its files one by one.",
                )
            what = "The image lacks a tool that file operations need"
            return file_error(errno.ENOSYS, self._path, what)
        # tar goes on after an error and has its say at the end, too.
        for line in lines:
            number = reason(line)
            if number is not None:
                return file_error(number, self._path, f"{os.strerror(number)} ({_shown(line)})")
        last = _shown(lines[-1]) if lines else ""
        return FileError(
            f"The transfer of {self._path!r} failed with status {status}: {last}", path=self._path
        )


class Watch:
    """Calls ``stalled`` when a count has not changed for STALL seconds."""

    def __init__(self, count: Callable[[], int], stalled: Callable[[], object]) -> None:
        self._count = count
        self._stalled = stalled
        self._seen = -1
        self._stopped = False
        self._deadline = deadlines.after(STALL, self._look)

    def _look(self) -> None:
        if self._stopped:
            return
        now = self._count()
        if now == self._seen:
            self._stalled()
        else:
            self._seen = now
            self._deadline = deadlines.after(STALL, self._look)

    def stop(self) -> None:
        """No more calls."""
        self._stopped = True
        self._deadline.cancel()


def _shown(line: str) -> str:
    """A line from the sandbox, short and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in line[-200:])
