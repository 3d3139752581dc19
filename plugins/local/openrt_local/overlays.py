"""Mounts of mode overlay: what a sandbox writes lies in folders beside, never in the source."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from openrt_core.errors import ProvisionError, VolumeError
from openrt_core.models import Attachment, Mount

KIND: Final = "overlay"
VARIABLE: Final = "SANDBOX_VOLUME_OVERLAYS"


@attrs.frozen
class Layers:
    """The folders of one overlay.

    Attributes:
        upper: what the sandbox wrote, in the form of overlayfs.
        work: overlayfs's own.
    """

    upper: pathlib.Path
    work: pathlib.Path


def default_base() -> pathlib.Path:
    """The folder for all overlays of this user, by the XDG base directory specification."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if not base.startswith("/"):
        base = os.path.expanduser("~/.local/share")
    return pathlib.Path(base, "openrt", "overlays")


def check(mount: Mount, base: pathlib.Path) -> None:
    """Refuses a source that overlayfs cannot take.

    Raises:
        VolumeError
    """
    source = os.path.realpath(mount.source)
    where = f"{mount.source} cannot be an overlay at {mount.target}"
    if not os.path.isdir(source):
        raise VolumeError(f"{where}: it is no folder.", hint="")
    if pathlib.Path(os.path.realpath(base)).is_relative_to(source):
        raise VolumeError(
            f"{where}: what is written to it would lie in itself, in {base}.",
            hint=f"Set {VARIABLE} to a folder outside of it.",
        )
    if os.geteuid() == 0:
        return
    foreign = next(_foreign(source), None)
    if foreign is not None:
        raise VolumeError(
            f"{where}: {foreign} belongs to another user or group, and without root only files of "
            f"your own ({os.geteuid()}:{os.getegid()}) can be written to in an overlay.",
            hint="Mount it ro, run as root, or use another runtime.",
        )


def _foreign(source: str) -> Iterator[str]:
    """The paths that a user namespace with one uid and one gid could not copy up (EOVERFLOW)."""
    mine = (os.geteuid(), os.getegid())
    folders = [source]
    while folders:
        folder = folders.pop()
        found = os.lstat(folder)
        if (found.st_uid, found.st_gid) != mine:
            yield folder
        # What we cannot look into, the sandbox cannot either.
        with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                found = entry.stat(follow_symlinks=False)
                if (found.st_uid, found.st_gid) != mine:
                    yield entry.path


def make(folder: pathlib.Path, attachments: Iterable[Attachment]) -> Mapping[str, Layers]:
    """Makes the folders of a sandbox's overlays; by the mounts' targets.

    Args:
        folder: for all of them, not yet there.
        attachments: those of the sandbox; others are passed over.

    Raises:
        ProvisionError: they cannot be made.
    """
    made = {}
    overlays = [a.mount for a in attachments if a.kind == KIND]
    try:
        for number, mount in enumerate(overlays):
            place = folder / str(number)
            layers = Layers(place / "upper", place / "work")
            place.mkdir(parents=True, mode=0o700)
            folder.chmod(0o700)  # whatever the umask; what is below may have any mode
            layers.upper.mkdir()
            layers.work.mkdir(mode=0o700)
            # The root of an overlay looks as its upper folder does.
            found = os.stat(mount.source)
            if os.geteuid() == 0:
                os.chown(layers.upper, found.st_uid, found.st_gid)
            layers.upper.chmod(stat.S_IMODE(found.st_mode))
            made[mount.target] = layers
    except OSError as error:
        raise ProvisionError(
            f"The folder {folder} for what is written to overlays cannot be made: {error}.",
            hint=f"Set {VARIABLE} to a folder that you may write to.",
        ) from error
    return made


def remove(folder: pathlib.Path) -> None:
    """Removes the folders of a sandbox that has ended, whatever it left in them: folders without
    rights, and nested deeper than a path can say, so that each is moved to the top before it is
    looked into.

    Raises:
        OSError: it cannot be removed.
    """
    if not folder.is_dir() or folder.is_symlink():
        return
    folder.chmod(0o700)
    while names := os.listdir(folder):
        for name in names:
            path = folder / name
            if not stat.S_ISDIR(path.lstat().st_mode):
                path.unlink()
                continue
            path.chmod(0o700)
            for inner in os.listdir(path):
                _take_out(path / inner, folder)
            path.rmdir()
    folder.rmdir()


def _take_out(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Moves a folder up into ``folder``; removes anything else."""
    if stat.S_ISDIR(path.lstat().st_mode):
        path.chmod(0o700)  # a folder that moves is written to
        path.rename(folder / uuid.uuid4().hex)
    else:
        path.unlink()
