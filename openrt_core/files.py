"""Files in a sandbox, blocking and async.

Paths are absolute or relative to the working folder; they may hold any bytes, as ``os.fsdecode``
gives them. ``user`` says with whose rights, and whose a new file is; None for the sandbox's user.
What fails raises ``FileError`` or one of its kinds, which are the builtin ones too.
"""

from __future__ import annotations

import builtins
import errno
import posixpath
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from openrt_core.base import SandboxBase, encoded
from openrt_core.cancelling import UntilCancelled
from openrt_core.errors import FileMissingError, FileNotDirectoryError, SettingError, file_error
from openrt_core.events import Progress
from openrt_core.local_files import Path, checked_path, local_path
from openrt_core.models import Entry
from openrt_core.tar_reader import DEFAULT_LIMIT

T = TypeVar("T")
User = int | str | None


class Files:
    """Files of a sandbox."""

    def __init__(self, sandbox: SandboxBase) -> None:
        self._sandbox = sandbox
        self._manager = sandbox.manager

    def read(self, path: Path, *, user: User = None) -> bytes:
        """The content of a file."""
        return self._manager.read_file(self._sandbox.open_handle(), self._absolute(path), user)

    def read_text(
        self, path: Path, *, encoding: str = "utf-8", errors: str = "strict", user: User = None
    ) -> str:
        """The content of a file, decoded."""
        return self.read(path, user=user).decode(encoding, errors)

    def write(
        self, path: Path, data: str | bytes, *, mode: int | None = None, user: User = None
    ) -> int:
        """Writes a file, atomically where the runtime can; missing folders above it are made.

        Args:
            path: which.
            data: its whole content; a str is encoded as UTF-8.
            mode: permission bits; None keeps those of a file that is there, else 0o644.
            user: whose it will be.

        Returns:
            The number of bytes.
        """
        full, content = self._absolute(path), encoded(data)
        _check_mode(mode)
        handle = self._sandbox.open_handle()
        written = self._manager.write_file(handle, full, content, mode, user)
        if written != len(content):
            raise file_error(errno.EIO, full, f"{written} of {len(content)} bytes were written")
        return written

    def list(self, path: Path = ".", *, user: User = None) -> builtins.list[Entry]:
        """The entries of a folder, ordered by name."""
        full = self._absolute(path)
        entries = self._manager.list_files(self._sandbox.open_handle(), full, user)
        return sorted(entries, key=lambda entry: entry.name)

    def stat(self, path: Path, *, follow: bool = True, user: User = None) -> Entry:
        """One entry; with ``follow`` a link stands for what it points to."""
        full = self._absolute(path)
        return self._manager.stat_file(self._sandbox.open_handle(), full, follow, user)

    def exists(self, path: Path, *, follow: bool = True, user: User = None) -> bool:
        """Whether it is there."""
        try:
            self.stat(path, follow=follow, user=user)
        except (FileMissingError, FileNotDirectoryError):
            return False
        return True

    def remove(self, path: Path, *, recursive: bool = False, user: User = None) -> None:
        """Removes a file, a link or a folder; one that is not empty only with ``recursive``."""
        full = self._absolute(path)
        self._manager.remove_file(self._sandbox.open_handle(), full, recursive, user)

    def rename(self, path: Path, to: Path, *, user: User = None) -> None:
        """Renames; what was at ``to`` is replaced."""
        full, target = self._absolute(path), self._absolute(to)
        self._manager.rename_file(self._sandbox.open_handle(), full, target, user)

    def mkdir(
        self,
        path: Path,
        *,
        mode: int = 0o755,
        parents: bool = False,
        exist_ok: bool = False,
        user: User = None,
    ) -> None:
        """Makes a folder, with ``parents`` also those above it."""
        full = self._absolute(path)
        _check_mode(mode)
        handle = self._sandbox.open_handle()
        self._manager.make_directory(handle, full, mode, parents, exist_ok, user)

    def upload(
        self,
        local: Path,
        remote: Path,
        *,
        user: User = None,
        progress: Progress | None = None,
    ) -> int:
        """Copies a file or a folder of this machine into the sandbox; see docs/files.md.

        A file goes into ``remote`` when that is a folder. A folder becomes ``remote``, or is merged
        into the folder that is there. Missing folders above are made. Names, contents, permission
        bits, times in seconds, empty folders and links as they are; owners are not kept.

        Args:
            local: what to copy; when it is a link, what that points to.
            remote: where it goes.
            user: with whose rights, and whose it will be.
            progress: called with the bytes of files that are done and, when it is known, their
                total; what it raises ends the upload. The last call has both.

        Returns:
            Bytes of the files.

        Raises:
            FileError: or one of its kinds: of the sandbox.
            OSError: of this machine: nothing there, no right to read it, a FIFO or a device, a file
                that changed while it was read.
            UnsupportedError: a folder, and the runtime cannot feed a command's stdin.
        """
        source, path = local_path(local), self._absolute(remote)
        handle = self._sandbox.open_handle()
        return self._manager.upload(handle, source, path, user, progress)

    def download(
        self,
        remote: Path,
        local: Path,
        *,
        user: User = None,
        limit: int = DEFAULT_LIMIT,
        progress: Progress | None = None,
    ) -> int:
        """Copies a file or a folder of the sandbox to this machine; see docs/files.md.

        The mirror of ``upload``. What the sandbox sends is not trusted: nothing is written but
        below ``local``, no link there is followed, and links in what comes are kept as they are and
        not followed either.

        Args:
            remote: what to copy; when it is a link, what that points to.
            local: where it goes.
            user: with whose rights.
            limit: bytes, of files with their headers; more is an error.
            progress: as for ``upload``.

        Returns:
            Bytes of the files.

        Raises:
            FileError: or one of its kinds: of the sandbox; ``file.archive`` is the code for what
                breaks the rules of docs/files.md.
            OSError: of this machine.
        """
        path, target = self._absolute(remote), local_path(local)
        handle = self._sandbox.open_handle()
        return self._manager.download(handle, path, target, user, limit, progress)

    def _absolute(self, path: Path) -> str:
        # ".." stays: what it means depends on the links in the sandbox.
        text = checked_path(path)
        full = posixpath.join(self._sandbox.workdir, "" if text == "." else text)
        return full.rstrip("/") or "/"


class Runner(Protocol):
    """Runs a blocking function without blocking the event loop."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


class AsyncFiles:
    """Files of a sandbox, awaited; see ``Files``."""

    def __init__(self, sandbox: SandboxBase, run: Runner) -> None:
        self._files = Files(sandbox)
        self._run = run

    async def read(self, path: Path, *, user: User = None) -> bytes:
        """As ``Files.read``."""
        return await self._run(lambda: self._files.read(path, user=user))

    async def read_text(
        self, path: Path, *, encoding: str = "utf-8", errors: str = "strict", user: User = None
    ) -> str:
        """As ``Files.read_text``."""
        return (await self.read(path, user=user)).decode(encoding, errors)

    async def write(
        self, path: Path, data: str | bytes, *, mode: int | None = None, user: User = None
    ) -> int:
        """As ``Files.write``."""
        return await self._run(lambda: self._files.write(path, data, mode=mode, user=user))

    async def list(self, path: Path = ".", *, user: User = None) -> builtins.list[Entry]:
        """As ``Files.list``."""
        return await self._run(lambda: self._files.list(path, user=user))

    async def stat(self, path: Path, *, follow: bool = True, user: User = None) -> Entry:
        """As ``Files.stat``."""
        return await self._run(lambda: self._files.stat(path, follow=follow, user=user))

    async def exists(self, path: Path, *, follow: bool = True, user: User = None) -> bool:
        """As ``Files.exists``."""
        return await self._run(lambda: self._files.exists(path, follow=follow, user=user))

    async def remove(self, path: Path, *, recursive: bool = False, user: User = None) -> None:
        """As ``Files.remove``."""
        await self._run(lambda: self._files.remove(path, recursive=recursive, user=user))

    async def rename(self, path: Path, to: Path, *, user: User = None) -> None:
        """As ``Files.rename``."""
        await self._run(lambda: self._files.rename(path, to, user=user))

    async def mkdir(
        self,
        path: Path,
        *,
        mode: int = 0o755,
        parents: bool = False,
        exist_ok: bool = False,
        user: User = None,
    ) -> None:
        """As ``Files.mkdir``."""
        await self._run(
            lambda: self._files.mkdir(
                path, mode=mode, parents=parents, exist_ok=exist_ok, user=user
            )
        )

    async def upload(
        self,
        local: Path,
        remote: Path,
        *,
        user: User = None,
        progress: Progress | None = None,
    ) -> int:
        """As ``Files.upload``; ``progress`` is called in another thread.

        When it is cancelled it ends at its next step, and cleans up in the background.
        """
        until = UntilCancelled(progress)
        with until:
            return await self._run(
                lambda: self._files.upload(local, remote, user=user, progress=until)
            )

    async def download(
        self,
        remote: Path,
        local: Path,
        *,
        user: User = None,
        limit: int = DEFAULT_LIMIT,
        progress: Progress | None = None,
    ) -> int:
        """As ``Files.download``; ``progress`` is called in another thread.

        When it is cancelled it ends at its next step, and cleans up in the background.
        """
        until = UntilCancelled(progress)
        with until:
            return await self._run(
                lambda: self._files.download(remote, local, user=user, limit=limit, progress=until)
            )


def _check_mode(mode: int | None) -> None:
    if mode is not None and not 0 <= mode <= 0o7777:
        raise SettingError(f"mode is {mode:o}; it takes permission bits.", hint="")
