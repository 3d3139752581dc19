"""Paths and files of this machine, for transfers."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import secrets
import stat
from types import TracebackType
from typing import Any

from openrt_core.errors import SettingError

Path = str | os.PathLike[str]
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def checked_path(path: Path) -> str:
    """A path as text.

    Raises:
        SettingError: it is none.
    """
    text: Any = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise SettingError(f"{text!r} is no path: a text without NUL.", hint="")
    return text


def local_path(path: Path) -> str:
    """A path of this machine made absolute; ".." stays, for what it means depends on links.

    Raises:
        SettingError: it is none.
    """
    return os.path.join(os.getcwd(), checked_path(path)).rstrip("/") or "/"


class LocalFile:
    """A file that appears under its name when it is whole, and not at all when that fails.

    Args:
        target: its path, or a folder that it goes into; missing folders above it are made.
        source: the path in the sandbox, whose last part is its name in a folder.

    Raises:
        OSError: when entered, and from the writing.
    """

    def __init__(self, target: str, source: str) -> None:
        if os.path.isdir(target):
            name = posixpath.basename(source)
            if name in ("", ".", ".."):
                raise OSError(errno.EINVAL, "a file of this name has no place in a folder", source)
            target = os.path.join(target, name)
        self._path = target
        self._new = os.path.join(os.path.dirname(target), f".openrt-{secrets.token_hex(8)}")
        self._descriptor = -1

    def __enter__(self) -> LocalFile:
        _check_replaceable(self._path)
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._descriptor = os.open(self._new, _NEW, 0o600)
        return self

    def write(self, data: memoryview) -> None:
        """Writes all of ``data``."""
        while data:
            data = data[os.write(self._descriptor, data) :]

    def finish(self, mode: int, mtime: int) -> None:
        """Gives it its mode and time, and its name. A link that is there is replaced."""
        os.fchmod(self._descriptor, mode)
        os.utime(self._descriptor, (mtime, mtime))
        os.replace(self._new, self._path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        # When it is finished it has its name, and this one is gone.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._new)


def make_folder(path: str) -> bool:
    """Makes a folder and those above it; False when it is there already.

    Raises:
        NotADirectoryError: something else is there.
        OSError
    """
    if os.path.isdir(path):
        return False
    if os.path.lexists(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mkdir(path, 0o755)
    return True


def mtime_of(found: os.stat_result) -> int:
    """When it changed last, in whole seconds, never before 1970: not every tool takes that."""
    return max(found.st_mtime_ns // 1_000_000_000, 0)


def _check_replaceable(path: str) -> None:
    try:
        # Through a link too: /dev/stdout is one.
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a file that can be replaced", path)
