"""Payloads that come from the agent, all of them hostile: types, ranges and lengths are checked."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from types import NoneType
from typing import Any, Final, Literal, cast

import attrs

from openrt_agent import wire
from openrt_agent.wire import Violation
from openrt_core.models import BackgroundCommand, Entry, EntryType, Exit, Usage

_U32: Final = struct.Struct(">I")
_GAP: Final = struct.Struct(">BQ")
_MOST: Final = (1 << 63) - 1
_ENTRY_TYPES: Final = frozenset({"file", "dir", "link", "other"})


@attrs.frozen(kw_only=True)
class Hello:
    """What the agent says of itself. Hostile, but within its types and bounds.

    Attributes:
        agent: its version.
        boot: hex, random, of this agent process.
        pid: its process id in the sandbox.
        uid: its user.
        owner: whether this connection is its owner's.
        arch: as Go names it: ``amd64`` or ``arm64``.
    """

    agent: str
    boot: str
    pid: int
    uid: int
    owner: bool
    arch: str


@attrs.frozen(kw_only=True)
class AgentError:
    """Why the agent could not do something.

    Attributes:
        code: as in PROTOCOL.md.
        message: cleaned.
        errno: 0 when there is none.
    """

    code: str
    message: str
    errno: int


def clean(text: str, most: int = 500) -> str:
    """A hostile text for an error message: cut, and without control characters."""
    shown = text[:most] + ("…" if len(text) > most else "")
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown
    )


def from_json(payload: bytes) -> dict[str, Any]:
    """A JSON object of the agent's."""
    try:
        value = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Violation("a payload that is no JSON") from None
    if not isinstance(value, dict):
        raise Violation("a payload that is no JSON object")
    return value


def _text(value: Mapping[str, Any], key: str, most: int) -> str:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > most:
        raise Violation(f"{key} is no text of at most {most} characters")
    return text


def _integer(value: Mapping[str, Any], key: str, least: int = 0, most: int = _MOST) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise Violation(f"{key} is no whole number from {least} to {most}")
    return number


def _seconds(value: Mapping[str, Any], key: str) -> float:
    number = value.get(key)
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        raise Violation(f"{key} is no number")
    # the bound is also what refuses infinity, NaN and integers beyond what a float holds
    if not 0 <= number <= 1e12 or not math.isfinite(number):
        raise Violation(f"{key} is out of range")
    return float(number)


def _flag(value: Mapping[str, Any], key: str) -> bool:
    flag = value.get(key)
    if not isinstance(flag, bool):
        raise Violation(f"{key} is neither true nor false")
    return flag


def from_bytes(text: str) -> str:
    """A byte string of the protocol as ``os.fsdecode`` would give it."""
    try:
        return text.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Violation("a byte string with a character beyond U+00FF") from None


def parse_hello(payload: bytes) -> Hello:
    """HELLO of the agent."""
    value = from_json(payload)
    protocol = _integer(value, "protocol")
    if protocol != wire.PROTOCOL:
        raise Violation(f"the agent speaks version {protocol}, this client {wire.PROTOCOL}")
    boot = _text(value, "boot", 128)
    if not re.fullmatch("[0-9a-f]+", boot):
        raise Violation("boot is no hex number")
    return Hello(
        agent=clean(_text(value, "agent", 100)),
        boot=boot,
        pid=_integer(value, "pid", most=0xFFFF_FFFF),
        uid=_integer(value, "uid", most=0xFFFF_FFFF),
        owner=_flag(value, "owner"),
        arch=clean(_text(value, "arch", 32)),
    )


def parse_number(payload: bytes) -> int:
    """The one u32 of STARTED and CREDIT."""
    if len(payload) != _U32.size:
        raise Violation(f"{len(payload)} bytes where a number of 4 belongs")
    number: int = _U32.unpack(payload)[0]
    return number


def parse_gap(payload: bytes) -> tuple[int, int]:
    """The stream and the number of bytes of GAP."""
    if len(payload) != _GAP.size:
        raise Violation(f"a gap in {len(payload)} bytes")
    stream, amount = _GAP.unpack(payload)
    if stream not in (1, 2) or not 1 <= amount <= _MOST:
        raise Violation("a gap out of range")
    return stream, amount


def parse_exited(payload: bytes) -> Exit:
    """How a command ended."""
    return _exit(from_json(payload))


def _exit(value: Mapping[str, Any]) -> Exit:
    code = signal = None
    if value.get("exit_code") is not None:
        code = _integer(value, "exit_code", most=255)
    if value.get("signal") is not None:
        signal = _integer(value, "signal", least=1, most=127)
    if (code is None) == (signal is None):
        raise Violation("a command that ended in two ways, or in none")
    return Exit(
        code=code,
        signal=signal,
        timed_out=_flag(value, "timed_out"),
        duration=_seconds(value, "wall"),
        usage=Usage(
            user=_seconds(value, "user"),
            system=_seconds(value, "system"),
            max_rss=_integer(value, "max_rss"),
        ),
    )


def parse_error(payload: bytes) -> AgentError:
    """ERROR, and FATAL, which has no errno."""
    value = from_json(payload)
    code = _text(value, "code", 64)
    if not re.fullmatch("[a-z_]+", code):
        raise Violation("code is no word")
    number = _integer(value, "errno", most=4095) if "errno" in value else 0
    return AgentError(code=code, message=clean(_text(value, "message", 4096)), errno=number)


def parse_commands(value: Mapping[str, Any]) -> list[BackgroundCommand]:
    """LIST's END."""
    listed = value.get("commands")
    if not isinstance(listed, list):
        raise Violation("a list of commands that is none")
    return [_background(item) for item in listed]


def _background(value: object) -> BackgroundCommand:
    if not isinstance(value, dict):
        raise Violation("a command that is no JSON object")
    id = _text(value, "command", 64)
    if not re.fullmatch(r"[A-Za-z0-9._-]+", id):
        raise Violation("a command whose name is no name")
    output = value.get("output")
    if not isinstance(output, list) or len(output) != 4:
        raise Violation("output that is no four offsets")
    first, end, err_first, err_end = (_integer({"output": n}, "output") for n in output)
    exited = value.get("exited")
    if not (first <= end and err_first <= err_end) or not isinstance(exited, (dict, NoneType)):
        raise Violation("a command that cannot be")
    return BackgroundCommand(
        id=id,
        command=clean(from_bytes(_text(value, "argv", 200))),
        pid=_integer(value, "pid", most=0xFFFF_FFFF) or None,
        exit=None if exited is None else _exit(exited),
        stdout_kept=(first, end),
        stderr_kept=(err_first, err_end),
    )


def parse_count(value: Mapping[str, Any], key: Literal["size", "count"]) -> int:
    """The number of a file operation's END."""
    return _integer(value, key)


def parse_entry(value: object, *, name: str | None = None) -> Entry:
    """ENTRY, under the ``name`` that is given, else under its own if that can be one."""
    if not isinstance(value, dict):
        raise Violation("an entry that is no JSON object")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _ENTRY_TYPES:
        raise Violation("an entry of unknown type")
    if name is None:
        name = from_bytes(_text(value, "name", 4096))
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise Violation("an entry whose name is no name")
    return Entry(
        name=name,
        type=cast(EntryType, kind),
        size=_integer(value, "size"),
        mode=_integer(value, "mode", most=0o177777) & 0o7777,
        mtime=_integer(value, "mtime_ns", least=-_MOST) / 1e9,
        uid=_integer(value, "uid", most=0xFFFF_FFFF),
        gid=_integer(value, "gid", most=0xFFFF_FFFF),
        target=from_bytes(_text(value, "target", 65_536)) if "target" in value else "",
    )
