"""The ways to an agent."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest
from support.agents import PATIENCE, linux, real_agent, start, until

from openrt_agent import FdEndpoint, PushEndpoint
from openrt_core.errors import TransportError


class Pump:
    """An SDK that copies an agent's streams with threads of its own."""

    def __init__(self, read_fd, write_fd):
        self.read_fd, self.write_fd = read_fd, write_fd
        self.endpoint = PushEndpoint(self.send, self.close)
        threading.Thread(target=self.receive, daemon=True).start()

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.write_fd, view) :]

    def receive(self):
        while data := os.read(self.read_fd, 65_536):
            self.endpoint.received(data)
        self.endpoint.ended()
        os.close(self.read_fd)

    def close(self):
        os.close(self.write_fd)


@linux
def test_a_pushed_stream():
    with real_agent(endpoint=lambda r, w: Pump(r, w).endpoint) as agent:
        assert start(agent.client, "echo", "hi").wait(PATIENCE).stdout == b"hi\n"
        data = os.urandom(1 << 20) * 3
        assert start(agent.client, "cat", input=data).wait(PATIENCE).stdout == data
        process = start(agent.client, "sleep", "1000")
        until(lambda: process.pid is not None, "not started")
        agent.process.kill()
        with pytest.raises(TransportError):
            process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def test_a_push_endpoint_alone():
    closed = []
    endpoint = PushEndpoint(lambda data: None, lambda: closed.append(1))
    assert endpoint.receive(10) is None
    endpoint.received(b"abc")
    endpoint.received(b"def")
    assert endpoint.receive(10) == b"abc"
    endpoint.ended(OSError("gone"))
    endpoint.received(b"late")
    assert endpoint.receive(10) == b"def"
    with pytest.raises(TransportError, match="gone"):
        endpoint.receive(10)
    endpoint.close()
    endpoint.close()
    endpoint.ended()
    assert closed == [1]


def test_a_push_endpoint_holds_a_bounded_amount():
    endpoint = PushEndpoint(lambda data: None)
    for _ in range(20):
        endpoint.received(bytes(1 << 20))
    for _ in range(PushEndpoint.MOST >> 20):
        assert endpoint.receive(1 << 20) == bytes(1 << 20)
    with pytest.raises(TransportError, match="more than it was allowed"):
        endpoint.receive(1 << 20)
    endpoint.close()


def test_descriptors_belong_to_the_endpoint():
    read_fd, write_fd = os.pipe()
    closed = []
    endpoint = FdEndpoint(read_fd, write_fd, lambda: closed.append(1))
    assert endpoint.receive(10) is None
    assert endpoint.send(memoryview(b"abc")) == 3
    assert endpoint.receive(10) == b"abc"
    filled = 0
    while taken := endpoint.send(memoryview(bytes(1 << 20))):
        filled += taken
    assert filled > 0
    endpoint.close()
    endpoint.close()
    assert closed == [1]
    for fd in (read_fd, write_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@linux
def test_a_descriptor_that_takes_little_at_a_time():
    class Narrow(FdEndpoint):
        raw_write = False

        def send(self, data):
            return super().send(data[:1000])

        def receive(self, size):
            return super().receive(777)

    with real_agent(endpoint=Narrow) as agent:
        data = os.urandom(300_000)
        assert start(agent.client, "cat", input=data).wait(PATIENCE).stdout == data
        processes = [start(agent.client, "echo", str(n)) for n in range(50)]
        until(lambda: all(p.done for p in processes), "not all ended")
        assert [p.wait().text for p in processes] == [f"{n}\n" for n in range(50)]
