"""The state machine of a connection: what the agent may say, and when."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents import PlayedAgent, exited

from openrt_agent import wire
from openrt_agent.operations import (
    Ended,
    Exited,
    Failed,
    Greeted,
    InputCredit,
    Kind,
    Output,
    Refused,
    Started,
)
from openrt_agent.session import Session
from openrt_agent.wire import Violation

NOBODY: Any = None
ERROR = {"code": "io", "message": "no", "errno": 5}


def frame(kind, id, payload):
    data = json.dumps(payload).encode() if isinstance(payload, dict) else payload
    return struct.pack(">IBI", len(data), kind, id) + data


def u32(number):
    return struct.pack(">I", number)


def data(id, amount, stream=1):
    return frame(wire.DATA, id, bytes([stream]) + b"x" * amount)


@pytest.fixture
def session():
    session = Session(lease=100, now=1000)
    (event,) = session.receive(frame(wire.AGENT_HELLO, 0, PlayedAgent.HELLO))
    assert isinstance(event, Greeted)
    assert event.hello.agent == "played"
    return session


def command(session, window=100):
    return session.open("command", NOBODY, (window, window))


def running(session, window=100):
    operation = command(session, window)
    events = list(session.receive(frame(wire.STARTED, operation.id, u32(42))))
    assert events == [Started(operation, 42)]
    return operation


def violates(session, chunk):
    with pytest.raises(Violation):
        list(session.receive(chunk))
    return True


def test_a_command_from_start_to_end(session):
    operation = running(session)
    chunk = data(operation.id, 10) + data(operation.id, 5, 2)
    chunk += frame(wire.AGENT_CREDIT, operation.id, u32(7))
    chunk += frame(wire.EXITED, operation.id, exited(3))
    out, err, more, end = session.receive(chunk)
    assert out == Output(operation, 1, b"x" * 10)
    assert err == Output(operation, 2, b"x" * 5)
    assert more == InputCredit(operation, 7)
    assert isinstance(end, Exited)
    assert end.exit.code == 3
    assert not session.is_open(operation)


def test_a_file_operation(session):
    operation = session.open("file", NOBODY, (100, 0))
    out, end = session.receive(
        data(operation.id, 100) + frame(wire.END, operation.id, {"size": 100})
    )
    assert out.data == b"x" * 100
    assert end == Ended(operation, {"size": 100})


def test_a_command_that_never_started(session):
    operation = command(session)
    (event,) = session.receive(frame(wire.ERROR, operation.id, ERROR))
    assert isinstance(event, Failed)
    assert event.error.code == "io"


@pytest.mark.parametrize(
    "make",
    [
        lambda o: data(o, 1),
        lambda o: frame(wire.EXITED, o, exited()),
        lambda o: frame(wire.END, o, {}),
        lambda o: frame(wire.STARTED, o, u32(1)) * 2,
        lambda o: frame(wire.STARTED, o, u32(1)) + frame(wire.ERROR, o, ERROR),
        lambda o: frame(wire.STARTED, o, u32(1)) + data(o, 1, 0),
        lambda o: frame(wire.STARTED, o, u32(1)) + data(o, 1, 3),
        lambda o: frame(wire.STARTED, o, b"12345"),
        lambda o: frame(wire.ERROR, o, ERROR) * 2,
        lambda o: frame(wire.ERROR, o, ERROR) + frame(wire.AGENT_CREDIT, o, u32(1)),
        lambda o: frame(wire.STARTED, o + 1, u32(1)),
        lambda o: frame(wire.AGENT_CREDIT, o + 1, u32(1)),
        lambda o: frame(wire.STARTED, o, u32(1)) + data(o, 200_000) * 3,
        lambda o: frame(wire.AGENT_CREDIT, o, u32(0xFFFF_FFFF)) * 300,
        lambda o: frame(wire.AGENT_HELLO, 0, PlayedAgent.HELLO),
        lambda o: frame(wire.PONG, 0, b"\0" * 8),
    ],
)
def test_what_a_command_may_not_be_told(session, make):
    assert violates(session, make(command(session).id))


@pytest.mark.parametrize(
    "make",
    [
        lambda o: frame(wire.STARTED, o, u32(1)),
        lambda o: frame(wire.EXITED, o, exited()),
        lambda o: data(o, 1, 2),
    ],
)
def test_what_a_file_operation_may_not_be_told(session, make):
    assert violates(session, make(session.open("file", NOBODY, (100, 0)).id))


def test_nothing_comes_before_hello():
    session = Session(lease=100, now=0)
    assert violates(session, frame(wire.PONG, 0, b"\0" * 8))


def test_a_refusal_may_come_instead_of_hello():
    session = Session(lease=100, now=0)
    (event,) = session.receive(frame(wire.FATAL, 0, {"code": "version", "message": "old"}))
    assert isinstance(event, Refused)


def test_credit_of_a_stream_is_given_in_steps(session):
    operation = running(session, window=100)
    list(session.receive(data(operation.id, 100)))
    assert session.grant(operation, 1, 24) is None
    assert session.grant(operation, 1, 1) == wire.credit(operation.id, 1, 25)
    (event,) = session.receive(data(operation.id, 25))
    assert event.data == b"x" * 25


def test_output_beyond_the_credit_is_what_an_ended_command_left(session):
    operation = running(session, window=100)
    left = data(operation.id, 100) + data(operation.id, 200_000) * 2
    assert len(list(session.receive(left))) == 3
    assert violates(session, data(operation.id, 200_000))


def test_a_file_operation_has_its_credit_and_no_more(session):
    operation = session.open("file", NOBODY, (100, 0))
    assert violates(session, data(operation.id, 101))


def test_a_reader_that_took_all_leaves_room(session):
    """Credit that is held back for a larger step never stalls the agent."""
    operation = running(session, window=7)
    total = 0
    for _ in range(50):
        size = operation.allowed[1]
        assert size > 0
        (event,) = session.receive(data(operation.id, size))
        total += len(event.data)
        for _ in range(size):
            session.grant(operation, 1, 1)
    assert total > 50


def test_credit_of_the_connection(session):
    operation = running(session, window=1 << 40)
    taken = 0
    while taken < 10 * wire.CONNECTION_CREDIT:
        list(session.receive(data(operation.id, 200_000)))
        taken += 200_000
        frame_ = session.connection_credit()
        assert frame_ == wire.credit(0, 0, 200_000)
    for _ in range(4):
        list(session.receive(data(operation.id, 200_000)))
    assert violates(session, data(operation.id, 200_000))


def test_no_credit_for_what_is_over(session):
    operation = running(session)
    list(session.receive(frame(wire.EXITED, operation.id, exited())))
    assert session.grant(operation, 1, 100) is None


def test_input_is_cut_into_frames(session):
    operation = running(session)
    sizes = [len(f) - 9 for f in session.feed_input(operation, b"x" * (wire.CHUNK + 1))]
    assert sizes == [wire.CHUNK, 1]


def test_pings_and_silence(session):
    assert session.due() == 1025
    assert session.tick(1024) is None
    session.sent(1010)
    assert session.tick(1030) is None
    assert session.tick(1035) == wire.ping(1)
    assert session.due() == 1060
    assert not session.is_silent(1134)
    assert session.is_silent(1135)
    assert session.tick(1060) == wire.ping(2)
    pongs = wire.ping(1)[9:], wire.ping(2)[9:]
    assert list(session.receive(frame(wire.PONG, 0, pongs[0]))) == []
    assert not session.is_silent(1135)
    assert list(session.receive(frame(wire.PONG, 0, pongs[1]))) == []
    assert violates(session, frame(wire.PONG, 0, pongs[1]))


def test_everybody_is_forgotten_once(session):
    operations = [command(session) for _ in range(5)]
    assert session.forget(operations[0])
    assert not session.forget(operations[0])
    assert set(session.forget_all()) == set(operations[1:])
    assert list(session.forget_all()) == []


KINDS_OF_OPERATIONS: list[Kind] = ["command", "file", "command"]
KINDS = [
    wire.STARTED,
    wire.DATA,
    wire.AGENT_CREDIT,
    wire.EXITED,
    wire.ERROR,
    wire.END,
    wire.AGENT_HELLO,
    wire.PONG,
]
PAYLOADS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([u32(5), b"\1abc", b"\2" + b"x" * 50]),
    st.sampled_from([exited(), ERROR, {}, PlayedAgent.HELLO]).map(lambda v: json.dumps(v).encode()),
)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 4), PAYLOADS), max_size=30))
def test_any_sequence_is_answered_in_order_or_violates(frames):
    """Whatever comes: known events only, each id ends once, and no output beyond its credit."""
    session = Session(lease=100, now=0)
    list(session.receive(frame(wire.AGENT_HELLO, 0, PlayedAgent.HELLO)))
    operations = [session.open(k, NOBODY, (60, 60)) for k in KINDS_OF_OPERATIONS]
    ended, got = set(), dict.fromkeys([(o.id, s) for o in operations for s in (1, 2)], 0)
    try:
        for kind, id, payload in frames:
            for event in session.receive(frame(kind, id, payload)):
                assert not isinstance(event, (Greeted, Refused))
                operation = event.operation
                assert operation.id not in ended
                if isinstance(event, Output):
                    got[operation.id, event.stream] += len(event.data)
                if isinstance(event, (Exited, Failed, Ended)):
                    ended.add(operation.id)
    except Violation:
        pass
    assert max(got.values()) <= 60
    assert {o.id for o in session.forget_all()} == {o.id for o in operations} - ended


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=10))
def test_arbitrary_bytes(chunks):
    session = Session(lease=100, now=0)
    session.open("command", NOBODY, (60, 60))
    try:
        for chunk in chunks:
            list(session.receive(chunk))
    except Violation:
        return
