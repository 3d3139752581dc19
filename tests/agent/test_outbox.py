"""The queue of frames that wait to be sent."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrt_agent.operations import Operation
from openrt_agent.outbox import Outbox


def operation(number):
    handler: Any = None
    return Operation(number, "command", handler, (0, 0))


@pytest.fixture
def pipe():
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    os.set_blocking(read_fd, False)
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_a_frame_goes_out_at_once_when_nothing_waits(pipe):
    outbox = Outbox(pipe[1])
    assert not outbox.put(b"abc", None)
    assert os.read(pipe[0], 10) == b"abc"
    assert outbox.waiting == 0


def test_a_full_pipe_keeps_the_order(pipe):
    outbox = Outbox(pipe[1])
    frames = [bytes([n]) * 50_000 for n in range(8)]
    left = [outbox.put(frame, operation(n)) for n, frame in enumerate(frames)]
    assert left[-1]
    got = b""

    def send(data):
        try:
            return os.write(pipe[1], data)
        except BlockingIOError:
            return 0

    while True:
        try:
            got += os.read(pipe[0], 70_000)
        except BlockingIOError:
            break
        outbox.drain(send)
    assert got == b"".join(frames)
    assert outbox.waiting == 0


@given(
    st.lists(st.binary(min_size=1, max_size=300_000).map(lambda d: d * 3), max_size=6),
    st.lists(st.integers(1, 500_000), min_size=1, max_size=5),
)
def test_whatever_is_taken_at_a_time(frames, sizes):
    outbox, got = Outbox(None), bytearray()
    for frame in frames:
        assert outbox.put(frame, None)
    turn = 0

    def send(data):
        got.extend(data[: sizes[turn % len(sizes)]])
        return min(len(data), sizes[turn % len(sizes)])

    while outbox.waiting:
        outbox.drain(send)
        turn += 1
    assert bytes(got) == b"".join(frames)


def test_what_did_not_go_out_whole_is_told_at_the_end():
    outbox = Outbox(None)
    for n in range(1, 4):
        outbox.put(bytes(100_000), operation(n))
    outbox.put(b"of nobody", None)
    outbox.drain(lambda data: 150_000)
    assert outbox.close() == {2, 3}
    assert not outbox.put(b"late", operation(5))
    assert outbox.drain(len) == (False, False)


def test_a_call_from_within_is_noticed():
    outbox, seen = Outbox(None), []
    outbox.put(b"x", None)

    def send(data):
        seen.append(outbox.is_mine())
        thread = threading.Thread(target=lambda: seen.append(outbox.is_mine()))
        thread.start()
        thread.join()
        return len(data)

    outbox.drain(send)
    assert seen == [True, False]
    assert not outbox.is_mine()
