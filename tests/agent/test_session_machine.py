"""A session against a model of both sides: ids, states, credit in both directions, PING."""

from __future__ import annotations

import json
import struct
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from support.agents import PlayedAgent, exited

from openrt_agent import wire
from openrt_agent.operations import (
    Ended,
    Exited,
    Failed,
    Gap,
    InputCredit,
    Kind,
    Operation,
    Output,
    Started,
)
from openrt_agent.session import GIVE_BACK, Session
from openrt_agent.wire import Violation

NOBODY: Any = None
KINDS: list[Kind] = ["command", "detached", "file"]
LEFT_BEHIND = {"command": 524_288, "detached": 1 << 20, "file": 0}
LEASE = 100
ERROR = {"code": "io", "message": "no", "errno": 5}
FINAL = {wire.EXITED: exited(3), wire.ERROR: ERROR, wire.END: {"size": 1}}


def frame(kind, id, payload):
    data = json.dumps(payload).encode() if isinstance(payload, dict) else payload
    return struct.pack(">IBI", len(data), kind, id) + data


def output(id, stream, size):
    """So many bytes, in as few DATA frames as may be."""
    most = wire.CHUNK - 1
    sizes = [min(most, size - at) for at in range(0, size, most)]
    return b"".join(frame(wire.DATA, id, bytes([stream]) + b"o" * n) for n in sizes)


@attrs.define
class Told:
    """What both sides know of an operation, by PROTOCOL.md."""

    operation: Operation
    kind: Kind
    least: int  # of its windows
    credit: list[int]  # by stream: what the agent may still send
    unread: list[int]  # by stream: what came and the reader has not taken
    kept: list[int]  # by stream: what the reader took and the agent was not told of
    input: int = wire.INPUT_CREDIT  # what may still be sent to it
    started: bool = False

    @property
    def may_print(self) -> bool:
        return self.started or self.kind == "file"


def some(condition=lambda told, stream: True):
    """A rule for when the condition holds for an open operation and one of its streams."""
    return precondition(
        lambda self: any(condition(t, n) for t in self.open.values() for n in (1, 2))
    )


def is_unread(told, stream):
    return told.unread[stream] > 0


def takes_input(told, stream):
    return told.input > 0


def may_start(told, stream):
    return not told.may_print


def may_print(told, stream):
    return told.may_print


def may_lose(told, stream):
    return told.kind == "detached" and told.started


class SessionMachine(RuleBasedStateMachine):
    """Each step is one that PROTOCOL.md allows, but for a violation, which begins anew."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    @initialize()
    def begin(self) -> None:
        self.session = Session(lease=LEASE, now=self.now)
        self.open: dict[int, Told] = {}
        self.past: list[Operation] = []
        self.last = 0
        self.room = wire.CONNECTION_CREDIT
        self.taken = 0
        self.sent_at = self.now
        self.asked_at: float | None = None
        self.pings = self.pongs = 0
        self.steps = 0
        list(self.session.receive(frame(wire.AGENT_HELLO, 0, PlayedAgent.HELLO)))
        for kind in KINDS:
            self.open_one(kind, (1000, 1 << 21))

    def receive(self, data, chunk):
        """What came, torn apart somewhere."""
        cut = data.draw(st.integers(0, len(chunk)), "cut")
        return [e for part in (chunk[:cut], chunk[cut:]) for e in self.session.receive(part)]

    def pick(self, data, condition=lambda told, stream: True):
        """An open operation and a stream for which the condition holds."""
        fit = [(id, n) for id, told in self.open.items() for n in (1, 2) if condition(told, n)]
        id, stream = data.draw(st.sampled_from(fit), "operation")
        return self.open[id], stream

    def close(self, told):
        del self.open[told.operation.id]
        self.past.append(told.operation)

    # This side -----------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < 6)
    @rule(
        kind=st.sampled_from(KINDS), windows=st.tuples(*[st.sampled_from([0, 1000, 1 << 21])] * 2)
    )
    def open_new(self, kind, windows):
        self.open_one(kind, windows)

    def open_one(self, kind, windows):
        operation = self.session.open(kind, NOBODY, windows)
        assert operation.id == self.last + 1
        self.last += 1
        least = min([w for w in windows if w], default=0)
        self.open[operation.id] = Told(operation, kind, least, [0, *windows], [0] * 3, [0] * 3)

    @some(is_unread)
    @rule(data=st.data())
    def read(self, data):
        told, stream = self.pick(data, is_unread)
        amount = data.draw(st.just(told.unread[stream]) | st.integers(1, told.unread[stream]), "n")
        told.unread[stream] -= amount
        told.kept[stream] += amount
        granted = self.session.grant(told.operation, stream, amount)
        if granted is None:
            # Never so much that the agent could have to wait for it.
            assert told.kept[stream] < max(told.least / 4, 1)
            return
        assert granted == wire.credit(told.operation.id, stream, told.kept[stream])
        told.credit[stream] += told.kept[stream]
        told.kept[stream] = 0

    @some(takes_input)
    @rule(data=st.data())
    def feed(self, data):
        told, _ = self.pick(data, takes_input)
        size = data.draw(st.sampled_from([told.input, 1]) | st.integers(1, told.input), "size")
        frames = self.session.feed_input(told.operation, b"i" * size)
        header = struct.Struct(">IBI")
        assert all(header.unpack_from(f)[1:] == (wire.STDIN, told.operation.id) for f in frames)
        assert all(header.unpack_from(f)[0] == len(f) - 9 <= wire.CHUNK for f in frames)
        assert b"".join(f[9:] for f in frames) == b"i" * size
        told.input -= size

    @some()
    @rule(data=st.data())
    def forget(self, data):
        told, _ = self.pick(data)
        assert self.session.forget(told.operation)
        assert not self.session.forget(told.operation)
        self.close(told)

    @rule()
    def give_back(self):
        given = self.session.connection_credit()
        assert given == (wire.credit(0, 0, self.taken) if self.taken >= GIVE_BACK else None)
        if given is not None:
            self.room += self.taken
            self.taken = 0

    @rule(seconds=st.sampled_from([1, 24, 25, 40]), sends=st.booleans())
    def time_passes(self, seconds, sends):
        self.now += seconds
        due = self.now >= self.sent_at + LEASE / 4
        asked = self.session.tick(self.now)
        assert asked == (wire.ping(self.pings + 1) if due else None)
        if due:
            self.pings += 1
            self.asked_at = self.now if self.asked_at is None else self.asked_at
        elif sends:
            self.session.sent(self.now)
        if due or sends:
            self.sent_at = self.now

    # The agent -----------------------------------------------------------------------------------

    @some(may_start)
    @rule(data=st.data(), pid=st.integers(0, 0xFFFF_FFFF))
    def start(self, data, pid):
        told, _ = self.pick(data, may_start)
        chunk = frame(wire.STARTED, told.operation.id, struct.pack(">I", pid))
        assert self.receive(data, chunk) == [Started(told.operation, pid)]
        told.started = True

    @some(may_print)
    @rule(data=st.data(), left=st.booleans())
    def print(self, data, left):
        """Within the credit, or with what a command that has ended left in its pipes."""

        told, stream = self.pick(data, may_print)
        most = min(told.credit[stream] + left * LEFT_BEHIND[told.kind], self.room)
        if most <= 0:
            return
        size = data.draw(st.just(most) | st.integers(1, most), "size")
        events = self.receive(data, output(told.operation.id, stream, size))
        assert all(isinstance(e, Output) and e[:2] == (told.operation, stream) for e in events)
        assert sum(len(event.data) for event in events) == size
        told.credit[stream] -= size
        told.unread[stream] += size
        self.room -= size
        self.taken += size

    @some()
    @rule(data=st.data(), amount=st.integers(0, 1 << 20))
    def take_input(self, data, amount):
        told, _ = self.pick(data)
        chunk = frame(wire.AGENT_CREDIT, told.operation.id, struct.pack(">I", amount))
        assert self.receive(data, chunk) == [InputCredit(told.operation, amount)]
        told.input += amount

    @some(may_lose)
    @rule(data=st.data(), amount=st.integers(1, 1 << 50))
    def lose(self, data, amount):
        told, stream = self.pick(data, may_lose)
        chunk = frame(wire.GAP, told.operation.id, struct.pack(">BQ", stream, amount))
        assert self.receive(data, chunk) == [Gap(told.operation, stream, amount)]

    @some()
    @rule(data=st.data())
    def end(self, data):
        told, _ = self.pick(data)
        kind = data.draw(st.sampled_from(sorted(allowed_ends(told))), "kind")
        (event,) = self.receive(data, frame(kind, told.operation.id, FINAL[kind]))
        assert isinstance(event, (Exited, Failed, Ended))
        assert type(event) is {wire.EXITED: Exited, wire.ERROR: Failed, wire.END: Ended}[kind]
        assert event.operation is told.operation
        self.close(told)

    @precondition(lambda self: self.pongs < self.pings)
    @rule(data=st.data())
    def pong(self, data):
        self.pongs += 1
        assert self.receive(data, frame(wire.PONG, 0, struct.pack(">Q", self.pongs))) == []
        self.asked_at = None

    @precondition(lambda self: self.steps > 20)
    @some()
    @rule(data=st.data())
    def violate(self, data):
        """Anything that is not allowed ends the connection, and every open operation once."""
        told, stream = self.pick(data)
        wrong = [frame(wire.PONG, 0, struct.pack(">Q", self.pings + 1))]
        wrong += [frame(kind, self.last + 1, FINAL[kind]) for kind in FINAL]
        wrong += [frame(wire.STARTED, o.id, bytes(4)) for o in self.past]
        id = told.operation.id
        wrong += [frame(k, id, FINAL[k]) for k in FINAL if k not in allowed_ends(told)]
        if told.may_print:
            wrong.append(frame(wire.STARTED, id, bytes(4)))
        else:
            wrong.append(output(id, stream, 1))
        if told.kind != "detached" or not told.started:
            wrong.append(frame(wire.GAP, id, struct.pack(">BQ", stream, 1)))
        self.is_given_up(data, data.draw(st.sampled_from(wrong), "wrong"))

    @precondition(lambda self: self.steps > 20)
    @some(may_print)
    @rule(data=st.data())
    def overdraw(self, data):
        """One byte more than the credit of the operation or of the connection, or no stream's."""
        told, stream = self.pick(data, may_print)
        most = min(told.credit[stream] + LEFT_BEHIND[told.kind], self.room)
        wrong = data.draw(st.sampled_from([(stream, most + 1), (0, 1), (3, 1), (255, 1)]), "wrong")
        self.is_given_up(data, output(told.operation.id, *wrong))

    def is_given_up(self, data, chunk):
        with pytest.raises(Violation):
            self.receive(data, chunk)
        assert {o.id for o in self.session.forget_all()} == set(self.open)
        self.begin()

    # What always holds ---------------------------------------------------------------------------

    @invariant()
    def agrees(self):
        self.steps += 1
        assert all(self.session.is_open(told.operation) for told in self.open.values())
        assert not any(map(self.session.is_open, self.past))
        due = self.sent_at + LEASE / 4
        silent = self.asked_at is not None and self.now >= self.asked_at + LEASE
        assert self.session.is_silent(self.now) == silent
        asked = due if self.asked_at is None else min(due, self.asked_at + LEASE)
        assert self.session.due() == asked


def allowed_ends(told: Told) -> set[int]:
    """The final frames that an operation may have now."""
    if told.kind == "file":
        return {wire.END, wire.ERROR}
    return {wire.EXITED} if told.started else {wire.ERROR}


SessionMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestSession = SessionMachine.TestCase
