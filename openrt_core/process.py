"""One running command: runtimes feed it, users read it, blocking or async."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final

from openrt_core import deadlines
from openrt_core.capture import Capture, CaptureBudget
from openrt_core.errors import (
    CommandTimedOutError,
    Started,
    TransportError,
    UnsupportedError,
)
from openrt_core.models import Command, ExecResult, Exit, OutputMode, TerminalSize
from openrt_core.streams import STREAM_WINDOW, InputWriter, OutputReader
from openrt_core.waiting import Latch, future_waker

log = logging.getLogger("openrt")

STDOUT: Final = 1
STDERR: Final = 2
UNLIMITED: Final = 1 << 40
"""Credit that never runs out: for output that is kept bounded or dropped here, never waited for."""
CLIENT_GRACE: Final = 10.0
"""Seconds that the client waits beyond a command's limit and grace before it calls the way to it
broken."""


class Controls:
    """What a runtime attaches to a process. No method blocks or raises; ``kill`` is the one that
    each runtime has.

    After the process is over they may still be called, and do nothing.
    """

    def kill(self) -> None:
        """Kills the command's whole tree. Idempotent."""
        raise NotImplementedError

    def signal(self, number: int, *, group: bool) -> None:
        """Sends a signal to the command, or to its process group."""
        raise UnsupportedError("This runtime cannot send signals to a command.")

    def write(self, data: bytes) -> None:
        """Sends bytes to its stdin, never more than the credit that ``Process.add_stdin_credit``
        was told."""

    def close_stdin(self) -> None:
        """End of file on its stdin."""

    def resize(self, size: TerminalSize) -> None:
        """Changes the size of its terminal."""
        raise UnsupportedError("This runtime has no terminals.")

    def credit(self, stream: int, amount: int) -> None:
        """The reader took so many bytes of STDOUT or STDERR. Runtimes without flow control leave
        it out."""


class Process:
    """A command that was started.

    It ends in exactly one way: with an ``Exit`` (``exited``) or with an error (``failed``). Users
        wait for it with
    ``wait()`` or ``await process``; neither needs a thread of its own.

    Attributes:
        command: what was asked for.
        pid: its process id inside the sandbox, None until it is known or when the runtime cannot
            say.
        background_id: of a background command: what ``Sandbox.attach`` takes, from any process.
        stdin: its stdin, when the command has ``stdin=True``.
        stdout, stderr: readers, with ``OutputMode.STREAM`` only, else None.
    """

    def __init__(self, command: Command, budget: CaptureBudget | None = None) -> None:
        self.command = command
        self.pid: int | None = None
        self.background_id: str | None = None
        self.stdin: InputWriter | None = (
            InputWriter(self._write, self._close_stdin) if command.stdin else None
        )
        self.stdout: OutputReader | None = None
        self.stderr: OutputReader | None = None
        self._captures: tuple[Capture, Capture] | None = None
        if command.output is OutputMode.STREAM:
            self.stdout = OutputReader(lambda n: self._credit(STDOUT, n))
            self.stderr = OutputReader(lambda n: self._credit(STDERR, n))
        elif command.output is OutputMode.CAPTURE:
            self._captures = (Capture(budget), Capture(budget))
        self._lock = threading.Lock()
        self._over = Latch()
        self._ending = False
        self._ender: int | None = None
        self._controls: Controls | None = None
        self._killed = False
        self._input_over = False
        self._started: Started = "unknown"
        self._result: ExecResult | None = None
        self._error: Exception | None = None
        self._callbacks: list[Callable[[Process], None]] = []
        self._began = time.monotonic()
        self._deadline: deadlines.Deadline | None = None

    # For users ------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> ExecResult:
        """The result, waiting for it.

        Args:
            timeout: seconds to wait here; the command goes on when they pass. None: until it ends.

        Raises:
            TimeoutError: it has not ended within ``timeout``.
            CommandTimedOutError: its own limit struck; carries what it printed.
            SandboxGoneError, TransportError: it was lost.
        """
        if not self.join(timeout):
            raise TimeoutError(f"the command has not ended within {timeout} s")
        return self.result()

    def __await__(self) -> Generator[Any, None, ExecResult]:
        if not self._over.is_set():
            import asyncio  # takes a while, which blocking callers need not wait

            future, wake = future_waker(asyncio.get_running_loop())

            def ended(_: Process) -> None:
                wake()

            self.add_done_callback(ended)
            try:
                yield from future
            finally:
                # Who awaits with a limit, again and again, must not leave a callback each time.
                self._discard(ended)
            # The callback runs just before the latch is set.
            self.join()
        return self.result()

    def result(self) -> ExecResult:
        """The result of a command that is over; raises as ``wait`` does, and RuntimeError while
        it runs."""
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError("the command has not ended yet")
        if self._result.timed_out:
            raise CommandTimedOutError(
                f"The command was killed at its time limit of {self.command.timeout:g} s."
                if self.command.timeout
                else "The command was killed at its time limit.",
                result=self._result,
            )
        return self._result

    def poll(self) -> int | None:
        """Its exit code, None while it runs; raises when it was lost."""
        if self._error is not None:
            raise self._error
        return None if self._result is None else self._result.exit_code

    @property
    def done(self) -> bool:
        """Whether it is over, in whatever way; then ``result`` does not wait."""
        return self._result is not None or self._error is not None

    def feed_input(self, data: bytes) -> None:
        """Has ``data`` and then the end of file sent to its stdin, as it takes them. Returns at
        once.

        A command that ends without reading all of it is no error. ``command.stdin`` must be set.
        """
        if self.stdin is None:
            raise ValueError("the command was started without stdin=True")
        with contextlib.suppress(BrokenPipeError):
            self.stdin.submit(data)
        self.stdin.close()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until it is over, at most ``timeout`` seconds; whether it is. Never raises its
        error."""
        # A callback that waits: it runs in the thread that would let it go on afterwards.
        return self._ender == threading.get_ident() or self._over.wait(timeout)

    def kill(self) -> None:
        """Kills its whole tree. Does not wait. Idempotent."""
        with self._lock:
            self._killed = True
            controls = self._controls
        if controls is not None and not self._ending:
            controls.kill()

    def signal(self, number: int, *, group: bool = False) -> None:
        """Sends a signal to it, or to its process group.

        Raises:
            UnsupportedError: this runtime cannot.
        """
        if self._controls is not None and not self._ending:
            self._controls.signal(number, group=group)

    def resize(self, size: TerminalSize) -> None:
        """Changes the size of its terminal.

        Raises:
            UnsupportedError: this runtime has no terminals.
        """
        if self._controls is not None and not self._ending:
            self._controls.resize(size)

    def add_done_callback(self, callback: Callable[[Process], None]) -> None:
        """Has ``callback(process)`` called when it is over, before ``wait`` returns; at once when
        it is.

        It runs in the thread that reads from the sandbox and must be short. What it raises is
        logged, SystemExit and the like as well.
        """
        with self._lock:
            if not self._ending:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def _discard(self, callback: Callable[[Process], None]) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._callbacks.remove(callback)

    # For runtimes ---------------------------------------------------------------------------------

    @property
    def window(self) -> int:
        """Bytes of each output stream that the runtime may send before it is given credit."""
        return STREAM_WINDOW if self.command.output is OutputMode.STREAM else UNLIMITED

    def attach(self, controls: Controls) -> None:
        """Attaches the controls, once. A kill and an end of input from before are made up for."""
        with self._lock:
            self._controls = controls
            killed, input_over = self._killed, self._input_over
        if input_over:
            controls.close_stdin()
        if killed:
            controls.kill()

    def started(self, pid: int | None = None) -> None:
        """It runs."""
        self.pid = pid
        self._started = "yes"

    def add_stdin_credit(self, amount: int) -> None:
        """The runtime can take so many bytes more for its stdin."""
        if self.stdin is not None:
            self.stdin.add_credit(amount)

    def feed(self, stream: int, data: bytes) -> None:
        """Output came, on STDOUT or STDERR. Dropped once it is over."""
        if self.stdout is not None and self.stderr is not None:
            (self.stdout if stream == STDOUT else self.stderr).feed(data)
        elif self._captures is not None:
            with self._lock:
                if not self._ending:
                    self._captures[0 if stream == STDOUT else 1].add(data)

    def lost(self, stream: int, amount: int) -> None:
        """So many bytes of STDOUT or STDERR are missing before what comes next."""
        if self.stdout is not None and self.stderr is not None:
            (self.stdout if stream == STDOUT else self.stderr).dropped += amount
        elif self._captures is not None:
            with self._lock:
                if not self._ending:
                    self._captures[0 if stream == STDOUT else 1].dropped += amount

    def exited(self, exit: Exit) -> None:
        """It ended. The first of ``exited`` and ``failed`` counts."""
        self._end(exit, None)

    def failed(self, error: Exception) -> None:
        """It was lost, or never started. The first of ``exited`` and ``failed`` counts."""
        self._end(None, error)

    def arm(self) -> None:
        """For the core: guards its time limit from this side too, should the sandbox's side not
        answer."""
        if self.command.timeout is not None:
            seconds = self.command.timeout + self.command.grace + CLIENT_GRACE
            self._deadline = deadlines.after(seconds, self._overdue)

    # ----------------------------------------------------------------------------------------------

    def _overdue(self) -> None:
        self.kill()
        self.failed(
            TransportError(
                f"The sandbox did not answer within {CLIENT_GRACE:g} s "
                "after the command's time limit.",
                started=self._started,
            )
        )

    def _end(self, exit: Exit | None, error: Exception | None) -> None:
        with self._lock:
            if self._ending:
                return
            self._ending = True
            if exit is not None:
                self._result = self._make_result(exit)
            self._error = error
            self._ender = threading.get_ident()
            captures, self._captures = self._captures, None
            callbacks, self._callbacks = self._callbacks, []
        for capture in captures or ():
            capture.close()
        if self._deadline is not None:
            self._deadline.cancel()
        for reader in (self.stdout, self.stderr):
            if reader is not None:
                reader.end(error)
        if self.stdin is not None:
            self.stdin.abandon()
        try:
            for callback in callbacks:
                self._call(callback)
        finally:
            self._over.set()
            self._ender = None

    def _make_result(self, exit: Exit) -> ExecResult:
        out, err = self._captures or (Capture(), Capture())
        return ExecResult(
            exit_code=exit.code if exit.code is not None else 128 + (exit.signal or 0),
            signal=exit.signal,
            stdout=out.value(),
            stderr=err.value(),
            stdout_dropped=out.dropped,
            stderr_dropped=err.dropped,
            timed_out=exit.timed_out,
            duration=time.monotonic() - self._began if exit.duration is None else exit.duration,
            usage=exit.usage,
        )

    def _call(self, callback: Callable[[Process], None]) -> None:
        try:
            callback(self)
        except BaseException as error:
            # Raised, it would end the thread that serves every sandbox; only a Ctrl-C in the main
            # thread is meant for somebody else.
            log.exception("a callback at the end of a command failed")
            in_main = threading.current_thread() is threading.main_thread()
            if in_main and isinstance(error, KeyboardInterrupt):
                raise

    def _write(self, data: bytes) -> None:
        if self._controls is not None:
            self._controls.write(data)

    def _close_stdin(self) -> None:
        with self._lock:
            self._input_over = True
            controls = self._controls
        if controls is not None:
            controls.close_stdin()

    def _credit(self, stream: int, amount: int) -> None:
        if self._controls is not None and not self._ending:
            self._controls.credit(stream, amount)
