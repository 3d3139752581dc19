"""A tar archive that nobody vouches for, read member by member out of a stream.

GNU, ustar, pax and the old format are read, as far as GNU tar, busybox and bsdtar write them with
``tar -c``. All else, and whatever passes a limit, is an error: devices, FIFOs, sparse files, names
that lead out of the folder. Memory is bounded whatever the archive says.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from typing import Final, Literal

import attrs

from openrt_core.errors import FileError

BLOCK: Final = 512
CHUNK: Final = 1024 * 1024
"""Bytes that are read at once."""
MEMBERS: Final = 1_000_000
NAME_BYTES: Final = 4096
"""Bytes of one name, and of the target of a link."""
DEPTH: Final = 256
"""Folders in one name."""
PAX_BYTES: Final = 64 * 1024
"""Bytes of one extended header."""
TRAILER_BYTES: Final = CHUNK
"""Bytes that may follow the end of the archive: writers fill up their last record."""
DEFAULT_LIMIT: Final = 16 * 1024**3
"""Bytes of all files together, names and extended headers included."""

Kind = Literal["file", "dir", "link", "hard"]

_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard",
    b"2": "link",
    b"5": "dir",
}
_REFUSED: Final = {
    b"3": "a device",
    b"4": "a device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}
_EXTRA: Final = {b"L": NAME_BYTES + 1, b"K": NAME_BYTES + 1, b"x": PAX_BYTES, b"g": PAX_BYTES}
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n]+)=")
_TIME: Final = re.compile(rb"(-?[0-9]{1,12})(?:\.([0-9]*))?")
_LONGEST: Final = 1 << 40
"""Seconds since the epoch that are taken for a time."""


@attrs.frozen
class Member:
    """One member.

    Attributes:
        kind: ``file``, ``dir``, ``link`` (symbolic) or ``hard`` (a hard link).
        parts: its name's components, without ``.``; none for the folder itself.
        size: bytes of content, of a file only.
        mode: permission bits, without setuid, setgid and sticky.
        mtime: seconds since the epoch.
        target: what a symbolic link says.
        target_parts: what a hard link names, as ``parts``.
    """

    kind: Kind
    parts: tuple[bytes, ...]
    size: int
    mode: int
    mtime: int
    target: bytes = b""
    target_parts: tuple[bytes, ...] = ()


class Source:
    """A stream of which exact amounts are taken.

    Args:
        read: gives at most so many bytes, at least one unless it is at the end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._rest = memoryview(b"")

    def some(self, most: int) -> memoryview:
        """At most so many bytes; none at the end."""
        if not self._rest:
            self._rest = memoryview(self._read(CHUNK))
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    def exactly(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""
        first = self.some(size)
        pieces, have = [first], len(first)
        while pieces[-1] and have < size:
            pieces.append(self.some(size - have))
            have += len(pieces[-1])
        return b"".join(pieces)


class TarReader:
    """The members of an archive, in their order, each once.

    Args:
        read: as for ``Source``.
        path: what the archive is of, for errors.
        limit: bytes of all files together.

    Raises:
        FileError: from the iteration; its code is ``file.archive``.
    """

    def __init__(
        self, read: Callable[[int], bytes], path: str, limit: int = DEFAULT_LIMIT
    ) -> None:
        self._source = Source(read)
        self._path = path
        self._budget = limit
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        count = 0
        extras: dict[bytes, bytes] = {}
        while (header := self._header()) is not None:
            kind = header[156:157]
            if kind in _EXTRA:
                self._extra(header, kind, extras)
                continue
            count += 1
            if count > MEMBERS:
                raise self.fault(f"has more than {MEMBERS} members", number=errno.EFBIG)
            yield self._member(header, kind, extras)
            extras = {}
        if extras:
            raise self.fault("ends within a member")
        self._trailer()

    def data(self) -> Iterator[memoryview]:
        """The content of the member that came last, in pieces."""
        while self._left:
            piece = self._source.some(self._left)
            if not piece:
                raise self.fault("is cut off")
            self._left -= len(piece)
            yield piece

    def fault(self, what: str, name: bytes = b"", number: int = errno.EBADMSG) -> FileError:
        """An error about this archive."""
        about = f" ({name[:200]!r})" if name else ""
        return FileError(
            f"What the sandbox sends of {self._path!r} {what}{about}.",
            path=self._path,
            number=number,
            code="file.archive",
        )

    def _header(self) -> bytes | None:
        """The next header; None at the end."""
        for _ in self.data():
            pass
        skipped = self._source.exactly(self._padding)
        block = self._source.exactly(BLOCK)
        if len(skipped) < self._padding or len(block) < BLOCK:
            raise self.fault("is cut off")
        self._padding = 0
        if not any(block):
            return None
        # The checksum is counted as if its own field held spaces.
        if self._octal(block[148:156], "checksum") != sum(block) - sum(block[148:156]) + 8 * 32:
            raise self.fault("is no tar archive")
        self._spend(BLOCK)
        return block

    def _trailer(self) -> None:
        left = TRAILER_BYTES
        while piece := self._source.some(CHUNK):
            left -= len(piece)
            if left < 0 or piece.tobytes().strip(b"\0"):
                raise self.fault("goes on after its end")

    def _extra(self, header: bytes, kind: bytes, extras: dict[bytes, bytes]) -> None:
        size = self._number(header[124:136], "size")
        if size > _EXTRA[kind]:
            raise self.fault("has a name or a header that is too long", number=errno.ENAMETOOLONG)
        if kind in extras:
            raise self.fault("has two extended headers for one member")
        self._spend(size)
        padded = size + -size % BLOCK
        content = self._source.exactly(padded)
        if len(content) < padded:
            raise self.fault("is cut off")
        content = content[:size]
        extras[kind] = content
        if kind == b"g" and self._pax(content).keys() & {b"path", b"linkpath", b"size"}:
            raise self.fault("has one name or size for all members")

    def _member(self, header: bytes, kind: bytes, extras: dict[bytes, bytes]) -> Member:
        pax = self._pax(extras.get(b"x", b""))
        name = pax.get(b"path") or _text(extras.get(b"L", b"")) or _name(header)
        target = pax.get(b"linkpath") or _text(extras.get(b"K", b"")) or _text(header[157:257])
        if kind not in _KINDS:
            what = _REFUSED.get(kind, f"a member of the unknown type {kind!r}")
            raise self.fault(f"has {what}, which is not taken", name)
        known = _KINDS[kind]
        if known == "file" and name.endswith(b"/"):
            known = "dir"
        size = self._size(pax[b"size"]) if b"size" in pax else self._number(header[124:136], "size")
        if size and known != "file":
            raise self.fault("has content where none belongs", name)
        self._spend(size)
        self._left, self._padding = size, -size % BLOCK
        return Member(
            kind=known,
            parts=self._parts(name),
            size=size,
            mode=self._octal(header[100:108], "mode") & 0o777,
            mtime=self._time(header, pax),
            target=self._target(target, name) if known == "link" else b"",
            target_parts=self._parts(target) if known == "hard" else (),
        )

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise self.fault("is more than the limit of bytes", number=errno.EFBIG)

    # Names ----------------------------------------------------------------------------------------

    def _parts(self, name: bytes) -> tuple[bytes, ...]:
        if len(name) > NAME_BYTES:
            raise self.fault("has a name that is too long", name, errno.ENAMETOOLONG)
        if not name or name.startswith(b"/") or b"\0" in name:
            raise self.fault("has a name that is not below the folder", name)
        parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
        if b".." in parts:
            raise self.fault("has a name that leads out of the folder", name)
        if len(parts) > DEPTH:
            raise self.fault("has a name that is too deep", name, errno.ENAMETOOLONG)
        return parts

    def _target(self, target: bytes, name: bytes) -> bytes:
        if not target or len(target) > NAME_BYTES or b"\0" in target:
            raise self.fault("has a link with an impossible target", name)
        return target

    # Numbers --------------------------------------------------------------------------------------

    def _octal(self, field: bytes, what: str) -> int:
        match = _OCTAL.fullmatch(field)
        if match is None:
            raise self.fault(f"has a {what} that is no number")
        return int(match[1] or b"0", 8)

    def _number(self, field: bytes, what: str) -> int:
        """Octal, or GNU's base 256, never below 0."""
        if not field[0] & 0x80:
            return self._octal(field, what)
        if field[0] & 0x40:
            raise self.fault(f"has a {what} below 0")
        return int.from_bytes(bytes((field[0] & 0x3F,)) + field[1:], "big")

    def _size(self, value: bytes) -> int:
        if not value.isdigit() or len(value) > 20:
            raise self.fault("has a size that is no number")
        return int(value)

    def _time(self, header: bytes, pax: dict[bytes, bytes]) -> int:
        if b"mtime" in pax:
            match = _TIME.fullmatch(pax[b"mtime"])
            if match is None:
                raise self.fault("has a time that is no number")
            # To the second, downwards.
            behind = match[1].startswith(b"-") and (match[2] or b"").strip(b"0")
            seconds = int(match[1]) - (1 if behind else 0)
        else:
            field = header[136:148]
            if field[0] & 0xC0 == 0xC0:
                seconds = int.from_bytes(field, "big", signed=True)
            else:
                seconds = self._number(field, "time")
        if abs(seconds) > _LONGEST:
            raise self.fault("has a time that is no time")
        return seconds

    def _pax(self, content: bytes) -> dict[bytes, bytes]:
        """The records ``length key=value\\n`` of an extended header."""
        records: dict[bytes, bytes] = {}
        at = 0
        while at < len(content):
            match = _RECORD.match(content, at)
            end = at + int(match[1]) if match else 0
            if match is None or not match.end() < end <= len(content) or content[end - 1] != 10:
                raise self.fault("has an extended header that cannot be read")
            if match[2].startswith(b"GNU.sparse"):
                raise self.fault("has a sparse file, which is not taken")
            records[match[2]] = content[match.end() : end - 1]
            at = end
        return records


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    """The name in the header; its prefix is in ustar's only, GNU keeps times there."""
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:265] == b"ustar\x0000" else b""
    return prefix + b"/" + name if prefix else name
