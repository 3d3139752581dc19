"""Frames of the agent's protocol (agent/PROTOCOL.md), without any I/O.

What comes from the agent is hostile: every header is checked before a byte of its payload is kept,
    and
the payload of DATA is handed on in pieces as it arrives, so that a decoder never holds more than
one small frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

PROTOCOL: Final = 1
CHUNK: Final = 262_144
"""Most bytes in the payload of DATA and STDIN."""
SMALL: Final = 65_536
LARGE: Final = 1 << 20
REQUEST: Final = 8 << 20
"""Most bytes in the payload of START, FILE and HELLO of the client."""
CONNECTION_CREDIT: Final = 983_040
"""DATA bytes that the agent may send on a new connection."""
INPUT_CREDIT: Final = 262_144
"""STDIN bytes that may be sent for a new id."""
MOST_CREDIT: Final = 1 << 40
OVERDRAFT: Final = 524_288
RING: Final = 1 << 20
"""Bytes that the agent keeps of each output stream of a detached command."""

HELLO: Final = 0x01
START: Final = 0x02
STDIN: Final = 0x03
STDIN_EOF: Final = 0x04
CREDIT: Final = 0x05
SIGNAL: Final = 0x06
RESIZE: Final = 0x07
PING: Final = 0x08
FILE: Final = 0x09
CANCEL: Final = 0x0A
ATTACH: Final = 0x0B
LIST: Final = 0x0C
FORGET: Final = 0x0D
FORWARD: Final = 0x0E

AGENT_HELLO: Final = 0x81
STARTED: Final = 0x82
DATA: Final = 0x83
AGENT_CREDIT: Final = 0x84
EXITED: Final = 0x85
ERROR: Final = 0x86
END: Final = 0x87
FATAL: Final = 0x88
PONG: Final = 0x89
GAP: Final = 0x8A

_HEADER: Final = struct.Struct(">IBI")
_FROM_AGENT: Final = {
    AGENT_HELLO: SMALL,
    STARTED: SMALL,
    DATA: CHUNK,
    AGENT_CREDIT: SMALL,
    EXITED: SMALL,
    ERROR: SMALL,
    END: LARGE,
    FATAL: SMALL,
    PONG: SMALL,
    GAP: SMALL,
}
_OF_CONNECTION: Final = frozenset({AGENT_HELLO, FATAL, PONG})


class Violation(Exception):
    """What came from the agent is not the protocol. The whole connection is given up."""


class Frame(NamedTuple):
    """One whole frame of the agent, of any type but DATA."""

    kind: int
    id: int
    payload: bytes


class Piece(NamedTuple):
    """Bytes out of a DATA frame: 1 or more, perhaps not all of the frame."""

    id: int
    stream: int
    data: bytes


def encode(kind: int, id: int, payload: bytes = b"") -> bytes:
    """One frame of the client."""
    return _HEADER.pack(len(payload), kind, id) + payload


def credit(id: int, stream: int, amount: int) -> bytes:
    """A CREDIT frame; amounts beyond 32 bits are cut, which only ever grants less."""
    return encode(CREDIT, id, struct.pack(">BI", stream, min(amount, 0xFFFF_FFFF)))


def ping(number: int) -> bytes:
    """A PING frame."""
    return encode(PING, 0, struct.pack(">Q", number))


class Decoder:
    """Cuts the agent's bytes into frames, however they were torn apart on the way."""

    __slots__ = ("_body", "_header", "_id", "_kind", "_left", "_stream")

    def __init__(self) -> None:
        self._header = bytearray()  # of a frame whose header was torn apart
        self._kind = 0
        self._id = 0
        self._left = 0  # bytes of the payload still to come; 0 between two frames
        self._stream = -1  # of a DATA frame, once its first byte was seen
        self._body = bytearray()  # of another frame whose payload was torn apart

    def feed(self, chunk: bytes) -> Iterator[Frame | Piece]:
        """The frames and pieces that are complete with ``chunk``.

        Raises:
            Violation: after it the decoder is of no use.
        """
        view = memoryview(chunk)
        at, end = 0, len(chunk)
        while at < end:
            if not self._left:
                at = self._take_header(view, at)
                continue
            if self._kind == DATA and self._stream < 0:
                self._stream = chunk[at]
                self._left -= 1
                at += 1
                continue
            size = min(self._left, end - at)
            self._left -= size
            data = chunk if size == end else bytes(view[at : at + size])
            at += size
            if self._kind == DATA:
                yield Piece(self._id, self._stream, data)
            elif self._left or self._body:
                self._body += data
                if not self._left:
                    whole, self._body = bytes(self._body), bytearray()
                    yield Frame(self._kind, self._id, whole)
            else:
                yield Frame(self._kind, self._id, data)

    def _take_header(self, view: memoryview, at: int) -> int:
        """Reads a header, or as much of it as there is. Where the payload begins."""
        if self._header or len(view) - at < _HEADER.size:
            missing = _HEADER.size - len(self._header)
            self._header += view[at : at + missing]
            at += missing
            if len(self._header) < _HEADER.size:
                return at
            length, kind, number = _HEADER.unpack(self._header)
            self._header.clear()
        else:
            length, kind, number = _HEADER.unpack_from(view, at)
            at += _HEADER.size
        most = _FROM_AGENT.get(kind)
        if most is None:
            raise Violation(f"a frame of unknown type {kind:#x}")
        if not (2 if kind == DATA else 1) <= length <= most:
            raise Violation(f"a frame of type {kind:#x} with {length} bytes")
        if (number == 0) != (kind in _OF_CONNECTION):
            raise Violation(f"a frame of type {kind:#x} with id {number}")
        self._kind, self._id, self._left, self._stream = kind, number, length, -1
        return at
