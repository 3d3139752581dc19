"""Payloads of the agent's protocol: what is sent is built here, what comes is validated here.

Texts that name things in the sandbox travel as latin-1 strings in JSON, one character a byte, so that any argv,
environment and path arrives exactly.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import attrs

from openrt_agent import wire
from openrt_agent.wire import Violation
from openrt_core.errors import CommandNotStartedError, SettingError
from openrt_core.models import Command, Entry, EntryType, Exit, TerminalSize, Usage

User = Mapping[str, Any]
"""As in START: ``{"uid": n}``, with ``gid`` and ``groups`` when they are known, or ``{"name": text}``."""

_U32: Final = struct.Struct(">I")
_MOST: Final = (1 << 63) - 1
_ENTRY_TYPES: Final = frozenset({"file", "dir", "link", "other"})


# What is sent --------------------------------------------------------------------------------------


def to_bytes(text: str) -> str:
    """``text``, which may hold any bytes as ``os.fsdecode`` gives them, as a byte string of the protocol.

    Raises:
        SettingError: it holds half of a surrogate pair, which stands for no bytes.
    """
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        raise SettingError("A text for the sandbox holds half of a character.", hint="") from None


def to_json(value: Mapping[str, Any]) -> bytes:
    """A payload."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def user_of(user: int | str | None) -> User | None:
    """A user as START and FILE take it. The agent looks up groups, and the gid of a uid, in the sandbox."""
    if user is None:
        return None
    return {"uid": user} if isinstance(user, int) else {"name": to_bytes(user)}


@attrs.frozen(kw_only=True)
class StartRequest:
    """One command for the agent.

    Attributes:
        argv: program and arguments.
        env: added to the agent's environment.
        clear_env: whether to start from an empty environment instead.
        cwd: folder.
        make_cwd: whether ``cwd`` is made when it is missing.
        user: None for the agent's own.
        stdin: whether bytes will be written to it.
        tty: size of its terminal, None for none.
        merge: whether stderr goes where stdout goes.
        timeout: seconds, None for no limit.
        grace: seconds between SIGTERM and SIGKILL at the limit.
        rlimits: names of setrlimit(2) in lower case to (soft, hard); -1 is unlimited.
    """

    argv: tuple[str, ...] = attrs.field(converter=tuple)
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    clear_env: bool = False
    cwd: str = "/"
    make_cwd: bool = False
    user: User | None = None
    stdin: bool = False
    tty: TerminalSize | None = None
    merge: bool = False
    timeout: float | None = None
    grace: float = 0.0
    rlimits: Mapping[str, tuple[int, int]] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        make_cwd: bool = False,
        user: User | None = None,
    ) -> StartRequest:
        """The request for ``command``; ``env`` lies below its own, ``cwd`` is for a command without one."""
        return cls(
            argv=command.argv,
            env={**(env or {}), **command.env},
            cwd=command.cwd or cwd or "/",
            make_cwd=make_cwd,
            user=user,
            stdin=command.stdin,
            tty=command.tty,
            merge=command.merge_stderr,
            timeout=command.timeout,
            grace=command.grace,
        )

    def payload(self, window: int) -> bytes:
        """START's payload, with so many bytes of first credit for each output stream.

        Raises:
            CommandNotStartedError: it is larger than START may be.
            SettingError: a text that stands for no bytes.
        """
        value: dict[str, Any] = {
            "argv": [to_bytes(a) for a in self.argv],
            "env": [to_bytes(f"{k}={v}") for k, v in self.env.items()],
            "cwd": to_bytes(self.cwd),
            "credit": [window, window],
        }
        if self.tty is not None:
            term = self.env.get("TERM", "xterm-256color")
            size = {"rows": self.tty.rows, "cols": self.tty.columns, "term": to_bytes(term)}
            value["tty"] = size
        optional: dict[str, Any] = {
            "clear_env": self.clear_env,
            "make_cwd": self.make_cwd,
            "user": self.user,
            "stdin": self.stdin,
            "merge": self.merge,
            "timeout": self.timeout,
            "grace": self.grace,
            "rlimits": dict(self.rlimits),
        }
        value.update((key, item) for key, item in optional.items() if item)
        payload = to_json(value)
        if len(payload) > wire.REQUEST:
            raise CommandNotStartedError(
                "The arguments and the environment of the command are too large: "
                f"{len(payload)} bytes, {wire.REQUEST} at most.",
                hint="Write large data to a file, or to the command's stdin.",
                code="command.start",
            )
        return payload


# What comes ----------------------------------------------------------------------------------------


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
    """Why the agent could not do something: ``code`` as in PROTOCOL.md, a cleaned message and an errno or 0."""

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


def parse_exited(payload: bytes) -> Exit:
    """How a command ended."""
    value = from_json(payload)
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


def parse_count(value: Mapping[str, Any], key: Literal["size", "count"]) -> int:
    """The number of a file operation's END."""
    return _integer(value, key)


def parse_entry(value: object, *, name: str | None = None) -> Entry:
    """ENTRY; with ``name`` that is the name whatever the agent says, else it is checked to be one name in a folder."""
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
