"""One connection to an agent as a state machine: no sockets, no threads, no clock.

Bytes go in and events come out; what is to be sent is handed back as whole frames. ``receive``, ``forget_all`` and the
times belong to one thread (the I/O loop's); the other methods may be called from any.
"""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from openrt_agent import messages, wire
from openrt_agent.messages import AgentError, Hello
from openrt_agent.wire import Frame, Piece, Violation
from openrt_core.models import Exit

H = TypeVar("H")
Kind = Literal["command", "file"]
STREAMS: Final = (1, 2)
GIVE_BACK: Final = 131_072
"""Connection credit is given back in steps of at least so many bytes: a frame for each piece would cost more."""


class Operation(Generic[H]):
    """One command or file operation.

    Attributes:
        id: its number on the connection.
        kind: which of the two.
        handler: whoever gets its events; the session only carries it.
        started: whether STARTED was seen.
    """

    __slots__ = ("allowed", "fed", "given", "handler", "id", "kind", "owed", "started", "step")

    def __init__(self, id: int, kind: Kind, handler: H, window: tuple[int, int]) -> None:
        self.id = id
        self.kind: Kind = kind
        self.handler = handler
        self.started = False
        self.allowed = [0, *window]  # per stream: output bytes that the agent may still send
        self.owed = [0, 0, 0]  # per stream: taken by the reader, not yet told the agent
        self.step = max(min(w for w in window if w) // 4, 1) if any(window) else 1
        self.given = wire.INPUT_CREDIT
        self.fed = 0  # input bytes that were sent, out of those given


class Started(NamedTuple):
    """A command runs."""

    operation: Operation[Any]
    pid: int


class Output(NamedTuple):
    """Output of a command, or bytes of a file."""

    operation: Operation[Any]
    stream: int
    data: bytes


class InputCredit(NamedTuple):
    """So many bytes more may be sent."""

    operation: Operation[Any]
    amount: int


class Exited(NamedTuple):
    """A command ended. The operation is closed."""

    operation: Operation[Any]
    exit: Exit


class Failed(NamedTuple):
    """The agent could not do it. The operation is closed."""

    operation: Operation[Any]
    error: AgentError


class Ended(NamedTuple):
    """A file operation is done. The operation is closed."""

    operation: Operation[Any]
    result: dict[str, Any]


class Greeted(NamedTuple):
    """The agent's HELLO came."""

    hello: Hello


class Refused(NamedTuple):
    """FATAL: the agent ends the connection."""

    error: AgentError


Event = Started | Output | InputCredit | Exited | Failed | Ended | Greeted | Refused


class Session:
    """The client's side of one connection.

    Args:
        lease: seconds; the agent gives a client up that was silent for so long, and this side gives an agent up that did not
            answer a PING for so long.
        now: the time.
    """

    def __init__(self, *, lease: float, now: float) -> None:
        self.lease = lease
        self.hello: Hello | None = None
        self._decoder = wire.Decoder()
        self._operations: dict[int, Operation[Any]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()  # over the credit of all operations
        self._room = wire.CONNECTION_CREDIT
        self._taken = 0
        self._sent_at = now
        self._asked_at: float | None = None  # when the first PING went out that has no answer yet
        self._pings = 0  # sent
        self._pongs = 0  # received

    # For any thread ----------------------------------------------------------------------------

    def greeting(self, client: str) -> bytes:
        """The first frame to send."""
        value = {"protocol": wire.PROTOCOL, "client": client, "lease": self.lease}
        return wire.encode(wire.HELLO, 0, messages.to_json(value))

    def open(self, kind: Kind, handler: H, window: tuple[int, int]) -> Operation[H]:
        """A new operation; its START or FILE frame is to be sent next. ``window`` is its first credit."""
        id = next(self._ids)
        while id > 0xFFFF_FFFF or id in self._operations:
            if id > 0xFFFF_FFFF:
                self._ids = itertools.count(1)
            id = next(self._ids)
        operation = Operation(id, kind, handler, window)
        self._operations[id] = operation
        return operation

    def forget(self, operation: Operation[Any]) -> bool:
        """Closes an operation from this side; False when it was closed already. Of many callers one gets True."""
        return self._operations.pop(operation.id, None) is not None

    def is_open(self, operation: Operation[Any]) -> bool:
        """Whether its final frame has not come yet."""
        return operation.id in self._operations

    def __len__(self) -> int:
        return len(self._operations)

    def grant(self, operation: Operation[Any], stream: int, amount: int) -> bytes | None:
        """The reader took bytes. The CREDIT frame to send, or None while it is not worth one."""
        with self._lock:
            operation.owed[stream] += amount
            owed = operation.owed[stream]
            if owed < operation.step or operation.id not in self._operations:
                return None
            operation.owed[stream] = 0
            operation.allowed[stream] += owed
        return wire.credit(operation.id, stream, owed)

    def feed_input(self, operation: Operation[Any], data: bytes) -> list[bytes]:
        """The STDIN frames for ``data``, which must be within the credit that was given."""
        with self._lock:
            operation.fed += len(data)
        id = operation.id
        if len(data) <= wire.CHUNK:
            return [wire.encode(wire.STDIN, id, data)]
        view = memoryview(data)
        parts = (bytes(view[at : at + wire.CHUNK]) for at in range(0, len(data), wire.CHUNK))
        return [wire.encode(wire.STDIN, id, part) for part in parts]

    # For the loop's thread ---------------------------------------------------------------------

    def receive(self, chunk: bytes) -> Iterator[Event]:
        """The events in what came from the agent.

        Raises:
            Violation: give the connection up; the events before it hold.
        """
        for frame in self._decoder.feed(chunk):
            if self.hello is None and (isinstance(frame, Piece) or frame.kind not in _BEFORE_HELLO):
                raise Violation("the agent did not begin with HELLO")
            if isinstance(frame, Piece):
                yield self._output(frame)
            elif frame.id:
                yield self._of_operation(frame)
            elif (event := self._of_connection(frame)) is not None:
                yield event

    def connection_credit(self) -> bytes | None:
        """The CREDIT frame of the connection that is due after what was received, or None."""
        taken = self._taken
        if taken < GIVE_BACK:
            return None
        self._taken = 0
        self._room += taken
        return wire.credit(0, 0, taken)

    def forget_all(self) -> Iterator[Operation[Any]]:
        """Closes and gives the operations that are still open."""
        while self._operations:
            try:
                yield self._operations.popitem()[1]
            except KeyError:  # another thread forgot the last one
                return

    def sent(self, now: float) -> None:
        """Something was sent: the next PING may wait."""
        self._sent_at = now

    def due(self) -> float:
        """When ``tick`` is to be called next."""
        due = self._sent_at + self.lease / 4
        return due if self._asked_at is None else min(due, self._asked_at + self.lease)

    def tick(self, now: float) -> bytes | None:
        """A PING, when one is due."""
        if now < self._sent_at + self.lease / 4:
            return None
        if self._asked_at is None:
            self._asked_at = now
        self._sent_at = now
        self._pings += 1
        return wire.ping(self._pings)

    def is_silent(self, now: float) -> bool:
        """Whether the agent let the lease pass without any answer to a PING."""
        return self._asked_at is not None and now >= self._asked_at + self.lease

    def _find(self, id: int) -> Operation[Any]:
        operation = self._operations.get(id)
        if operation is None:
            raise Violation(f"a frame for operation {id}, which is not open")
        return operation

    def _output(self, piece: Piece) -> Output:
        operation = self._find(piece.id)
        stream, size = piece.stream, len(piece.data)
        if stream not in STREAMS:
            raise Violation(f"output on stream {stream}")
        if operation.kind == "command" and not operation.started:
            raise Violation("output of a command that was not started")
        self._room -= size
        self._taken += size
        with self._lock:
            operation.allowed[stream] -= size
            left = operation.allowed[stream]
        if left < 0 or self._room < 0:
            raise Violation("output beyond the credit")
        return Output(operation, stream, piece.data)

    def _of_operation(self, frame: Frame) -> Event:
        operation = self._find(frame.id)
        command = operation.kind == "command"
        if frame.kind == wire.STARTED and command and not operation.started:
            operation.started = True
            return Started(operation, messages.parse_number(frame.payload))
        if frame.kind == wire.AGENT_CREDIT:
            amount = messages.parse_number(frame.payload)
            with self._lock:
                operation.given += amount
                if operation.given - operation.fed > wire.MOST_CREDIT:
                    raise Violation("more credit than there may be")
            return InputCredit(operation, amount)
        event: Event
        if frame.kind == wire.EXITED and command and operation.started:
            event = Exited(operation, messages.parse_exited(frame.payload))
        elif frame.kind == wire.ERROR and not operation.started:
            event = Failed(operation, messages.parse_error(frame.payload))
        elif frame.kind == wire.END and not command:
            event = Ended(operation, messages.from_json(frame.payload))
        else:
            raise Violation(f"a frame of type {frame.kind:#x} in a state that has none")
        if not self.forget(operation):
            raise Violation(f"a frame for operation {frame.id}, which is not open")
        return event

    def _of_connection(self, frame: Frame) -> Event | None:
        if frame.kind == wire.FATAL:
            return Refused(messages.parse_error(frame.payload))
        if frame.kind == wire.PONG:
            if self._pongs == self._pings or frame.payload != _PONG.pack(self._pongs + 1):
                raise Violation("a PONG that nobody asked for")
            self._pongs += 1
            self._asked_at = None
            return None
        if self.hello is not None:
            raise Violation("a second HELLO")
        self.hello = messages.parse_hello(frame.payload)
        return Greeted(self.hello)


_BEFORE_HELLO: Final = frozenset({wire.AGENT_HELLO, wire.FATAL})
_PONG: Final = struct.Struct(">Q")
