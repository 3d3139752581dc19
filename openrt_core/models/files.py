"""Models of files in a sandbox."""

from __future__ import annotations

from typing import Literal

import attrs

EntryType = Literal["file", "dir", "link", "other"]


@attrs.frozen(kw_only=True)
class Entry:
    """One file, folder or link in the sandbox.

    Attributes:
        name: its name (of ``list``) or path (of ``stat``), any bytes as ``os.fsdecode`` gives them.
        type: ``file``, ``dir``, ``link`` or ``other``.
        size: bytes.
        mode: permission bits, as in ``stat.S_IMODE``.
        mtime: seconds since the epoch.
        uid: owner.
        gid: group.
        target: of a link, as it is written there; else "".
    """

    name: str
    type: EntryType
    size: int
    mode: int
    mtime: float
    uid: int
    gid: int
    target: str = ""
