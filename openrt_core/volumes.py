"""Mounts as text: SANDBOX_VOLUMES, and the older WORKSPACE_* variables."""

from __future__ import annotations

import os
import pathlib
import posixpath
import re
from collections.abc import Iterable, Iterator

from openrt_core.errors import VolumeError
from openrt_core.models import Mount, MountMode

MODES: dict[str, MountMode] = {"rw": "rw", "ro": "ro", "overlay": "overlay"}
WORKSPACE = "/workspace"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Folder = str | os.PathLike[str]


def parse(text: str, *, home: Folder | None = None, cwd: Folder | None = None) -> tuple[Mount, ...]:
    """The mounts that a text of the form of SANDBOX_VOLUMES asks for; none for an empty text.

    Args:
        text: items ``host_path:container_path[:mode]``, separated by commas. A host path without a
            slash is the name of
            a volume.
        home: what ``~`` stands for; the user's home folder.
        cwd: what a relative host path is relative to; the current folder.

    Raises:
        VolumeError: it cannot be read; says which item, and at which character it begins.
    """
    if not text.strip():
        return ()
    mounts = []
    for number, (offset, item) in enumerate(_items(text), 1):
        try:
            mounts.append(_mount(item, home, cwd))
        except VolumeError as error:
            raise VolumeError(f"Mount {number} (from character {offset}): {error}") from error
    return checked(mounts)


def format(mounts: Iterable[Mount]) -> str:
    """The text that ``parse`` reads as these mounts.

    Raises:
        VolumeError: none does; a comma or a colon in a path cannot be written.
    """
    mounts = tuple(mounts)
    text = ",".join(f"{m.source}:{m.target}:{m.mode}" for m in mounts)
    if parse(text) != mounts:
        raise VolumeError(f"{text!r} would be read as other mounts.")
    return text


def checked(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """The mounts, when each has a container path of its own.

    Raises:
        VolumeError: two have the same.
    """
    mounts = tuple(mounts)
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise VolumeError(f"Two mounts have the container path {_shown(mount.target)}.")
        seen.add(mount.target)
    return mounts


def from_workspace(
    *,
    base: str | None = None,
    mount_path: str | None = None,
    rewrite: str | None = None,
    target: str = WORKSPACE,
    home: Folder | None = None,
    cwd: Folder | None = None,
) -> tuple[Mount, ...]:
    """The one mount that the deprecated WORKSPACE_* variables ask for, or none.

    The host's folder is, the first that is set: ``base`` (or the current folder) with the text of
    ``rewrite`` before its
    colon replaced by the text behind it; ``mount_path``; ``base``.

    Args:
        base: WORKSPACE_BASE.
        mount_path: WORKSPACE_MOUNT_PATH.
        rewrite: WORKSPACE_MOUNT_REWRITE, ``from:to``.
        target: WORKSPACE_MOUNT_PATH_IN_SANDBOX.
        home: what ``~`` stands for; the user's home folder.
        cwd: what a relative path is relative to; the current folder.

    Raises:
        VolumeError: the variables cannot be read.
    """
    source = mount_path or base
    if rewrite:
        source = _rewritten(_folder(base or ".", home, cwd), rewrite)
    if not source:
        return ()
    return (_checked_mount(_folder(source, home, cwd), target, "rw"),)


def _rewritten(path: str, rewrite: str) -> str:
    before, colon, after = rewrite.partition(":")
    if not before or not colon or ":" in after:
        raise VolumeError(
            f"WORKSPACE_MOUNT_REWRITE is {rewrite!r}; it takes from:to, for example /a:/b.",
            hint="",
        )
    if before not in path:
        raise VolumeError(
            f"WORKSPACE_MOUNT_REWRITE is {rewrite!r}, but {path!r} has no {before!r}.", hint=""
        )
    return path.replace(before, after)


def _items(text: str) -> Iterator[tuple[int, str]]:
    """The items without spaces around them, each with the number of its first character, from 1."""
    offset = 1
    for part in text.split(","):
        yield offset + len(part) - len(part.lstrip()), part.strip()
        offset += len(part) + 1


def _mount(item: str, home: Folder | None, cwd: Folder | None) -> Mount:
    if not item:
        raise VolumeError("it is empty; is there a comma too many?")
    source, *rest = _split(item)
    if not source or not 1 <= len(rest) <= 2:
        raise VolumeError(f"{_shown(item)} is not of the form host_path:container_path[:mode].")
    mode = rest[1] if len(rest) == 2 else "rw"
    if mode not in MODES:
        raise VolumeError(f"the mode {_shown(mode)} is not known; it is rw, ro or overlay.")
    if not _is_name(source):
        source = _folder(source, home, cwd)
    return _checked_mount(source, rest[0], MODES[mode])


def _split(item: str) -> list[str]:
    """The parts between colons, the colon of a drive not counted.

    ``c:/data`` and ``c:/data:ro`` are the volume ``c``, ``c:/dir:/data`` is a drive: only then
    does a second path follow.
    """
    drive = _DRIVE.match(item)
    parts = item[2:].split(":") if drive else item.split(":")
    if drive and (item[2] == "\\" or (len(parts) > 1 and parts[1].startswith("/"))):
        return [item[:2] + parts[0], *parts[1:]]
    return item.split(":")


def _is_name(source: str) -> bool:
    """Whether it names a volume. What is neither a name nor a path is refused."""
    if "/" in source or source in (".", "..", "~") or _DRIVE.match(source):
        return False
    if not _NAME.fullmatch(source):
        raise VolumeError(f"{_shown(source)} is neither a path nor the name of a volume.")
    return True


def _folder(source: str, home: Folder | None, cwd: Folder | None) -> str:
    """The absolute host path. Whether it exists is for the engine's machine to say."""
    if source.startswith("/") or _DRIVE.match(source):
        return source
    if source == "~" or source.startswith("~/"):
        try:
            base = str(pathlib.Path.home()) if home is None else os.fspath(home)
        except RuntimeError as error:
            raise VolumeError(f"{_shown(source)}: the home folder is not known.") from error
        return os.path.normpath(base + source[1:])
    if source.startswith(("~", "$")):
        raise VolumeError(
            f"{_shown(source)} was not expanded by a shell, and openrt does not do it here."
        )
    return os.path.normpath(os.path.join(os.getcwd() if cwd is None else os.fspath(cwd), source))


def _checked_mount(source: str, target: str, mode: MountMode) -> Mount:
    if "\0" in source or "\0" in target:
        raise VolumeError("it holds a NUL.")
    if not target.startswith("/"):
        raise VolumeError(f"the container path {_shown(target)} is not absolute.")
    if ".." in target.split("/"):
        raise VolumeError(f"the container path {_shown(target)} holds a '..'.")
    # normpath keeps two slashes at the start, which POSIX lets mean something else
    path = "/" + posixpath.normpath(target).lstrip("/")
    if path == "/":
        raise VolumeError("nothing can be mounted over the root of the sandbox.")
    return Mount(source, path, mode)


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
