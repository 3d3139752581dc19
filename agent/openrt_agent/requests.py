"""Payloads that are sent to the agent.

Texts that name things in the sandbox travel as latin-1 strings in JSON, one character a byte, so
that any argv, environment and path arrives exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from openrt_agent import wire
from openrt_core.errors import CommandNotStartedError, SettingError
from openrt_core.models import Command, TerminalSize

# Made once: json.dumps would make one for each command.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)

User = Mapping[str, Any]
"""As in START: ``{"uid": n}``, perhaps with ``gid`` and ``groups``, or ``{"name": text}``."""


def to_bytes(text: str) -> str:
    """A text, which may hold any bytes as ``os.fsdecode`` gives them, as a byte string.

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
    return _ENCODER.encode(value).encode("ascii")


def user_of(user: int | str | None) -> User | None:
    """A user as START and FILE take it. The agent looks up its groups, in the sandbox."""
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
        detach: name of the background command that it is to be, None for none.
        rlimits: names of setrlimit(2) in lower case to (soft, hard); -1 is unlimited.
    """

    argv: tuple[str, ...]
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
    detach: str | None = None
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
        detach: str | None = None,
    ) -> StartRequest:
        """The request for ``command``; ``env`` lies below its own, ``cwd`` is the default."""
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
            detach=detach,
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
            "detach": self.detach,
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
