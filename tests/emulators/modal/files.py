"""Files for sandboxes: a store of uploaded content, and paths as seen from inside a root."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import attrs

MAX_LINKS = 40


def resolve(root: Path, path: str) -> Path:
    """The host path of ``path`` as a process whose root is ``root`` would see it.

    Links, also absolute ones and "..", stay inside. What does not exist is kept by name. Raises
    OSError (ELOOP is reported as such) if there are too many links.
    """
    pending = list(PurePosixPath(path).parts)[::-1]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part.startswith("/"):  # PurePosixPath keeps two leading slashes as a root of its own
            done = []
        elif part == "..":
            done = done[:-1]
        else:
            here = root.joinpath(*done, part)
            if not here.is_symlink():
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(f"too many symbolic links: {path}")
            pending.extend(PurePosixPath(os.readlink(here)).parts[::-1])
    return root.joinpath(*done)


def find_program(root: Path, name: str, cwd: str, env: Mapping[str, str]) -> bool:
    """Whether execvp of ``name`` would find an executable file inside ``root``."""
    if not name:
        return False
    if "/" in name:
        candidates = [str(PurePosixPath(cwd, name))]
    else:
        folders = env.get("PATH", "/bin:/usr/bin").split(":")
        candidates = [str(PurePosixPath(cwd, folder, name)) for folder in folders]
    return any(_is_program(resolve(root, candidate)) for candidate in candidates)


def _is_program(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


@attrs.frozen
class MountedFile:
    """One file of a mount: where it goes, which content, which permission bits (0: 0644)."""

    path: str
    sha256: str
    mode: int


class FileStore:
    """Uploaded content by its SHA-256, and mounts, which are lists of files by content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mounts: dict[str, tuple[MountedFile, ...]] = {}

    def has(self, sha256: str) -> bool:
        """Whether that content is there."""
        return self._file(sha256).is_file()

    def put(self, sha256: str, data: bytes) -> None:
        """Keep content. Raises ValueError if it does not have that digest."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError("the content does not have the digest it was announced with")
        self._file(sha256).write_bytes(data)

    def _file(self, sha256: str) -> Path:
        if len(sha256) != 64 or not sha256.isalnum():
            raise ValueError("not a SHA-256 digest")
        return self._folder / sha256

    def add_mount(self, files: Iterable[MountedFile]) -> str:
        """Keep a mount and return its id. Raises ValueError if content of it is missing."""
        kept = tuple(files)
        missing = [file.path for file in kept if not self.has(file.sha256)]
        if missing:
            raise ValueError(f"content was not uploaded: {missing[0]}")
        mount_id = f"mo-{len(self._mounts):022d}"
        self._mounts[mount_id] = kept
        return mount_id

    def has_mount(self, mount_id: str) -> bool:
        """Whether that mount is known."""
        return mount_id in self._mounts

    def place(self, mount_id: str, root: Path) -> None:
        """Write the files of a mount into a root that no process uses yet."""
        for file in self._mounts[mount_id]:
            target = resolve(root, file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._file(file.sha256).read_bytes())
            target.chmod(stat.S_IMODE(file.mode) or 0o644)
