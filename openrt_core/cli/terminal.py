"""Our own terminal, lent to a command: raw, with its size and its signals passed on."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
import time
from types import FrameType
from typing import Any, Final

from openrt_core.cli import console
from openrt_core.errors import SettingError, UnsupportedError
from openrt_core.models import TerminalSize
from openrt_core.process import Process

END_OF_A_JOB: Final = 0.5
"""Seconds between two signals of a shell, at most."""

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6
_INPUT: Final = (
    termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.INPCK | termios.ISTRIP
    | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
)  # fmt: skip
_LOCAL: Final = termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN


class Terminal:
    """The terminal that is our stdin.

    With ``raw`` its keys belong to the command between ``enter`` and ``leave``: Ctrl-C and Ctrl-Z
    are bytes, and echo is the command's business. When we are stopped from outside it is given
    back first, and taken again when we go on; in the background we are stopped again.

    Args:
        raw: whether the command gets what is typed.

    Raises:
        SettingError: our stdin is no terminal.
    """

    def __init__(self, *, raw: bool) -> None:
        if not os.isatty(0):
            raise SettingError(
                "-t needs a terminal, and the stdin of openrt is none.",
                hint="Leave -t out: -i alone passes on what comes on stdin.",
            )
        self._raw = raw
        self._before: list[Any] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        # Never closed: the process ends soon, and a signal or the command's end may use it late.
        self._woken, self._wake_up = os.pipe()
        os.set_blocking(self._wake_up, False)

    @property
    def size(self) -> TerminalSize:
        """Its size now; that of a VT100 for what it does not know."""
        try:
            columns, rows = os.get_terminal_size(0)
        except OSError:  # it was hung up
            columns, rows = 0, 0
        default = TerminalSize()
        return TerminalSize(rows or default.rows, columns or default.columns)

    def enter(self) -> None:
        """Lends it. ``leave`` must follow, whatever happens, also in here."""
        if threading.current_thread() is threading.main_thread():
            self._handle(signal.SIGWINCH, lambda *_: self._wake())
            if self._raw:
                self._handle(signal.SIGTSTP, self._stop)
                self._handle(signal.SIGCONT, lambda *_: self._wake())
        self._set_raw()

    def leave(self) -> None:
        """Takes it back, as it was. Idempotent."""
        self._set_back()
        self._before = None
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def follow(self, process: Process, size: TerminalSize) -> None:
        """Waits until the process is over, and tells it each change of the size. After a stop the
        terminal is taken again.

        Args:
            process: has a terminal.
            size: which it was started with.
        """
        process.add_done_callback(lambda _: self._wake())
        while not process.done:
            self._set_raw()
            now = self.size
            if now != size:
                size = now
                with contextlib.suppress(UnsupportedError):  # then it keeps the size it has
                    process.resize(size)
            os.read(self._woken, 512)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: somebody woke it already
            os.write(self._wake_up, b"\0")

    def _handle(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._handlers[number] = signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._set_back()
        mine = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # To this thread, so that it does not run on until the stop has reached it.
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, mine)
        self._wake()

    def _set_raw(self) -> None:
        if not self._raw:
            return
        if not in_foreground():
            # What a shell sends to end a stopped job comes as SIGCONT and SIGTERM: the second
            # must find us running.
            time.sleep(END_OF_A_JOB)
        if not in_foreground():
            # Stops us until somebody wants us there, as it does all who set a terminal that is
            # not theirs now.
            signal.raise_signal(signal.SIGTTOU)
        if not in_foreground():
            return
        # A terminal that was hung up cannot be set and need not be.
        with contextlib.suppress(termios.error):
            now = termios.tcgetattr(0)
            if _raw(now) != now:  # else it is raw already, and what was before is known
                self._before = now
                _set(_raw(now))
            console.line_end = "\r\n"

    def _set_back(self) -> None:
        if self._before is not None and in_foreground():
            with contextlib.suppress(termios.error):
                _set(self._before)
        console.line_end = "\n"


def in_foreground() -> bool:
    """Whether the terminal is ours to set: in the background it is somebody else's, and setting
    it would stop us.
    """
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # it is not the terminal of our session, which then has no jobs on it
        return True


def _set(attributes: list[Any]) -> None:
    # At once, without waiting for output that nobody may read, and without dropping what was
    # typed ahead.
    termios.tcsetattr(0, termios.TCSANOW, attributes)


def _raw(before: list[Any]) -> list[Any]:
    """As cfmakeraw(3): each byte as it is, both ways. tty.setraw translates some, before 3.12."""
    attributes = [*before[:_CC], list(before[_CC])]
    attributes[_IFLAG] &= ~_INPUT
    attributes[_OFLAG] &= ~termios.OPOST
    attributes[_CFLAG] = attributes[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    attributes[_LFLAG] &= ~_LOCAL
    attributes[_CC][termios.VMIN], attributes[_CC][termios.VTIME] = 1, 0
    return attributes
