"""Tar archives made by hand, field by field, as no honest tar would write them."""

from __future__ import annotations

import io
import os
import pathlib
import stat
from collections.abc import Callable

from openrt_core.tar_extract import extract
from openrt_core.tar_reader import DEFAULT_LIMIT, Source, TarReader

END = bytes(1024)
GNU = b"ustar  \0"
USTAR = b"ustar\x0000"


def octal(value: int, width: int) -> bytes:
    """A number as tar writes it."""
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int = 12) -> bytes:
    """A number as GNU tar writes what octal digits cannot hold."""
    if value < 0:
        return value.to_bytes(width, "big", signed=True)
    return bytes((0x80,)) + value.to_bytes(width - 1, "big")


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int = 0o644,
    mtime: int | bytes = 1_000_000_000,
    target: bytes = b"",
    magic: bytes = GNU,
    prefix: bytes = b"",
) -> bytes:
    """One header with a right checksum."""
    block = bytearray(512)

    def put(at: int, data: bytes) -> None:
        block[at : at + len(data)] = data

    put(0, name[:100])
    put(100, octal(mode, 8))
    put(108, octal(0, 8))
    put(116, octal(0, 8))
    put(124, size if isinstance(size, bytes) else octal(size, 12))
    put(136, mtime if isinstance(mtime, bytes) else octal(mtime, 12))
    put(148, b" " * 8)
    put(156, kind)
    put(157, target[:100])
    put(257, magic)
    put(345, prefix)
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Content, filled up to whole blocks."""
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"data", **fields: int | bytes) -> bytes:
    """A file with its content."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def folder(name: bytes, mode: int = 0o755) -> bytes:
    """A folder."""
    return header(name, b"5", mode=mode)


def link(name: bytes, target: bytes) -> bytes:
    """A symbolic link."""
    return header(name, b"2", target=target)


def hard(name: bytes, target: bytes) -> bytes:
    """A hard link."""
    return header(name, b"1", target=target)


def extra(kind: bytes, data: bytes) -> bytes:
    """A header before a member: ``L``, ``K``, ``x`` or ``g``."""
    return header(b"././@LongLink", kind, size=len(data)) + padded(data)


def pax(**records: bytes) -> bytes:
    """The content of an extended header; ``__`` in a key stands for a dot."""
    content = b""
    for key, value in records.items():
        body = b" %s=%s\n" % (key.replace("__", ".").encode(), value)
        length = len(body) + 1
        while len(b"%d" % length) + len(body) != length:
            length += 1
        content += b"%d%s" % (length, body)
    return content


def unpack(
    data: bytes,
    root: str | os.PathLike[str],
    *,
    limit: int = DEFAULT_LIMIT,
    made: bool = False,
    read: Callable[[int], bytes] | None = None,
) -> int:
    """Extracts ``data``, or what ``read`` gives, into the folder ``root``."""
    source = Source(read or io.BytesIO(data).read)
    reader = TarReader(source, "/remote", limit)
    return extract(reader, os.fspath(root), lambda done, total: None, made=made)


def snapshot(root: pathlib.Path, *, times: bool = True) -> dict[bytes, tuple[object, ...]]:
    """All that is below a folder, without following a link: kind, mode, content, time."""
    found: dict[bytes, tuple[object, ...]] = {}
    for where, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(where, name)
            info = os.lstat(path)
            mode, when = info.st_mode, info.st_mtime_ns // 10**9 if times else 0
            content: bytes | str = b""
            if stat.S_ISLNK(mode):
                content, mode, when = os.readlink(path), stat.S_IFMT(mode), 0
            elif stat.S_ISREG(mode):
                with open(path, "rb") as opened:
                    content = opened.read()
            found[os.path.relpath(path, os.fsencode(root))] = (oct(mode), content, when)
    return found
