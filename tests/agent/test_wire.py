"""Frames: whatever the agent sends, and however it is torn apart."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrt_agent import wire
from openrt_agent.wire import Decoder, Frame, Piece, Violation


def frame(kind, id, payload):
    return struct.pack(">IBI", len(payload), kind, id) + payload


def cut(data, sizes):
    """``data`` in parts, the given sizes over and over."""
    at = 0
    parts: list[bytes] = []
    while at < len(data):
        size = sizes[len(parts) % len(sizes)]
        parts.append(data[at : at + size])
        at += size
    return parts


def whole(events):
    """Frames, with the pieces of neighbouring DATA joined: where they were cut is of no account."""
    joined: list[Frame | Piece] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Piece) and isinstance(last, Piece) and last[:2] == event[:2]:
            joined[-1] = Piece(event.id, event.stream, last.data + event.data)
        else:
            joined.append(event)
    return joined


FRAMES = st.one_of(
    st.builds(
        Frame,
        st.sampled_from([wire.STARTED, wire.AGENT_CREDIT, wire.EXITED, wire.ERROR, wire.END]),
        st.integers(1, 2**32 - 1),
        st.binary(min_size=1, max_size=300),
    ),
    st.builds(
        Frame,
        st.sampled_from([wire.AGENT_HELLO, wire.FATAL, wire.PONG]),
        st.just(0),
        st.binary(min_size=1, max_size=300),
    ),
    st.builds(
        Piece, st.integers(1, 2**32 - 1), st.integers(0, 255), st.binary(min_size=1, max_size=300)
    ),
)


def encoded(event):
    if isinstance(event, Piece):
        return frame(wire.DATA, event.id, bytes([event.stream]) + event.data)
    return frame(*event)


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_frames_survive_any_cut(frames, sizes):
    decoder = Decoder()
    data = b"".join(map(encoded, frames))
    events = [event for part in cut(data, sizes) for event in decoder.feed(part)]
    assert whole(events) == whole(frames)


@given(st.binary(max_size=400), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_arbitrary_bytes_are_frames_or_a_violation(data, sizes):
    decoder = Decoder()
    try:
        events = [event for part in cut(data, sizes) for event in decoder.feed(part)]
    except Violation:
        return
    for event in events:
        assert isinstance(event, (Frame, Piece))


@pytest.mark.parametrize(
    ("kind", "id", "length"),
    [
        (0x8B, 1, 1),
        (0x02, 1, 1),
        (wire.DATA, 1, wire.CHUNK + 1),
        (wire.DATA, 1, 1),
        (wire.DATA, 0, 2),
        (wire.EXITED, 1, wire.SMALL + 1),
        (wire.EXITED, 0, 2),
        (wire.EXITED, 1, 0),
        (wire.END, 1, wire.LARGE + 1),
        (wire.AGENT_HELLO, 1, 2),
        (wire.END, 1, 0xFFFF_FFFF),
    ],
)
def test_a_header_is_refused_before_its_payload_comes(kind, id, length):
    with pytest.raises(Violation):
        list(Decoder().feed(struct.pack(">IBI", length, kind, id)))


def test_data_of_the_largest_size_is_handed_on_as_it_comes():
    decoder = Decoder()
    header = struct.pack(">IBIB", wire.CHUNK, wire.DATA, 7, 1)
    assert list(decoder.feed(header)) == []
    part = b"x" * 65_536
    (piece,) = decoder.feed(part)
    assert isinstance(piece, Piece)
    assert piece.data is part
    rest = b"y" * (wire.CHUNK - 1 - len(part))
    started = Frame(wire.STARTED, 9, b"abcd")
    assert list(decoder.feed(rest + encoded(started))) == [Piece(7, 1, rest), started]


def test_what_the_client_sends():
    assert wire.encode(wire.CANCEL, 5) == b"\0\0\0\0\x0a\0\0\0\5"
    assert wire.credit(5, 2, 258) == b"\0\0\0\5\5\0\0\0\5\2\0\0\1\2"
    assert wire.ping(1) == b"\0\0\0\x08\x08\0\0\0\0" + b"\0" * 7 + b"\1"
