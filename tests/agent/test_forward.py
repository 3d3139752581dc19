"""Ports through a real agent, whose network is the test's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import threading
import time

import pytest
from support.agents import PATIENCE, PlayedAgent, linux, real_agent, start, threads_named

from openrt_agent import forward, wire
from openrt_core.errors import TransportError

MIB = 1 << 20


@pytest.fixture
def client():
    with real_agent() as agent:
        yield agent.client


@contextlib.contextmanager
def server(serve):
    """A port at which each connection is served by ``serve(stream)`` in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    stream, _ = listener.accept()
                except OSError:
                    return
                stream.settimeout(PATIENCE)
                threading.Thread(target=handle, args=(stream,), daemon=True).start()

        def handle(stream):
            with stream:
                serve(stream)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def read_all(stream):
    data = bytearray()
    while part := stream.recv(MIB):
        data += part
    return bytes(data)


def connect(client, port):
    return socket.create_connection(client.forward(port), timeout=PATIENCE)


@linux
def test_both_ways_with_the_end_of_each(client):
    def serve(stream):
        digest = hashlib.sha256(read_all(stream)).hexdigest()
        stream.sendall(digest.encode())

    data = os.urandom(5 * MIB)
    with server(serve) as port, connect(client, port) as stream:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream).decode() == hashlib.sha256(data).hexdigest()


@linux
def test_much_from_the_sandbox_is_bounded_by_its_reader(client):
    data = os.urandom(64 * MIB)  # more than all the buffers on the way
    sent: list[int] = []

    def serve(stream):
        view = memoryview(data)
        while view:
            n = stream.send(view[:65_536])
            sent.append(n)
            view = view[n:]

    with server(serve) as port, connect(client, port) as stream:
        assert stream.recv(1) == data[:1]
        # Nobody reads: the rest waits in the sandbox, and a sibling is not held up.
        assert start(client, "echo", "hello").wait(PATIENCE).stdout == b"hello\n"
        assert sum(sent) < len(data)
        assert read_all(stream) == data[1:]


@linux
def test_many_at_once(client):
    def serve(stream):
        stream.sendall(stream.recv(100) * 2)

    with server(serve) as port:
        streams = [connect(client, port) for _ in range(50)]
        for number, stream in enumerate(streams):
            stream.sendall(b"%d" % number)
        assert [read_all(stream) for stream in streams] == [b"%d" % n * 2 for n in range(50)]
        for stream in streams:
            stream.close()
    assert threads_named("openrt-io") == 1


@linux
def test_a_client_that_goes_ends_the_other_side(client):
    ended = threading.Event()

    def serve(stream):
        stream.sendall(b"x")
        read_all(stream)
        ended.set()

    with server(serve) as port:
        stream = connect(client, port)
        assert stream.recv(1) == b"x"
        stream.close()
        assert ended.wait(PATIENCE)


@linux
def test_nothing_listens(client):
    with server(lambda stream: None) as port:
        pass
    with connect(client, port) as stream, pytest.raises(ConnectionResetError):
        read_all(stream)


@linux
def test_one_too_many_waits_for_its_turn(client, monkeypatch):
    monkeypatch.setattr(forward, "MOST", 2)

    def serve(stream):
        stream.sendall(stream.recv(1))

    with server(serve) as port:
        streams = [connect(client, port) for _ in range(3)]
        for stream in streams:
            stream.sendall(b"x")
        for stream in streams:
            assert read_all(stream) == b"x"
            stream.close()


@linux
def test_they_end_with_the_connection(client):
    def serve(stream):
        stream.sendall(b"x")
        read_all(stream)

    with server(serve) as port:
        address = client.forward(port)
        assert client.forward(port) == address
        with connect(client, port) as stream:
            assert stream.recv(1) == b"x"
            client.close()
            with pytest.raises(ConnectionResetError):
                read_all(stream)
        end = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < end
            try:
                socket.create_connection(address, timeout=PATIENCE).close()
            except ConnectionRefusedError:
                break
            time.sleep(0.01)
        with pytest.raises(TransportError):
            client.forward(port)


def test_input_keeps_to_its_credit():
    with (
        contextlib.closing(PlayedAgent()) as agent,
        contextlib.closing(agent.connect()) as client,
        connect(client, 80) as stream,
    ):
        id, payload = agent.expect(wire.FORWARD)
        assert payload == b'{"port":80,"credit":[1048576,0]}'
        writer = threading.Thread(target=stream.sendall, args=(bytes(wire.INPUT_CREDIT + 100),))
        writer.start()
        got = 0
        while got < wire.INPUT_CREDIT:
            frame_id, data = agent.expect(wire.STDIN)
            assert frame_id == id
            got += len(data)
        assert got == wire.INPUT_CREDIT
        for amount in (10, 90):
            agent.send(wire.AGENT_CREDIT, id, struct.pack(">I", amount))
            assert agent.expect(wire.STDIN) == (id, bytes(amount))
        agent.send(wire.DATA, id, b"\1answer")
        agent.send(wire.END, id, {})
        assert read_all(stream) == b"answer"
        writer.join(PATIENCE)
