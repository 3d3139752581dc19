"""A local folder as a stream of tar, with names as they are and without following a link."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shlex
import stat
import sys
import tarfile
from collections.abc import Iterator
from typing import Final

from openrt_core.local_files import mtime_of
from openrt_core.tar_reader import BLOCK, CHUNK, DEPTH

END: Final = bytes(20 * BLOCK)
"""The end of an archive: two blocks of NUL, filled up to a record as tar itself does."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TarWriter:
    """What is in a folder, the folder itself left out, in GNU's format: busybox reads no pax.

    Each folder comes twice: first so that it can be written to, then, after all that is in it, as
    it is. busybox sets modes and times at once, and both would be in the way or wrong after it.
    As another user than root it does not even set the mode of a folder that is there; so those that
    may not be written to are named in a shell script as well, the last member.

    Sockets are left out, as tar does. Files that share an inode come as files of their own.

    Args:
        root: the folder; the one path that is followed through links.
        script: name of the shell script, run in the new folder and removed by who unpacks; it is
            there only when it is needed.

    Attributes:
        done: bytes of files that were read so far.
        changed: the first file that changed its size while it was read, or None: it was cut, or
            filled up with NUL.
    """

    def __init__(self, root: str, script: str) -> None:
        self._root = root
        self._script = script
        self._closed: list[tuple[str, int]] = []
        self.done = 0
        self.changed: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        """The archive without its ``END``, in pieces of at least CHUNK bytes but the last.

        Raises:
            OSError: something cannot be read, or is a FIFO or a device.
        """
        pieces: list[bytes] = []
        size = 0
        whole = itertools.chain(self._folder(self._root, self._root, None, "."), self._modes())
        for piece in whole:
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK:
                yield b"".join(pieces)
                pieces, size = [], 0
        if pieces:
            yield b"".join(pieces)

    def _modes(self) -> Iterator[bytes]:
        """The script, with inner folders before those around them."""
        if self._closed:
            lines = (f"chmod {mode:o} {shlex.quote(name)} || exit\n" for name, mode in self._closed)
            content = os.fsencode("".join(lines))
            yield _header(f"./{self._script}", tarfile.REGTYPE, 0o600, 0, size=len(content))
            yield content + bytes(-len(content) % BLOCK)

    def _folder(self, name: str, path: str, parent: int | None, inner: str) -> Iterator[bytes]:
        """What is in one folder.

        Args:
            name: of the folder, as ``parent`` knows it.
            path: its whole path, for errors.
            parent: descriptor of the folder above; None at the root.
            inner: its name in the archive.
        """
        if inner.count("/") >= DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"more than {DEPTH} folders deep", path)
        flags = _FOLDER if parent is not None else _FOLDER & ~os.O_NOFOLLOW
        with _naming(path), _opened(name, flags, parent) as folder:
            for child in sorted(os.listdir(folder)):
                yield from self._entry(child, f"{path}/{child}", folder, f"{inner}/{child}")

    def _entry(self, name: str, path: str, folder: int, inner: str) -> Iterator[bytes]:
        with _naming(path):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind, mode, mtime = stat.S_IFMT(found.st_mode), found.st_mode & 0o777, mtime_of(found)
            if kind == stat.S_IFDIR:
                yield _header(inner, tarfile.DIRTYPE, mode | 0o700, mtime)
                yield from self._folder(name, path, folder, inner)
                yield _header(inner, tarfile.DIRTYPE, mode, mtime)
                if mode & 0o700 != 0o700:
                    self._closed.append((inner, mode))
            elif kind == stat.S_IFREG:
                yield from self._file(name, path, folder, inner)
            elif kind == stat.S_IFLNK:
                target = os.readlink(name, dir_fd=folder)
                yield _header(inner, tarfile.SYMTYPE, mode, mtime, target=target)
            elif kind != stat.S_IFSOCK:
                raise OSError(errno.EINVAL, "neither a file nor a folder nor a link", path)

    def _file(self, name: str, path: str, folder: int, inner: str) -> Iterator[bytes]:
        with _opened(name, _FILE, folder) as file:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "not a file any more", path)
            mode, mtime = found.st_mode & 0o777, mtime_of(found)
            yield _header(inner, tarfile.REGTYPE, mode, mtime, size=found.st_size)
            left = found.st_size
            while left:
                piece = os.read(file, min(left, CHUNK))
                if not piece:
                    # The size is told already.
                    self._note(path)
                    piece = bytes(min(left, CHUNK))
                left -= len(piece)
                self.done += len(piece)
                yield piece
            if os.fstat(file).st_size != found.st_size:
                self._note(path)
            yield bytes(-found.st_size % BLOCK)

    def _note(self, path: str) -> None:
        if self.changed is None:
            self.changed = path


def _header(
    name: str, kind: bytes, mode: int, mtime: int, *, size: int = 0, target: str = ""
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.mtime = mtime
    info.size = size
    info.linkname = target
    return info.tobuf(tarfile.GNU_FORMAT, sys.getfilesystemencoding(), "surrogateescape")


@contextlib.contextmanager
def _opened(name: str, flags: int, folder: int | None) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors of the system name the whole path: a descriptor and a name say too little."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str) or not os.path.isabs(error.filename):
            error.filename = path
        raise
