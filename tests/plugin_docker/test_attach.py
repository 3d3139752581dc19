"""The engine's framing, with messages in pieces and of both streams."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

pytest.importorskip("openrt_docker")
from openrt_docker.attach import EngineEndpoint


def message(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    endpoint = EngineEndpoint(ours)
    with theirs:
        yield endpoint, theirs
    endpoint.close()


def test_stdout_is_the_stream_and_stderr_the_log(pair):
    endpoint, engine = pair
    engine.sendall(message(2, b"a warning") + message(1, b"data"))
    assert endpoint.receive(100) == b"data"
    assert endpoint.receive(100) is None
    assert endpoint.log() == b"a warning"


def test_messages_may_come_byte_by_byte(pair):
    endpoint, engine = pair
    got = b""
    for byte in message(1, b"abc") + message(1, b"d"):
        engine.sendall(bytes((byte,)))
        got += endpoint.receive(100) or b""
    assert got == b"abcd"


def test_a_message_larger_than_asked_for_comes_in_parts(pair):
    endpoint, engine = pair
    engine.sendall(message(1, b"abcdef"))
    assert [endpoint.receive(4), endpoint.receive(4), endpoint.receive(4)] == [b"abcd", b"ef", None]


def test_the_end_of_the_connection_is_the_end(pair):
    endpoint, engine = pair
    engine.sendall(message(1, b"last"))
    engine.shutdown(socket.SHUT_WR)
    assert endpoint.receive(100) == b"last"
    assert endpoint.receive(100) == b""


def test_the_log_is_bounded(pair):
    endpoint, engine = pair
    for number in range(100):
        engine.sendall(message(2, b"%03d" % number * 1000))
        assert endpoint.receive(4096) is None
    assert len(endpoint.log()) <= 8192
    assert endpoint.log().endswith(b"099")


def test_close_is_idempotent_and_seen_by_the_engine(pair):
    endpoint, engine = pair
    endpoint.close()
    endpoint.close()
    assert engine.recv(1) == b""


USE = """
import gc, sys
from openrt_core import Sandbox
with Sandbox.create("docker", image=sys.argv[1]) as sandbox:
    sandbox.exec("true", check=True)
del sandbox
gc.collect()
"""


def test_a_closed_stream_leaves_nothing_to_complain_about(runtime):
    # Python 3.13 tells on stderr what goes wrong when a file is collected, older ones with -X dev.
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", USE, runtime.image],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Exception ignored" not in done.stderr
