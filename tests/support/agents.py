"""Agents for tests: the real one as a child of ours, and one that a test plays itself."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from openrt_agent import AgentClient, FdEndpoint, SocketEndpoint, StartRequest, agent_path
from openrt_agent.endpoint import Endpoint
from openrt_core.models import Command
from openrt_core.process import Process

PATIENCE = 60.0
"""Seconds that a test waits for what should come within moments: machines may be loaded."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="the agent runs on Linux only")

_HEADER = struct.Struct(">IBI")


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def start(
    client: AgentClient,
    *argv: str,
    input: bytes | None = None,
    request: dict[str, Any] | None = None,
    **command: Any,
) -> Any:
    """Starts a command as the core does; the Process. Its limit ends a test that hangs."""
    command.setdefault("timeout", PATIENCE)
    asked = Command(argv=argv, stdin=input is not None or command.pop("stdin", False), **command)
    process = Process(asked)
    client.start(StartRequest.of(asked, **(request or {})), process)
    if input is not None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            process.stdin.submit(input)
        process.stdin.close()
    return process


class RealAgent:
    """An agent as a child process, with the client that owns it."""

    def __init__(self, endpoint: Callable[[int, int], Endpoint] = FdEndpoint, **open: Any) -> None:
        self.process = subprocess.Popen(
            [str(agent_path()), "serve", "--socket", "none"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        ends = os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno())
        self.process.stdin.close()
        self.process.stdout.close()
        self.client = AgentClient.open(endpoint(*ends), timeout=PATIENCE, **open)

    def end(self) -> None:
        """Closes the connection; the agent must end by itself."""
        self.client.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def real_agent(**arguments: Any) -> Iterator[RealAgent]:
    """A real agent for one test."""
    agent = RealAgent(**arguments)
    try:
        yield agent
    finally:
        agent.end()


class PlayedAgent:
    """The other end of a client's connection, in the hands of a test."""

    HELLO = {
        "protocol": 1,
        "agent": "played",
        "boot": "00ff",
        "pid": 1,
        "uid": 0,
        "owner": True,
        "arch": "amd64",
    }

    def __init__(self) -> None:
        self.socket, self._theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE)

    def connect(
        self,
        *,
        greet: bool = True,
        timeout: float = PATIENCE,
        on_close: Callable[[], None] | None = None,
        **open: Any,
    ) -> AgentClient:
        """The client; the two greet each other, unless ``greet`` is False."""
        if greet:
            self.send(0x81, 0, self.HELLO)
        client = AgentClient.open(SocketEndpoint(self._theirs, on_close), timeout=timeout, **open)
        kind, id, payload = self.receive()
        assert (kind, id) == (0x01, 0)
        assert json.loads(payload)["protocol"] == 1
        return client

    def send(self, kind: int, id: int, payload: bytes | dict[str, Any]) -> None:
        """Sends one frame."""
        data = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        self.socket.sendall(_HEADER.pack(len(data), kind, id) + data)

    def receive(self) -> tuple[int, int, bytes]:
        """The next frame of the client."""
        length, kind, id = _HEADER.unpack(self._exactly(_HEADER.size))
        return kind, id, self._exactly(length)

    def expect(self, kind: int) -> tuple[int, bytes]:
        """The id and payload of the next frame, which must be of this type."""
        got, id, payload = self.receive()
        assert got == kind, f"{got:#x} with {payload!r}"
        return id, payload

    def closed_by_client(self) -> bool:
        """Whether the client's end is the next that comes."""
        return self.socket.recv(1) == b""

    def close(self) -> None:
        """Ends the stream."""
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the client closed the connection"
            data += part
        return data


def exited(code: int = 0, **changes: Any) -> dict[str, Any]:
    """The payload of EXITED."""
    return {
        "exit_code": code,
        "signal": None,
        "core": False,
        "timed_out": False,
        "killed": False,
        "wall": 0.5,
        "user": 0.25,
        "system": 0.125,
        "max_rss": 4096,
        **changes,
    }


def threads_named(name: str) -> int:
    """How many threads of this process have this name."""
    return sum(thread.name == name for thread in threading.enumerate())
