"""The fields of tar's headers, read without trust."""

from __future__ import annotations

import re
from typing import Final

_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n]+)=")
_TIME: Final = re.compile(rb"(-?[0-9]{1,12})(?:\.([0-9]*))?")
_NAMES: Final = frozenset({b"path", b"linkpath", b"size"})


class FieldError(ValueError):
    """A field that holds something else; the text is the end of a sentence about the archive."""


def octal(field: bytes) -> int:
    """A number in octal digits; none are 0."""
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise FieldError("has a field that is no number")
    return int(match[1] or b"0", 8)


def number(field: bytes) -> int:
    """A number in octal digits or in GNU's base 256, which may be below 0."""
    if not field[0] & 0x80:
        return octal(field)
    if field[0] & 0x40:
        return int.from_bytes(field, "big", signed=True)
    return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))


def pax_size(value: bytes) -> int:
    """A size out of an extended header."""
    if not value.isdigit() or len(value) > 20:
        raise FieldError("has a size that is no number")
    return int(value)


def pax_time(value: bytes) -> int:
    """A time out of an extended header: whole seconds, rounded downwards."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise FieldError("has a time that is no number")
    behind = match[1].startswith(b"-") and (match[2] or b"").strip(b"0")
    return int(match[1]) - (1 if behind else 0)


def pax_records(content: bytes, *, of_all: bool = False) -> dict[bytes, bytes]:
    """The records ``length key=value\\n`` of an extended header.

    Args:
        content: the whole header.
        of_all: whether it is a global one, which gives no names and no sizes.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        match = _RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content) or content[end - 1] != 10:
            raise FieldError("has an extended header that cannot be read")
        if match[2].startswith(b"GNU.sparse"):
            raise FieldError("has a sparse file, which is not taken")
        records[match[2]] = content[match.end() : end - 1]
        at = end
    if of_all and records.keys() & _NAMES:
        raise FieldError("has one name or size for all members")
    return records


def text(field: bytes) -> bytes:
    """What stands before the first NUL."""
    return field.partition(b"\0")[0]


def name(header: bytes) -> bytes:
    """The name in a header; its prefix is in ustar's only, GNU keeps times there."""
    last = text(header[:100])
    prefix = text(header[345:500]) if header[257:265] == b"ustar\x0000" else b""
    return prefix + b"/" + last if prefix else last
