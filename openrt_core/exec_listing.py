"""What the scripts for listing and stat print, read without trust."""

from __future__ import annotations

import os
import stat

from openrt_core.models import Entry, EntryType

# Names hold no "/" and no NUL, so these two separate; any other byte may be part of a name.


def parse_entry(name: str, data: bytes) -> Entry:
    """One entry: the numbers, and for a link a NUL and its target.

    Raises:
        ValueError, IndexError: it is something else.
    """
    numbers, _, target = data.partition(b"\0")
    return _entry(name, numbers, os.fsdecode(target))


def parse_listing(data: bytes) -> list[Entry]:
    """Entries: ``numbers/./name/`` each, with links' names and targets between them in NULs.

    Raises:
        ValueError, IndexError: it is something else.
    """
    pieces = data.split(b"\0")
    if len(pieces) % 3 != 1:
        raise ValueError("names and targets of links do not pair")
    targets = {
        name.removeprefix(b"./"): target
        for name, target in zip(pieces[1::3], pieces[2::3], strict=True)
    }
    entries = []
    for piece in pieces[::3]:
        fields = piece.split(b"/")
        if (len(fields) - 1) % 3 or fields[-1].strip():
            raise ValueError("entries are not whole")
        for numbers, name in zip(fields[:-1:3], fields[2::3], strict=True):
            if name in (b"", b".", b".."):
                raise ValueError("no entry is called this")
            target = os.fsdecode(targets.get(name, b""))
            entries.append(_entry(os.fsdecode(name), numbers, target))
    return entries


def _entry(name: str, numbers: bytes, target: str) -> Entry:
    mode, *others = numbers.split()
    bits = int(mode, 16)
    size, mtime, uid, gid = (int(number) for number in others)
    if not (0 <= bits < 1 << 16 and 0 <= size < 1 << 63 and -(1 << 63) <= mtime < 1 << 63):
        raise ValueError("no file has such numbers")
    if not (0 <= uid < 1 << 32 and 0 <= gid < 1 << 32):
        raise ValueError("nobody has such an id")
    return Entry(
        name=name,
        type=_type(bits),
        size=size,
        mode=stat.S_IMODE(bits),
        mtime=float(mtime),
        uid=uid,
        gid=gid,
        target=target if stat.S_ISLNK(bits) else "",
    )


def _type(bits: int) -> EntryType:
    if stat.S_ISREG(bits):
        return "file"
    if stat.S_ISDIR(bits):
        return "dir"
    return "link" if stat.S_ISLNK(bits) else "other"
