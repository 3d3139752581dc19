"""A running command, joined to the streams of this process."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from typing import Final

from openrt_core.cli import console
from openrt_core.cli.main import FAILED
from openrt_core.cli.terminal import Terminal, in_foreground
from openrt_core.errors import CommandTimedOutError, OpenrtError
from openrt_core.process import Process
from openrt_core.streams import InputWriter, OutputReader

TIMED_OUT: Final = 124
CHUNK: Final = 64 * 1024
BACKGROUND: Final = 0.2
"""Seconds from one look whether we are in the foreground to the next."""


def join(process: Process, terminal: Terminal | None = None) -> int:
    """Carries bytes until the command is over and all of its output is written; the exit code.

    Args:
        process: with readers; with a writer when it gets our stdin.
        terminal: ours, when the command has one.
    """
    feeder = None
    try:
        if terminal is not None:
            terminal.enter()
        if process.stdin is not None:
            feeder = _Feeder(process, process.stdin, lent=terminal is not None)
        code, told = _carry(process, terminal)
    except BaseException:
        process.kill()
        raise
    finally:
        if terminal is not None:
            terminal.leave()
    if feeder is not None and feeder.error is not None:
        console.say(f"The input cannot be read: {feeder.error}")
    if told:
        console.say(told)
    return code


def _carry(process: Process, terminal: Terminal | None) -> tuple[int, str]:
    """The exit code, and what is to be said about it."""
    assert process.stdout is not None
    assert process.stderr is not None
    pumps = [_Pump(process, process.stdout, 1), _Pump(process, process.stderr, 2)]
    code, note, lost = 0, "", None
    try:
        if terminal is not None:
            terminal.follow(process, process.command.tty or terminal.size)
        code = process.wait().exit_code
    except CommandTimedOutError as error:
        code, note = TIMED_OUT, str(error)
    except OpenrtError as error:
        lost = error
    for pump in pumps:
        pump.join()
    if lost is not None:
        raise lost
    for pump in pumps:
        if pump.error is not None:
            return _unwritten(pump.error)
    return code, note


def _unwritten(error: OSError) -> tuple[int, str]:
    if isinstance(error, BrokenPipeError):
        # `openrt run … | head`: nobody reads any more, which is no error of anybody.
        return 128 + signal.SIGPIPE, ""
    return FAILED, f"The output cannot be written: {error}"


class _Feeder(threading.Thread):
    """Gives the command our stdin. It takes nothing more once the command is over: what is typed
    from then on is for whoever comes next.
    """

    def __init__(self, process: Process, stdin: InputWriter, *, lent: bool) -> None:
        super().__init__(daemon=True)
        self.error: OSError | None = None
        self._stdin = stdin
        self._lent = lent
        # One end is closed when the command is over, which the other end shows.
        self._over, self._running = os.pipe()
        self.start()
        process.add_done_callback(lambda _: os.close(self._running))

    def run(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it ended, or closed its stdin
            while data := self._read():
                self._stdin.write(data)
            self._stdin.close()

    def _read(self) -> bytes:
        """What came; nothing at the end, whosever it is."""
        try:
            while True:
                ready, _, _ = select.select([0, self._over], [], [])
                if self._over in ready:
                    return b""
                if not self._lent or in_foreground():
                    return os.read(0, CHUNK)
                # What is typed now is for whoever is there. To read it would stop us, also when
                # we are about to end.
                select.select([self._over], [], [], BACKGROUND)
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal was hung up
                self.error = error
            return b""


class _Pump(threading.Thread):
    """Writes one stream of a command to one of our descriptors. When that fails, the command is
    killed.
    """

    def __init__(self, process: Process, reader: OutputReader, fd: int) -> None:
        super().__init__(daemon=True)
        self.error: OSError | None = None
        self._process = process
        self._reader = reader
        self._fd = fd
        self.start()

    def run(self) -> None:
        # the loss of the command is raised by its wait(), too
        with contextlib.suppress(OpenrtError):
            for data in self._reader:
                if self.error is None:
                    self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            _write(self._fd, data)
        except OSError as error:
            # What still comes is read and dropped: its end is told only behind its output.
            self.error = error
            self._process.kill()


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # whoever gave us this descriptor made it non-blocking
            select.select([], [fd], [])
