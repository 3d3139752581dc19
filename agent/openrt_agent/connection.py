"""One session over one endpoint, served by the I/O thread."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from openrt_agent import loop as loops
from openrt_agent.endpoint import Endpoint
from openrt_agent.operations import (
    Ended,
    Event,
    Exited,
    Failed,
    Gap,
    Greeted,
    InputCredit,
    Operation,
    Output,
    Refused,
    Started,
)
from openrt_agent.outbox import Outbox
from openrt_agent.session import Session
from openrt_agent.wire import Violation
from openrt_core import deadlines
from openrt_core.errors import OpenrtError, SandboxGoneError, TransportError
from openrt_core.errors import Started as Begun
from openrt_core.waiting import Latch

log = logging.getLogger("openrt")

QUEUE: Final = 64 << 20
"""Bytes that may wait for an agent that takes none before new operations are refused."""
DESCRIBE: Final = 5.0
"""Seconds that ``describe`` has to say why a stream ended."""
_READ: Final = (65_536, 1 << 20)
_TURNS: Final = 4  # reads of one connection before others have their turn

Describe = Callable[[], "SandboxGoneError | TransportError | None"]


class Connection:
    """Sends frames from any thread, and hands what comes to the handlers in the I/O thread.

    Attributes:
        session: its state.
        closed: whether the stream is closed, or about to be.
        settled: set when the agent's HELLO came, and when it never will.
        over: set when the stream is closed and every operation was told.
    """

    def __init__(self, endpoint: Endpoint, session: Session, describe: Describe | None) -> None:
        self.read_fd = endpoint.read_fd
        self.write_fd = endpoint.write_fd
        self.session = session
        self.closed = False
        self.settled = Latch()
        self.over = Latch()
        self._error: OpenrtError | None = None
        self._endpoint = endpoint
        self._describe = describe
        self._loop = loops.current()
        raw = getattr(endpoint, "raw_write", False)
        self._outbox = Outbox(endpoint.write_fd if raw else None)
        self._unsent: frozenset[int] = frozenset()
        self._read_size = _READ[0]
        self._callbacks: list[Callable[[], None]] = []
        self._loop.call(self._begin)

    # For any thread ----------------------------------------------------------------------------

    def send(self, frame: bytes, operation: Operation | None = None) -> None:
        """Sends a frame, at once when nothing waits; never blocks. Dropped once closed."""
        if self._outbox.is_mine():
            self._loop.call(functools.partial(self.send, frame, operation))
        elif self._outbox.put(frame, operation):
            self._loop.call(self.writable)
        else:
            self.session.sent(time.monotonic())

    def check(self) -> None:
        """Refuses a new operation on a connection that is closed, or whose agent takes nothing.

        Raises:
            TransportError, SandboxGoneError: nothing was sent.
        """
        if self.closed:
            raise self.reason("no")
        if self._outbox.waiting > QUEUE:
            raise TransportError(
                "The sandbox takes no more commands: it does not read what it is sent.",
                started="no",
                retryable=True,
            )

    def begin(self, operation: Operation, frame: bytes) -> None:
        """Sends the first frame of an operation.

        Raises:
            TransportError, SandboxGoneError: the connection was closed meanwhile.
        """
        self.send(frame, operation)
        if self.closed and self.session.forget(operation):
            raise self.reason(self._begun(operation))

    def reason(self, started: Begun) -> OpenrtError:
        """A fresh error that says why the connection is closed."""
        error = self._error
        if isinstance(error, SandboxGoneError):
            return SandboxGoneError(
                error.message, hint=error.hint, code=error.code, post_mortem=error.post_mortem
            )
        if error is None:
            return TransportError("The connection to the sandbox ended.", started=started)
        return TransportError(error.message, hint=error.hint, code=error.code, started=started)

    def close(self) -> None:
        """Closes the stream, and waits until that is done, 10 s at most. Idempotent."""
        if self._loop.is_current():
            self._close_here()
        elif not self.over.is_set():
            self._loop.call(self._close_here)
            self.over.wait(10.0)

    def violate(self, error: Violation) -> None:
        """Gives the connection up for what came over it. From any thread."""
        self._loop.call(functools.partial(self._violated, error))

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Has ``callback()`` called in the I/O thread when it is over; soon when it is already."""

        def add() -> None:
            if self.over.is_set():
                self._call(callback)
            else:
                self._callbacks.append(callback)

        self._loop.call(add)

    # In the I/O thread -------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self.closed:
            try:
                self._loop.add(self)
            except OSError as error:
                self._lost(error)

    def readable(self) -> bool:
        """For the loop."""
        for _ in range(_TURNS):
            try:
                data = self._endpoint.receive(self._read_size)
            except (OSError, TransportError) as error:
                self._lost(error)
                return False
            if data is None:
                return False
            if not data:
                self._lost(None)
                return False
            self._fit(len(data))
            try:
                for event in self.session.receive(data):
                    self._dispatch(event)
                    if self.closed:
                        return False
            except Violation as error:
                self._violated(error)
                return False
            credit = self.session.connection_credit()
            if credit is not None:
                self.send(credit)
        return True

    def _fit(self, size: int) -> None:
        """Large reads only while there is much to read: a fresh buffer costs page faults."""
        least, most = _READ
        if size >= self._read_size:
            self._read_size = min(self._read_size * 4, most)
        elif size < self._read_size // 8:
            self._read_size = least

    def writable(self) -> None:
        """For the loop."""
        if self.closed:
            return
        try:
            moved, left = self._outbox.drain(self._endpoint.send)
        except (OSError, TransportError) as error:
            self._lost(error)
            return
        if moved:
            self.session.sent(time.monotonic())
        self._loop.want_write(self, left)

    def tick(self, now: float) -> float:
        """For the loop."""
        if self.session.is_silent(now):
            self._fail(
                TransportError(
                    f"The sandbox has not answered for {self.session.lease:g} s.",
                    hint="Is its machine still there, and not paused?",
                ),
                ask=True,
            )
        elif (ping := self.session.tick(now)) is not None:
            self.send(ping)
        return self.session.due()

    def broken(self, error: Exception) -> None:
        """For the loop."""
        self._fail(TransportError(f"A fault of openrt itself broke the connection: {error!r}"))

    def orphaned(self) -> None:
        """For the loop."""
        self.closed = True
        # New ones, for another thread of the parent may have held their locks when it forked.
        self._outbox = Outbox(None)
        self._outbox.closed = True
        self.session = Session(lease=self.session.lease, now=time.monotonic())
        self._error = TransportError(
            "The connection to the sandbox belongs to the process that this one was forked from.",
            hint="Connect to the sandbox by its id in the child.",
        )
        self.over.set()
        abandon = getattr(self._endpoint, "abandon", None)
        if abandon is not None:
            abandon()

    def _dispatch(self, event: Event) -> None:
        match event:
            case Output():
                event.operation.handler.on_output(event.stream, event.data)
            case Started():
                event.operation.handler.on_started(event.pid)
            case Exited():
                event.operation.handler.on_exited(event.exit)
            case Gap():
                event.operation.handler.on_gap(event.stream, event.amount)
            case InputCredit():
                event.operation.handler.on_input_credit(event.amount)
            case Failed():
                event.operation.handler.on_failed(event.error)
            case Ended():
                event.operation.handler.on_ended(event.result)
            case Greeted():
                self.settled.set()
            case Refused():
                message = f"The agent refused the connection: {event.error.message}"
                self._fail(TransportError(message, code=f"transport.{event.error.code}"))

    def _violated(self, error: Violation) -> None:
        self._fail(
            TransportError(
                f"What came from the sandbox is not the agent's protocol: {error}.",
                code="transport.protocol",
            )
        )

    def _lost(self, error: Exception | None) -> None:
        why = f": {error}" if error is not None else ""
        self._fail(TransportError(f"The connection to the sandbox broke{why}."), ask=True)

    def _close_here(self) -> None:
        self._fail(TransportError("The connection to the sandbox was closed here."))

    def _fail(self, error: TransportError, *, ask: bool = False) -> None:
        """Closes the stream at once. With ``ask``, ``describe`` may give a better error to tell."""
        if self.closed:
            return
        self._error = error
        self.closed = True
        # After this nobody writes to the descriptors any more.
        self._unsent = self._outbox.close()
        self._loop.remove(self)
        self._call(self._endpoint.close)
        if not ask or self._describe is None:
            self._finish(error)
            return
        finish = functools.partial(self._loop.call, functools.partial(self._finish, error))
        deadlines.after(DESCRIBE, finish)
        asking = threading.Thread(
            target=self._ask, args=(self._describe, error), name="openrt-describe", daemon=True
        )
        try:
            asking.start()
        except RuntimeError:  # no thread can be started: the plain error has to do
            self._finish(error)

    def _ask(self, describe: Describe, error: TransportError) -> None:
        """In a thread of its own: the engine that is asked may be what is broken."""
        better: SandboxGoneError | TransportError | None = None
        try:
            better = describe()
        except Exception:
            log.exception("asking for the end of a sandbox failed")
        self._loop.call(functools.partial(self._finish, better or error))

    def _finish(self, error: OpenrtError) -> None:
        if self.over.is_set():
            return
        self._error = error
        for operation in self.session.forget_all():
            operation.handler.on_lost(self.reason(self._begun(operation)))
        if not self.settled.is_set():
            self.settled.set()
        self.over.set()
        for callback in self._callbacks:
            self._call(callback)

    def _begun(self, operation: Operation) -> Begun:
        if operation.started:
            return "yes"
        return "no" if operation.id in self._unsent else "unknown"

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("a step at the end of a connection to a sandbox failed")
