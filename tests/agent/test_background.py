"""Background commands against an agent that the test plays, and a real one."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from typing import Any

import pytest
from support.agents import PATIENCE, PlayedAgent, exited, linux, real_agent, until

from openrt_agent import StartRequest, messages, wire
from openrt_agent.wire import Violation
from openrt_core.errors import CommandError, OpenrtError, TransportError
from openrt_core.models import BackgroundCommand, Command, OutputMode
from openrt_core.process import Process

GAP = struct.Struct(">BQ")
ITEM = {"command": "a.1", "argv": "sh \x01", "pid": 7, "output": [1, 5, 0, 0], "exited": None}


@pytest.fixture
def agent():
    with contextlib.closing(PlayedAgent()) as played:
        yield played


@pytest.fixture
def client(agent):
    with contextlib.closing(agent.connect()) as client:
        yield client


def attached(agent, client, output=OutputMode.STREAM):
    """An attachment that the agent says is to a running command."""
    process = Process(Command(argv=("a.1",), output=output))
    client.attach("a.1", (10, 0), process)
    id, payload = agent.expect(wire.ATTACH)
    assert json.loads(payload) == {
        "command": "a.1",
        "offsets": [10, 0],
        "credit": [process.window] * 2,
    }
    agent.send(wire.STARTED, id, struct.pack(">I", 7))
    until(lambda: process.pid == 7, "STARTED was not seen")
    return process, id


def answered(agent, call, kind, answer, final=wire.END):
    """What a blocking call returns or raises for this answer of the agent."""
    outcome: list[Any] = []

    def run():
        try:
            outcome.append(call())
        except OpenrtError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    id, payload = agent.expect(kind)
    agent.send(final, id, answer)
    thread.join(PATIENCE)
    return outcome[0], json.loads(payload)


def test_gaps_are_counted_where_the_output_goes(agent, client):
    process, id = attached(agent, client)
    agent.send(wire.GAP, id, GAP.pack(1, 5))
    agent.send(wire.DATA, id, b"\1out")
    agent.send(wire.GAP, id, GAP.pack(1, 6))
    agent.send(wire.GAP, id, GAP.pack(2, 1 << 40))
    agent.send(wire.EXITED, id, exited())
    assert process.wait(PATIENCE).ok
    assert (process.stdout.read(), process.stdout.dropped) == (b"out", 11)
    assert (process.stderr.read(), process.stderr.dropped) == (b"", 1 << 40)
    captured, id = attached(agent, client, OutputMode.CAPTURE)
    agent.send(wire.GAP, id, GAP.pack(2, 4))
    agent.send(wire.EXITED, id, exited())
    result = captured.wait(PATIENCE)
    assert (result.stdout_dropped, result.stderr_dropped) == (0, 4)


def test_an_end_may_bring_all_that_the_agent_keeps_beyond_the_credit(agent, client):
    process, id = attached(agent, client)
    left = process.window + wire.RING
    while left:
        size = min(left, wire.CHUNK - 1)
        agent.send(wire.DATA, id, b"\1" + bytes(size))
        left -= size
        if size > 131_072:
            agent.expect(wire.CREDIT)
    agent.send(wire.EXITED, id, exited())
    assert process.wait(PATIENCE).ok
    assert len(process.stdout.read()) == process.window + wire.RING


@pytest.mark.parametrize(
    "payload", [GAP.pack(0, 1), GAP.pack(3, 1), GAP.pack(1, 0), GAP.pack(1, 1 << 63), b"\1"]
)
def test_a_gap_that_cannot_be(payload):
    with pytest.raises(Violation):
        messages.parse_gap(payload)


def test_a_gap_in_the_output_of_any_other_command_is_a_violation(agent, client):
    process = Process(Command(argv=("x",)))
    client.start(StartRequest(argv=("x",)), process)
    id, _ = agent.expect(wire.START)
    agent.send(wire.STARTED, id, struct.pack(">I", 7))
    agent.send(wire.GAP, id, GAP.pack(1, 1))
    with pytest.raises(TransportError, match="not the agent's protocol"):
        process.wait(PATIENCE)


def test_no_such_command(agent, client):
    process = Process(Command(argv=("a.1",)))
    client.attach("a.1", (0, 0), process)
    id, _ = agent.expect(wire.ATTACH)
    agent.send(wire.ERROR, id, {"code": "not_found", "message": "no", "errno": 0})
    with pytest.raises(CommandError, match=r"no background command 'a\.1'"):
        process.wait(PATIENCE)


def test_the_list(agent, client):
    answer = {"commands": [ITEM, ITEM | {"command": "b", "exited": exited(3)}]}
    listed, asked = answered(agent, client.background.list, wire.LIST, answer)
    assert asked == {}
    first, second = listed
    assert first == BackgroundCommand(
        id="a.1",
        command="sh \\x01",
        pid=7,
        exit=None,
        stdout_kept=(1, 5),
        stderr_kept=(0, 0),
    )
    assert (second.id, second.running, second.exit.code) == ("b", False, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"command": "a/b"},
        {"command": ""},
        {"argv": "x" * 201},
        {"pid": -1},
        {"output": [0, 0, 0]},
        {"output": [2, 1, 0, 0]},
        {"output": [0, 0, 0, True]},
        {"exited": 3},
        {"exited": {}},
    ],
)
def test_a_list_that_cannot_be_ends_the_connection(agent, client, change):
    error, _ = answered(agent, client.background.list, wire.LIST, {"commands": [ITEM | change]})
    assert isinstance(error, TransportError)
    assert error.code == "transport.protocol"
    until(lambda: client.closed, "the connection goes on")


def test_forgetting(agent, client):
    def forget():
        return client.background.forget("a.1")

    assert answered(agent, forget, wire.FORGET, {}) == (True, {"command": "a.1"})
    refused = {"code": "not_found", "message": "no", "errno": 0}
    assert answered(agent, forget, wire.FORGET, refused, wire.ERROR)[0] is False
    refused["code"] = "running"
    error, _ = answered(agent, forget, wire.FORGET, refused, wire.ERROR)
    assert isinstance(error, CommandError)
    assert error.code == "command.running"


def test_a_lost_connection_ends_the_wait_for_an_answer(agent, client):
    outcome: list[Exception] = []

    def ask():
        try:
            client.background.list()
        except TransportError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    agent.expect(wire.LIST)
    agent.close()
    thread.join(PATIENCE)
    assert len(outcome) == 1


@linux
def test_with_a_real_agent():
    with real_agent() as agent:
        client = agent.client
        command = Command(argv=("/bin/sh", "-c", "echo out; echo err >&2; exit 3"))
        process = Process(command)
        client.start(StartRequest.of(command, detach="a.1"), process)
        assert process.wait(PATIENCE).exit_code == 3
        again = Process(Command(argv=("a.1",)))
        client.attach("a.1", (1, 9), again)
        result = again.wait(PATIENCE)
        assert (result.stdout, result.stderr, result.exit_code) == (b"ut\n", b"", 3)
        (listed,) = client.background.list()
        assert listed.exit is not None
        assert (listed.id, listed.stdout_kept, listed.exit.code) == ("a.1", (0, 4), 3)
        assert client.background.forget("a.1")
        assert client.background.list() == []
