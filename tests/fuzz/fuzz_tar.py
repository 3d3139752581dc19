"""Hostile archives against the reader of tar archives, by atheris: `nox -s fuzz`.

The reader gives members that stay below their folder and within the limit, or raises FileError.
"""

from __future__ import annotations

import sys
from typing import Final

import atheris

with atheris.instrument_imports(include=["openrt_core.tar_reader", "openrt_core.tar_fields"]):
    from support import tars

    from openrt_core import tar_reader
    from openrt_core.errors import FileError

LIMIT: Final = 64 * 1024
KINDS: Final = [b"0", b"0", b"\0", b"7", b"1", b"2", b"5", b"L", b"K", b"x", b"g", b"3", b"S"]
RECORDS: Final = ["path", "linkpath", "size", "mtime", "comment", "GNU__sparse__major"]

NAMES: Final = [
    b"a",
    b"a/b",
    b"..",
    b"../a",
    b"a/../../b",
    b"/a",
    b"./a/",
    b"a/..",
    b"",
    b"a/" * 300,
]


class Stream:
    """What the sandbox sends, in pieces of any size."""

    def __init__(self, data: atheris.FuzzedDataProvider, archive: bytes) -> None:
        self.archive = archive
        self.at = 0
        self.piece = data.PickValueInList([61, 511, 512, 513, 4096, tar_reader.CHUNK])

    def read(self, most: int) -> bytes:
        assert 0 < most <= tar_reader.CHUNK
        piece = self.archive[self.at : self.at + min(most, self.piece)]
        self.at += len(piece)
        return piece


def number(data: atheris.FuzzedDataProvider) -> int | bytes:
    """A field for a size or a time."""
    form = data.ConsumeIntInRange(0, 3)
    if form == 0:
        return bytes(data.ConsumeBytes(12)).ljust(12, b"\0")
    if form == 1:
        return tars.base256(data.ConsumeIntInRange(-(1 << 62), 1 << 62))
    return int(data.ConsumeIntInRange(0, 3000))


def name(data: atheris.FuzzedDataProvider) -> bytes:
    """A name or a target."""
    if data.ConsumeBool():
        return bytes(data.PickValueInList(NAMES))
    return bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 100)))


def pax(data: atheris.FuzzedDataProvider) -> bytes:
    """The content of an extended header."""
    names = [data.PickValueInList(RECORDS) for _ in range(data.ConsumeIntInRange(0, 3))]
    made = tars.pax(**{key: name(data) for key in names})
    return made + bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 8)))


def member(data: atheris.FuzzedDataProvider) -> bytes:
    """One header, with a right checksum mostly, and its content."""
    kind = data.PickValueInList(KINDS)
    if kind in (b"x", b"g"):
        content = pax(data)
    else:
        content = name(data) + bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 600)))
    size = len(content) if data.ConsumeIntInRange(0, 3) else number(data)
    header = tars.header(
        name(data),
        kind,
        size=size,
        mode=data.ConsumeIntInRange(0, 0o7777),
        mtime=number(data),
        target=name(data),
        magic=data.PickValueInList([tars.GNU, tars.USTAR, bytes(8)]),
        prefix=bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 155))),
    )
    return header + tars.padded(content)


def archive(data: atheris.FuzzedDataProvider) -> bytes:
    """A whole archive, or what is left of one."""
    if not data.ConsumeIntInRange(0, 7):
        return bytes(data.ConsumeBytes(data.remaining_bytes()))
    count = data.ConsumeIntInRange(1, 6)
    made = bytearray(b"".join(member(data) for _ in range(count)) + tars.END)
    if data.ConsumeBool():
        made[data.ConsumeIntInRange(0, len(made) - 1)] = data.ConsumeIntInRange(0, 255)
    if data.ConsumeBool():
        del made[data.ConsumeIntInRange(0, len(made)) :]
    return bytes(made)


def check(member: tar_reader.Member) -> None:
    """What whoever extracts it relies on."""
    for parts in (member.parts, member.target_parts):
        assert not set(parts) & {b"", b".", b".."}
        assert not any(b"/" in part or b"\0" in part for part in parts)
        assert len(parts) <= tar_reader.DEPTH
        assert sum(map(len, parts)) <= tar_reader.NAME_BYTES
    assert 0 <= member.size <= LIMIT
    assert member.size == 0 or member.kind == "file"
    assert 0 <= member.mode <= 0o777
    assert len(member.target) <= tar_reader.NAME_BYTES
    assert b"\0" not in member.target
    assert bool(member.target) == (member.kind == "link")


def test_one_input(raw: bytes) -> None:
    """One archive, read with and without taking the contents."""
    data = atheris.FuzzedDataProvider(raw)
    taken = data.ConsumeBool()
    stream = Stream(data, archive(data))
    reader = tar_reader.TarReader(tar_reader.Source(stream.read), "/remote", LIMIT)
    total, code, said = 0, "file.archive", ""
    try:
        for found in reader:
            check(found)
            total += found.size
            assert total <= LIMIT
            if taken:
                assert sum(map(len, reader.data())) == found.size
    except FileError as error:
        code, said = error.code, str(error)
    assert code == "file.archive"
    assert len(said) < 2000


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
