"""One client against an agent that the test plays: the order of things, and how they end."""

from __future__ import annotations

import contextlib
import struct
import threading

import pytest
from support.agents import PATIENCE, PlayedAgent, exited, start, until

from openrt_agent import wire
from openrt_core.errors import (
    CommandNotStartedError,
    SandboxGoneError,
    StartTimeoutError,
    TransportError,
)
from openrt_core.models import OutputMode


@pytest.fixture
def agent():
    played = PlayedAgent()
    with contextlib.closing(played):
        yield played


@pytest.fixture
def client(agent):
    with contextlib.closing(agent.connect()) as client:
        yield client


def run(agent, client, *argv, **arguments):
    """A command that the agent says it has started."""
    process = start(client, *(argv or ("x",)), **arguments)
    id, _ = agent.expect(wire.START)
    agent.send(wire.STARTED, id, struct.pack(">I", 7))
    until(lambda: process.pid == 7, "STARTED was not seen")
    return process, id


def test_hello(client):
    assert client.hello.agent == "played"
    assert client.hello.boot == "00ff"
    assert not client.closed


def test_a_command(agent, client):
    process, id = run(agent, client)
    agent.send(wire.DATA, id, b"\1out")
    agent.send(wire.DATA, id, b"\2err")
    agent.send(wire.EXITED, id, exited(3))
    result = process.wait(PATIENCE)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out", b"err")
    assert result.duration == 0.5
    assert result.usage.max_rss == 4096


def test_answers_may_come_in_any_order(agent, client):
    first, a = run(agent, client)
    second, b = run(agent, client)
    agent.send(wire.EXITED, b, exited(2))
    assert second.wait(PATIENCE).exit_code == 2
    assert not first.done
    agent.send(wire.EXITED, a, exited(1))
    assert first.wait(PATIENCE).exit_code == 1


def test_an_error_before_the_start(agent, client):
    process = start(client, "nope")
    id, _ = agent.expect(wire.START)
    error = {"code": "not_found", "message": "no such\x1b program", "errno": 2}
    agent.send(wire.ERROR, id, error)
    with pytest.raises(CommandNotStartedError, match=r"'nope' was not started: no such\\x1b"):
        process.wait(PATIENCE)


def test_controls(agent, client):
    process, id = run(agent, client, stdin=True)
    process.signal(15)
    assert agent.expect(wire.SIGNAL) == (id, b"\x0f\0")
    process.signal(2, group=True)
    assert agent.expect(wire.SIGNAL) == (id, b"\2\1")
    process.stdin.write(b"abc")
    assert agent.expect(wire.STDIN) == (id, b"abc")
    process.stdin.close()
    assert agent.expect(wire.STDIN_EOF) == (id, b"")
    process.kill()
    process.kill()
    assert agent.expect(wire.CANCEL) == (id, b"")
    agent.send(wire.EXITED, id, exited(exit_code=None, signal=9, killed=True))
    assert process.wait(PATIENCE).signal == 9
    process.kill()
    process.signal(9)
    # None of it is sent after the end: the next frame is the next command's.
    run(agent, client)


def test_input_waits_for_credit(agent, client):
    process = start(client, "cat", input=b"x" * 300_000)
    id, _ = agent.expect(wire.START)
    got = 0
    while got < wire.INPUT_CREDIT:
        _, data = agent.expect(wire.STDIN)
        got += len(data)
    assert got == wire.INPUT_CREDIT
    agent.send(wire.STARTED, id, struct.pack(">I", 7))
    agent.send(wire.AGENT_CREDIT, id, struct.pack(">I", 300_000))
    _, data = agent.expect(wire.STDIN)
    assert len(data) == 300_000 - wire.INPUT_CREDIT
    assert agent.expect(wire.STDIN_EOF) == (id, b"")
    agent.send(wire.EXITED, id, exited())
    assert process.wait(PATIENCE).ok


def test_a_reader_gives_credit(agent, client):
    process, id = run(agent, client, output=OutputMode.STREAM)
    for _ in range(4):
        agent.send(wire.DATA, id, b"\1" + b"x" * 100_000)
    connection = agent.expect(wire.CREDIT)
    assert connection[0] == 0
    got = 0
    while got < 400_000:
        got += len(process.stdout.read(100_000))
    until_credit = agent.expect(wire.CREDIT)
    while until_credit[0] == 0:
        until_credit = agent.expect(wire.CREDIT)
    stream, amount = struct.unpack(">BI", until_credit[1])
    assert (until_credit[0], stream) == (id, 1)
    assert 0 < amount <= 400_000


def test_killed_before_its_program_ran(agent, client):
    process = start(client, "x")
    id, _ = agent.expect(wire.START)
    process.kill()
    agent.expect(wire.CANCEL)
    agent.send(wire.ERROR, id, {"code": "cancelled", "message": "cancelled", "errno": 0})
    assert process.wait(PATIENCE).signal == 9


def test_the_end_of_the_stream_says_what_had_started(agent, client):
    running, _ = run(agent, client)
    sent = start(client, "x")
    agent.expect(wire.START)
    agent.close()
    with pytest.raises(TransportError) as caught:
        running.wait(PATIENCE)
    assert caught.value.started == "yes"
    with pytest.raises(TransportError) as caught:
        sent.wait(PATIENCE)
    assert caught.value.started == "unknown"
    assert client.closed
    with pytest.raises(TransportError) as caught:
        start(client, "x")
    assert caught.value.started == "no"


def test_what_was_never_sent_did_not_start(agent, client):
    sent = start(client, "x", "y" * 4_000_000)
    waiting = start(client, "x")
    agent.close()
    for process in (sent, waiting):
        with pytest.raises(TransportError) as caught:
            process.wait(PATIENCE)
        assert caught.value.started == "no"


def test_an_agent_that_reads_nothing_is_not_sent_without_bound(agent, client):
    def fill():
        for _ in range(100):
            start(client, "x", "y" * 4_000_000)

    with pytest.raises(TransportError, match="takes no more") as caught:
        fill()
    assert caught.value.started == "no"
    assert caught.value.retryable
    # And nobody else waits for it.
    other = PlayedAgent()
    with contextlib.closing(other), contextlib.closing(other.connect()) as neighbour:
        process, id = run(other, neighbour)
        other.send(wire.EXITED, id, exited())
        assert process.wait(PATIENCE).ok


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (wire.DATA, b"\3x"),
        (wire.STARTED, b"1234"),
        (wire.EXITED, b"{}"),
        (0xFF, b"x"),
    ],
)
def test_a_violation_ends_the_connection_and_only_that(agent, client, kind, payload):
    victims = [run(agent, client)[0] for _ in range(3)]
    other = PlayedAgent()
    with contextlib.closing(other), contextlib.closing(other.connect()) as neighbour:
        sibling, id = run(other, neighbour)
        agent.send(kind, 1, payload)
        for process in victims:
            with pytest.raises(TransportError) as caught:
                process.wait(PATIENCE)
            assert caught.value.code == "transport.protocol"
            assert caught.value.started == "yes"
        assert agent.closed_by_client()
        assert not sibling.done
        other.send(wire.EXITED, id, exited())
        assert sibling.wait(PATIENCE).ok


def test_a_forged_end_of_a_sibling_that_was_not_opened(agent, client):
    process, id = run(agent, client)
    agent.send(wire.EXITED, id + 1, exited())
    with pytest.raises(TransportError, match="not open"):
        process.wait(PATIENCE)


def test_a_refusal(agent):
    agent.send(wire.FATAL, 0, {"code": "too_many", "message": "64 connections"})
    with pytest.raises(TransportError, match="64 connections") as caught:
        agent.connect(greet=False)
    assert caught.value.code == "transport.too_many"


def test_no_greeting_in_time(agent):
    with pytest.raises(StartTimeoutError):
        agent.connect(greet=False, timeout=0.1)


def test_no_greeting_at_all(agent):
    agent.socket.shutdown(1)
    with pytest.raises(TransportError):
        agent.connect(greet=False)


def test_a_better_error_is_asked_for_once(agent):
    asked = []

    def describe():
        asked.append(threading.current_thread().name)
        return SandboxGoneError("The container ran out of memory.")

    client = agent.connect(describe=describe)
    processes = [run(agent, client)[0] for _ in range(2)]
    agent.close()
    errors = []
    for process in processes:
        with pytest.raises(SandboxGoneError, match="out of memory") as caught:
            process.wait(PATIENCE)
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert asked == ["openrt-describe"]
    with pytest.raises(SandboxGoneError):
        start(client, "x")


def test_a_question_that_fails_or_hangs_is_not_waited_for(agent):
    hang = threading.Event()
    client = agent.connect(describe=lambda: hang.wait(PATIENCE) and None)
    process, _ = run(agent, client)
    agent.close()
    with pytest.raises(TransportError):
        process.wait(PATIENCE / 2)
    hang.set()


def test_without_a_thread_to_ask_in_the_plain_error_is_told(agent, monkeypatch):
    start_thread = threading.Thread.start

    def start_no_asker(thread):
        if thread.name == "openrt-describe":
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    client = agent.connect(describe=lambda: SandboxGoneError("never told"))
    process, _ = run(agent, client)
    monkeypatch.setattr(threading.Thread, "start", start_no_asker)
    agent.close()
    with pytest.raises(TransportError, match="The connection to the sandbox broke"):
        process.wait(PATIENCE)


def test_close(agent, client):
    closed = []
    client.on_closed(lambda: closed.append(1))
    process, _ = run(agent, client)
    client.close()
    with pytest.raises(TransportError, match="closed here"):
        process.wait(0)
    assert closed == [1]
    assert agent.closed_by_client()
    client.close()
    late = threading.Event()
    client.on_closed(late.set)
    assert late.wait(PATIENCE)


def test_an_agent_that_never_answers_a_ping_is_given_up(agent):
    client = agent.connect(lease=0.4)
    process, _ = run(agent, client)
    kind, id, payload = agent.receive()
    assert (kind, id) == (wire.PING, 0)
    agent.send(wire.PONG, 0, payload)
    kind, id, _ = agent.receive()
    assert (kind, id) == (wire.PING, 0)
    with pytest.raises(TransportError, match="has not answered") as caught:
        process.wait(PATIENCE)
    assert caught.value.started == "yes"
    with pytest.raises(TransportError):
        start(client, "x")


def test_callbacks_that_fail_are_logged_and_keep_nobody_waiting(agent, caplog):
    def fail():
        raise ValueError("from a callback")

    client = agent.connect(on_close=fail)
    client.on_closed(fail)
    process, _ = run(agent, client)
    process.add_done_callback(lambda _: fail())
    agent.close()
    with pytest.raises(TransportError):
        process.wait(PATIENCE)
    client.close()
    assert caplog.text.count("from a callback") >= 3
