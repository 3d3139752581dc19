"""Writes a tar archive that nobody vouches for into a folder, and nowhere else.

Each name is followed component by component, from the folder's descriptor, and a symbolic link is
never followed, whether it came from the archive or was there. Files are made anew, so that what a
link or a hard link of the same name stands for is not written to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator

from openrt_core.events import Progress
from openrt_core.tar_reader import Member, TarReader

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of names of folders whose modes wait for the end."""


def extract(reader: TarReader, root: str, progress: Progress, *, made: bool) -> int:
    """Writes all members below ``root``.

    What is there already is kept unless a member has its name. Files and links take the place of
    files and links; folders keep what is in them.

    Args:
        reader: the archive.
        root: a folder; the one path that is followed through links.
        progress: told of the bytes of files so far.
        made: whether the folder itself takes mode and time from the archive.

    Returns:
        Bytes of the files.

    Raises:
        FileError: the archive breaks a rule.
        OSError: of this machine: a folder is where a file is to be, no room is left, ...
    """
    with contextlib.closing(_Tree(root)) as tree:
        extractor = _Extractor(reader, tree, progress)
        for member in reader:
            with _named(root, member.parts):
                extractor.write(member)
        extractor.finish(root, made=made)
    return extractor.done


class _Tree:
    """Descriptors of the folders on the way to the one that was used last."""

    def __init__(self, root: str) -> None:
        self._open = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._names: list[bytes] = []

    def folder(self, parts: tuple[bytes, ...], *, make: bool) -> int:
        """The descriptor of a folder, valid until the next call; the missing ones are made."""
        shared = 0
        while shared < min(len(parts), len(self._names)) and parts[shared] == self._names[shared]:
            shared += 1
        while len(self._names) > shared:
            self._names.pop()
            os.close(self._open.pop())
        for part in parts[shared:]:
            self._open.append(_enter(self._open[-1], part, make))
            self._names.append(part)
        return self._open[-1]

    def close(self) -> None:
        """Closes all."""
        while self._open:
            os.close(self._open.pop())


class _Extractor:
    def __init__(self, reader: TarReader, tree: _Tree, progress: Progress) -> None:
        self._reader = reader
        self._tree = tree
        self._progress = progress
        self._folders: dict[tuple[bytes, ...], tuple[int, int]] = {}
        self._kept = 0
        # Device and inode in one number each: a million of them must fit into memory.
        self._files: set[int] = set()
        self.done = 0

    def write(self, member: Member) -> None:
        """Writes one member."""
        if member.kind == "dir":
            self._tree.folder(member.parts, make=True)
            if member.parts not in self._folders:
                self._kept += sum(map(len, member.parts)) + len(member.parts)
                if self._kept > _KEPT_BYTES:
                    raise self._reader.fault("has too many folders")
            self._folders[member.parts] = (member.mode, member.mtime)
            return
        if not member.parts:
            raise self._reader.fault("has a member without a name")
        parent = self._tree.folder(member.parts[:-1], make=True)
        name = member.parts[-1]
        if member.kind == "file":
            _replacing(parent, name, lambda new: self._file(parent, new, member))
        elif member.kind == "link":
            _replacing(parent, name, lambda new: os.symlink(member.target, new, dir_fd=parent))
        else:
            self._hard_link(parent, name, member)

    def finish(self, root: str, *, made: bool) -> None:
        """Gives folders their modes and times: innermost first, while all can still be entered."""
        if not made:
            self._folders.pop((), None)
        for parts in sorted(self._folders, reverse=True):
            with _named(root, parts):
                mode, mtime = self._folders[parts]
                folder = self._tree.folder(parts, make=False)
                os.fchmod(folder, mode)
                os.utime(folder, (mtime, mtime))

    def _file(self, parent: int, name: bytes, member: Member) -> None:
        target = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            for piece in self._reader.data():
                self.done += len(piece)
                while piece:
                    piece = piece[os.write(target, piece) :]
                self._progress(self.done, None)
            os.fchmod(target, member.mode)
            os.utime(target, (member.mtime, member.mtime))
            self._files.add(_identity(os.fstat(target)))
        except BaseException:
            os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(target)

    def _hard_link(self, parent: int, name: bytes, member: Member) -> None:
        """A link to a file that came out of this archive before, and to nothing else."""
        # The tree holds one way at a time, and the next is another.
        own = os.dup(parent)
        try:
            *folder, last = member.target_parts or (b"",)
            source = self._tree.folder(tuple(folder), make=False)
            found = os.stat(last, dir_fd=source, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or _identity(found) not in self._files:
                raise FileNotFoundError

            def link(new: bytes) -> None:
                os.link(last, new, src_dir_fd=source, dst_dir_fd=own, follow_symlinks=False)

            if not _is_same(own, name, found):
                _replacing(own, name, link)
        except (FileNotFoundError, NotADirectoryError):
            raise self._reader.fault(
                "has a hard link to what is no file of it", b"/".join(member.target_parts)
            ) from None
        finally:
            os.close(own)


def _enter(parent: int, name: bytes, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _replacing(parent: int, name: bytes, write: Callable[[bytes], object]) -> None:
    """Has ``write`` make the entry; over one that is there only once it is whole."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        write(name)
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    new = b".openrt-" + secrets.token_hex(8).encode()
    write(new)
    try:
        os.rename(new, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(new, dir_fd=parent)
        raise


def _is_same(parent: int, name: bytes, file: os.stat_result) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), file)
    return False


def _identity(info: os.stat_result) -> int:
    return info.st_dev << 64 | info.st_ino


@contextlib.contextmanager
def _named(root: str, parts: tuple[bytes, ...]) -> Iterator[None]:
    """Errors of the system name the whole path: a descriptor and a name say too little."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str):
            error.filename = os.path.join(root, *(os.fsdecode(part) for part in parts))
            error.filename2 = None
        raise
