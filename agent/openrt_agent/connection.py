"""One session over one endpoint, served by the I/O thread."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from openrt_agent import loop as loops
from openrt_agent.endpoint import Endpoint
from openrt_agent.messages import AgentError
from openrt_agent.session import (
    Ended,
    Event,
    Exited,
    Failed,
    Greeted,
    InputCredit,
    Operation,
    Output,
    Refused,
    Session,
    Started,
)
from openrt_agent.wire import Violation
from openrt_core import deadlines
from openrt_core.errors import OpenrtError, SandboxGoneError, TransportError
from openrt_core.errors import Started as Begun
from openrt_core.models import Exit
from openrt_core.waiting import Latch

log = logging.getLogger("openrt")

QUEUE: Final = 64 << 20
"""Bytes that may wait for an agent that takes none before new operations are refused."""
DESCRIBE: Final = 5.0
"""Seconds that ``describe`` has to say why a stream ended."""
_READ: Final = (65_536, 1 << 20)
_BATCH: Final = 262_144
_TURNS: Final = 4  # reads of one connection before others have their turn

Describe = Callable[[], "SandboxGoneError | TransportError | None"]


class Handler(Protocol):
    """Gets the events of one operation, in the I/O thread. Must not block."""

    def on_started(self, pid: int) -> None: ...
    def on_output(self, stream: int, data: bytes) -> None: ...
    def on_input_credit(self, amount: int) -> None: ...
    def on_exited(self, exit: Exit) -> None: ...
    def on_failed(self, error: AgentError) -> None: ...
    def on_ended(self, result: dict[str, object]) -> None: ...
    def on_lost(self, error: OpenrtError) -> None: ...


class _Item:
    """A frame that waits to be sent. ``sent`` holds how many bytes each write took."""

    __slots__ = ("frame", "operation", "sent")

    def __init__(self, frame: bytes, operation: Operation[Handler] | None) -> None:
        self.frame = frame
        self.operation = operation
        self.sent: list[int] = []

    def left(self) -> int:
        return len(self.frame) - sum(self.sent)


class Connection:
    """Sends frames from any thread, and hands what comes to the handlers in the I/O thread.

    A KeyboardInterrupt may strike a caller between any two steps. So the bytes that a write took are recorded by the very call
    that writes (``list.extend`` over ``map``), and everything that takes more than one step is done in the I/O thread.
    """

    def __init__(self, endpoint: Endpoint, session: Session, describe: Describe | None) -> None:
        self.read_fd = endpoint.read_fd
        self.write_fd = endpoint.write_fd
        self.session = session
        self.error: OpenrtError | None = None
        self.closed = False
        self.settled = Latch()  # either greeted or closed
        self.over = Latch()  # closed, and every operation was told
        self._endpoint = endpoint
        self._describe = describe
        self._loop = loops.current()
        self._direct = (endpoint.write_fd,) if getattr(endpoint, "raw_write", False) else None
        self._lock = threading.Lock()
        self._owner = 0  # the thread that holds the lock
        self._out: deque[_Item] = deque()
        self._waiting = 0  # bytes in _out
        self._unsent: frozenset[int] = frozenset()
        self._read_size = _READ[0]
        self._callbacks: list[Callable[[], None]] = []
        self._loop.call(self._begin)

    # For any thread ----------------------------------------------------------------------------

    def send(self, frame: bytes, operation: Operation[Handler] | None = None) -> None:
        """Sends a frame, at once when nothing waits before it. Neither blocks nor raises; dropped once closed."""
        me = threading.get_ident()
        if self._owner == me:
            # A signal handler or a finalizer that struck inside of this very method.
            self._loop.call(functools.partial(self.send, frame, operation))
            return
        item = _Item(frame, operation)
        with self._lock:
            if self.closed:
                return
            self._owner = me
            try:
                self._out.append(item)
                self._waiting += len(frame)
                if self._direct is not None and len(self._out) == 1:
                    self._write(item)
                left = bool(self._out)
            finally:
                self._owner = 0
        if left:
            self._loop.call(self._flush)

    def _write(self, item: _Item) -> None:
        assert self._direct is not None
        try:
            item.sent.extend(map(os.write, self._direct, (item.frame,)))
        except OSError:
            # No room, or a broken stream: the I/O thread meets it as well and deals with it.
            return
        self.session.sent(time.monotonic())
        if item.left() <= 0:
            self._out.popleft()
            self._waiting -= len(item.frame)

    def check(self) -> None:
        """Refuses a new operation on a connection that is closed, or whose agent takes nothing.

        Raises:
            TransportError, SandboxGoneError: nothing was sent.
        """
        if self.closed:
            raise self.reason("no")
        if self._waiting > QUEUE:
            raise TransportError(
                "The sandbox takes no more commands: it does not read what it is sent.",
                started="no",
                retryable=True,
            )

    def begin(self, operation: Operation[Handler], frame: bytes) -> None:
        """Sends the first frame of an operation.

        Raises:
            TransportError, SandboxGoneError: the connection was closed meanwhile.
        """
        self.send(frame, operation)
        if self.closed and self.session.forget(operation):
            raise self.reason(self._begun(operation))

    def reason(self, started: Begun) -> OpenrtError:
        """A fresh error that says why the connection is closed."""
        error = self.error
        if isinstance(error, SandboxGoneError):
            return SandboxGoneError(
                error.message, hint=error.hint, code=error.code, post_mortem=error.post_mortem
            )
        if error is None:
            return TransportError("The connection to the sandbox ended.", started=started)
        return TransportError(error.message, hint=error.hint, code=error.code, started=started)

    def close(self) -> None:
        """Closes the stream; returns when it is closed and every operation was told, after 10 s at most. Idempotent."""
        if self._loop.is_current():
            self._close_here()
        elif not self.over.is_set():
            self._loop.call(self._close_here)
            self.over.wait(10.0)

    def violate(self, error: Violation) -> None:
        """Gives the connection up for what came over it. From any thread."""
        self._loop.call(functools.partial(self._violated, error))

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Has ``callback()`` called in the I/O thread when the connection is over; at once when it is."""

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
        """Large reads only while there is much to read: a fresh buffer of 1 MiB for 60 bytes costs page faults."""
        least, most = _READ
        if size >= self._read_size:
            self._read_size = min(self._read_size * 4, most)
        elif size < self._read_size // 8:
            self._read_size = least

    def writable(self) -> None:
        """For the loop."""
        self._flush()

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
        # Another thread of the parent may have held the locks when it forked.
        self._lock, self._owner = threading.Lock(), 0
        self.session = Session(lease=self.session.lease, now=time.monotonic())
        self.error = TransportError(
            "The connection to the sandbox belongs to the process that this one was forked from.",
            hint="Connect to the sandbox by its id in the child.",
        )
        self.over.set()
        abandon = getattr(self._endpoint, "abandon", None)
        if abandon is not None:
            abandon()

    def _flush(self) -> None:
        if self.closed:
            return
        failure: Exception | None = None
        with self._lock:
            self._owner = threading.get_ident()
            try:
                while self._out and self._send_some():
                    pass
            except (OSError, TransportError) as error:
                failure = error
            finally:
                self._owner = 0
            left = bool(self._out)
        if failure is not None:
            self._lost(failure)
        else:
            self._loop.want_write(self, left)

    def _send_some(self) -> bool:
        """Sends the first frame, with those behind it when they are small. False when there was no room."""
        batch: list[_Item] = []
        size = 0
        for item in self._out:
            if batch and size + len(item.frame) > _BATCH:
                break
            batch.append(item)
            size += item.left()
        done = sum(batch[0].sent)
        frames = [item.frame for item in batch]
        data = memoryview(frames[0] if len(frames) == 1 else b"".join(frames))[done:]
        taken = self._endpoint.send(data) if data else 0
        if taken:
            self.session.sent(time.monotonic())
        whole = taken == len(data)
        for item in batch:
            part = min(item.left(), taken)
            taken -= part
            if item.left() > part:
                item.sent.append(part)
                break
            self._out.popleft()
            self._waiting -= len(item.frame)
        return whole

    def _dispatch(self, event: Event) -> None:
        match event:
            case Output():
                event.operation.handler.on_output(event.stream, event.data)
            case Started():
                event.operation.handler.on_started(event.pid)
            case Exited():
                event.operation.handler.on_exited(event.exit)
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
        """Closes the stream at once; with ``ask``, operations are told after ``describe`` was asked for a better error."""
        if self.closed:
            return
        self.closed = True
        with self._lock:  # whoever sends now is done with it before the descriptors are closed
            self._owner = threading.get_ident()
            self._unsent = frozenset(
                item.operation.id for item in self._out if item.operation is not None and item.left()
            )
            self._out.clear()
            self._owner = 0
        self._loop.remove(self)
        self._endpoint.close()
        if not ask or self._describe is None:
            self._finish(error)
            return
        finish = functools.partial(self._loop.call, functools.partial(self._finish, error))
        deadlines.after(DESCRIBE, finish)
        threading.Thread(
            target=self._ask, args=(self._describe, error), name="openrt-describe", daemon=True
        ).start()

    def _ask(self, describe: Describe, error: TransportError) -> None:
        """In a thread of its own: asking an engine takes time, and the engine may be what is broken."""
        better: SandboxGoneError | TransportError | None = None
        try:
            better = describe()
        except Exception:
            log.exception("asking for the end of a sandbox failed")
        self._loop.call(functools.partial(self._finish, better or error))

    def _finish(self, error: OpenrtError) -> None:
        if self.over.is_set():
            return
        self.error = error
        for operation in self.session.forget_all():
            operation.handler.on_lost(self.reason(self._begun(operation)))
        if not self.settled.is_set():
            self.settled.set()
        self.over.set()
        for callback in self._callbacks:
            self._call(callback)

    def _begun(self, operation: Operation[Handler]) -> Begun:
        if operation.started:
            return "yes"
        return "no" if operation.id in self._unsent else "unknown"

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("a callback at the end of a connection failed")
