"""A tar archive that nobody vouches for, read member by member out of a stream.

GNU, ustar, pax and the old format are read, as far as GNU tar, busybox and bsdtar write them with
``tar -c``. All else, and whatever passes a limit, is an error: devices, FIFOs, sparse files, names
that lead out of the folder. Memory is bounded whatever the archive says.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Final, Literal

import attrs

from openrt_core import tar_fields as fields
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
        source: where it comes from.
        path: what the archive is of, for errors.
        limit: bytes of all files together.

    Raises:
        FileError: from the iteration; its code is ``file.archive``.
    """

    def __init__(self, source: Source, path: str, limit: int = DEFAULT_LIMIT) -> None:
        self._source = source
        self._path = path
        self._budget = limit
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        try:
            for count, (header, extras) in enumerate(self._headers(), 1):
                if count > MEMBERS:
                    raise self.fault(f"has more than {MEMBERS} members", number=errno.EFBIG)
                yield self._member(header, extras)
        except fields.FieldError as error:
            raise self.fault(str(error)) from None
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

    def _headers(self) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Headers of members, each with what extended headers before it hold."""
        extras: dict[bytes, bytes] = {}
        while (header := self._header()) is not None:
            kind = header[156:157]
            if kind in _EXTRA:
                if kind in extras:
                    raise self.fault("has two extended headers for one member")
                extras[kind] = self._extra(header, _EXTRA[kind])
            else:
                yield header, extras
                extras = {}
        if extras:
            raise self.fault("ends within a member")

    def _header(self) -> bytes | None:
        """The next header; None at the end."""
        for _ in self.data():
            pass
        self._take(self._padding)
        block = self._take(BLOCK)
        self._padding = 0
        if not any(block):
            return None
        # The checksum is counted as if its own field held spaces.
        if fields.octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
            raise self.fault("is no tar archive")
        self._spend(BLOCK)
        return block

    def _extra(self, header: bytes, most: int) -> bytes:
        size = fields.number(header[124:136])
        if not 0 <= size <= most:
            raise self.fault("has a name or a header that is too long", number=errno.ENAMETOOLONG)
        self._spend(size)
        return self._take(size + -size % BLOCK)[:size]

    def _take(self, size: int) -> bytes:
        taken = self._source.exactly(size) if size else b""
        if len(taken) < size:
            raise self.fault("is cut off")
        return taken

    def _trailer(self) -> None:
        left = TRAILER_BYTES
        while piece := self._source.some(CHUNK):
            left -= len(piece)
            if left < 0 or piece.tobytes().strip(b"\0"):
                raise self.fault("goes on after its end")

    def _member(self, header: bytes, extras: dict[bytes, bytes]) -> Member:
        kind = header[156:157]
        fields.pax_records(extras.get(b"g", b""), of_all=True)
        pax = fields.pax_records(extras.get(b"x", b""))
        name = pax.get(b"path") or fields.text(extras.get(b"L", b"")) or fields.name(header)
        target = pax.get(b"linkpath") or fields.text(extras.get(b"K", b""))
        target = target or fields.text(header[157:257])
        if kind not in _KINDS:
            what = _REFUSED.get(kind, f"a member of the unknown type {kind!r}")
            raise self.fault(f"has {what}, which is not taken", name)
        known = _KINDS[kind]
        if known == "file" and name.endswith(b"/"):
            known = "dir"
        size = fields.pax_size(pax[b"size"]) if b"size" in pax else fields.number(header[124:136])
        mtime = (
            fields.pax_time(pax[b"mtime"]) if b"mtime" in pax else fields.number(header[136:148])
        )
        if size < 0 or (size and known != "file") or abs(mtime) > _LONGEST:
            raise self.fault("has an impossible size or time", name)
        self._spend(size)
        self._left, self._padding = size, -size % BLOCK
        return Member(
            kind=known,
            parts=self._parts(name),
            size=size,
            mode=fields.octal(header[100:108]) & 0o777,
            mtime=mtime,
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
