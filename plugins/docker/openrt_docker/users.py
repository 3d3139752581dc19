"""The users of commands, as a container's label and its handle carry them.

``NAME``, ``UID``, or either with ``:GROUP``, as an image's USER is written. A bare UID is what
SANDBOX_USER_ID says; the one of an image carries a colon behind it (``UID:``), for the engine
gives that one the group 0 where the image has no line for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from openrt_agent.file_client import FileClient
from openrt_agent.requests import User, user_of
from openrt_core.errors import FileError

_PASSWD: Final = "/etc/passwd"
_PASSWD_LIMIT: Final = 4 << 20
"""Bytes of it that are read, as the agent does."""


def of_image(user: str) -> str:
    """The form that carries an image's USER."""
    return f"{user}:" if _number(user) is not None else user


def of_agent(carried: str, has_line: Callable[[int], bool]) -> User | None:
    """Who it is for the agent, which looks up names and what is left out; None for root.

    The agent's protocol has no named groups, and no group beside a named user: those users get
    the groups that the passwd file gives them.

    Args:
        carried: as the label has it.
        has_line: whether the sandbox's passwd file has a line for a uid.
    """
    name, colon, group = carried.partition(":")
    uid, gid = _number(name or "0"), _number(group)
    if uid is not None and gid is None and colon and not group and uid and not has_line(uid):
        gid = 0
    if uid is not None and gid is not None:
        # A group that is told is the only one.
        return {"uid": uid, "gid": gid, "groups": [gid]}
    return user_of(uid if name and uid is not None else name or None)


def has_line(files: FileClient, uid: int) -> bool:
    """Whether the sandbox's passwd file names a uid.

    Raises:
        TransportError, SandboxGoneError
    """
    try:
        text = files.read(_PASSWD, length=_PASSWD_LIMIT)
    except FileError:
        return False
    wanted = str(uid).encode()
    lines = (line.split(b":") for line in text.split(b"\n"))
    return any(len(fields) >= 6 and fields[2] == wanted for fields in lines)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else None
