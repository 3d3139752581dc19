"""One connection to an agent as a state machine: no sockets, no threads, no clock.

Bytes go in and events come out; what is to be sent is handed back as whole frames. ``receive``,
``forget_all`` and the times belong to one thread (the I/O loop's); the others may be called from
any.
"""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Iterator
from typing import Final

from openrt_agent import messages, wire
from openrt_agent.messages import Hello
from openrt_agent.operations import (
    Ended,
    Event,
    Exited,
    Failed,
    Gap,
    Greeted,
    Handler,
    InputCredit,
    Kind,
    Operation,
    Output,
    Refused,
    Started,
)
from openrt_agent.requests import to_json
from openrt_agent.wire import Frame, Piece, Violation

STREAMS: Final = (1, 2)
GIVE_BACK: Final = 131_072
"""Least bytes of connection credit that are given back: a frame for each piece would cost more."""


class Session:
    """The client's side of one connection.

    Args:
        lease: seconds; the agent gives a client up that was silent for so long, and this side gives
            an agent up that did not answer a PING for so long.
        now: the time.
        linger: seconds; as the owner, has the agent live on for so long without a client.
    """

    def __init__(self, *, lease: float, now: float, linger: float = 0.0) -> None:
        self.lease = lease
        self._linger = linger
        self.hello: Hello | None = None
        self._decoder = wire.Decoder()
        self._operations: dict[int, Operation] = {}
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
        if self._linger:
            value["linger"] = self._linger
        return wire.encode(wire.HELLO, 0, to_json(value))

    def open(self, kind: Kind, handler: Handler, window: tuple[int, int]) -> Operation:
        """A new operation with its first credit; its START or FILE frame is to be sent next."""
        number = next(self._ids)
        while number > 0xFFFF_FFFF or number in self._operations:
            if number > 0xFFFF_FFFF:
                self._ids = itertools.count(1)
            number = next(self._ids)
        operation = Operation(number, kind, handler, window)
        self._operations[number] = operation
        return operation

    def forget(self, operation: Operation) -> bool:
        """Closes an operation from this side. Of all callers, the agent counted, one gets True."""
        return self._operations.pop(operation.id, None) is not None

    def is_open(self, operation: Operation) -> bool:
        """Whether its final frame has not come yet."""
        return operation.id in self._operations

    def grant(self, operation: Operation, stream: int, amount: int) -> bytes | None:
        """The reader took bytes. The CREDIT frame to send, or None while it is not worth one."""
        with self._lock:
            operation.owed[stream] += amount
            owed = operation.owed[stream]
            if owed < operation.step or operation.id not in self._operations:
                return None
            operation.owed[stream] = 0
            operation.allowed[stream] += owed
        return wire.credit(operation.id, stream, owed)

    def feed_input(self, operation: Operation, data: bytes) -> list[bytes]:
        """The STDIN frames for ``data``, which must be within the credit that was given."""
        with self._lock:
            operation.fed += len(data)
        if len(data) <= wire.CHUNK:
            return [wire.encode(wire.STDIN, operation.id, data)]
        parts = (data[at : at + wire.CHUNK] for at in range(0, len(data), wire.CHUNK))
        return [wire.encode(wire.STDIN, operation.id, part) for part in parts]

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

    def forget_all(self) -> Iterator[Operation]:
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

    def _find(self, id: int) -> Operation:
        operation = self._operations.get(id)
        if operation is None:
            raise Violation(f"a frame for operation {id}, which is not open")
        return operation

    def _output(self, piece: Piece) -> Output:
        operation = self._find(piece.id)
        stream, size = piece.stream, len(piece.data)
        if stream not in STREAMS:
            raise Violation(f"output on stream {stream}")
        if operation.kind != "file" and not operation.started:
            raise Violation("output of a command that was not started")
        self._room -= size
        self._taken += size
        with self._lock:
            operation.allowed[stream] -= size
            left = operation.allowed[stream]
        # The agent may overdraw at a command's end, which only it can tell; memory stays bounded.
        if left < -operation.overdraft or self._room < 0:
            raise Violation("output beyond the credit")
        return Output(operation, stream, piece.data)

    def _of_operation(self, frame: Frame) -> Event:
        operation = self._find(frame.id)
        command = operation.kind != "file"
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
        if frame.kind == wire.GAP and operation.kind == "detached" and operation.started:
            return Gap(operation, *messages.parse_gap(frame.payload))
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
