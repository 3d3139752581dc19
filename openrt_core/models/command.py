"""Models of a command: what is asked for, and how it ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import optional

from openrt_core.models import checks


class OutputMode(enum.Enum):
    """What becomes of a command's output; fixed when it starts."""

    CAPTURE = "capture"
    """Kept, bounded, for the result."""
    STREAM = "stream"
    """Read by the user as it comes; a slow reader slows the command."""
    DISCARD = "discard"
    """Dropped."""


@attrs.frozen
class TerminalSize:
    """Size of a terminal in characters."""

    rows: int = attrs.field(
        default=24, validator=checks.number("1 to 65535", least=1, most=65535, whole=True)
    )
    columns: int = attrs.field(
        default=80, validator=checks.number("1 to 65535", least=1, most=65535, whole=True)
    )


@attrs.frozen(kw_only=True)
class Command:
    """One command to run in a sandbox.

    Texts may hold any bytes but NUL, as ``os.fsdecode`` gives them (surrogateescape).

    Attributes:
        argv: program and arguments; no shell is involved.
        env: added to the environment of the sandbox.
        cwd: absolute folder; None for the handle's ``workdir``.
        user: uid or name in the sandbox; None for the handle's ``user``.
        stdin: whether bytes will be written to it; else it reads /dev/null.
        timeout: seconds until its whole tree is killed; None for no limit.
        grace: seconds between SIGTERM and SIGKILL at the limit; 0 kills at once.
        output: what becomes of its output.
        merge_stderr: whether stderr goes where stdout goes.
        tty: size of a terminal for all three streams; None for none.
        background: whether it belongs to the sandbox rather than to who started it. Then it has
            neither ``stdin`` nor ``tty``.
    """

    argv: tuple[str, ...] = attrs.field(converter=checks.as_tuple)
    env: Mapping[str, str] = attrs.field(
        factory=dict, converter=checks.frozen_mapping, validator=checks.environment, repr=False
    )
    cwd: str | None = attrs.field(default=None, validator=optional(checks.absolute))
    user: int | str | None = attrs.field(default=None)
    stdin: bool = attrs.field(default=False, validator=checks.one_of(True, False))
    timeout: float | None = attrs.field(
        default=None, validator=optional(checks.number("seconds above 0", least=0, above=True))
    )
    grace: float = attrs.field(default=0.0, validator=checks.number("seconds, 0 or more", least=0))
    output: OutputMode = OutputMode.CAPTURE
    merge_stderr: bool = attrs.field(default=False, validator=checks.one_of(True, False))
    tty: TerminalSize | None = None
    background: bool = attrs.field(default=False, validator=checks.one_of(True, False))

    @background.validator
    def _background(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value and (self.stdin or self.tty is not None):
            raise checks.refuse(self, attribute, value, "no background with stdin or a terminal")

    @argv.validator
    def _argv(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        fits = all(isinstance(a, str) and "\0" not in a for a in value)
        if not value or not fits or not value[0]:
            raise checks.refuse(self, attribute, value, "a program and its arguments, without NUL")

    @user.validator
    def _user(self, attribute: attrs.Attribute[Any], value: Any) -> None:
        named = isinstance(value, str) and value and not {"\0", ":", "\n"} & set(value)
        numbered = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32 - 1
        if value is not None and not named and not numbered:
            raise checks.refuse(self, attribute, value, "a uid or the name of a user")


@attrs.frozen(kw_only=True)
class Usage:
    """What a command used, it and its waited-for children, as getrusage(2) counts.

    Attributes:
        user: seconds of CPU in user mode.
        system: seconds of CPU in the kernel.
        max_rss: bytes of the largest resident process.
    """

    user: float
    system: float
    max_rss: int


@attrs.frozen(kw_only=True)
class Exit:
    """How a command ended, as its runtime tells it. Exactly one of ``code`` and ``signal`` is set.

    Attributes:
        code: exit status, 0 to 255.
        signal: number of the signal that ended it.
        timed_out: whether the sandbox's side killed it at its time limit.
        duration: seconds from start to end, None when the runtime cannot say.
        usage: None when the runtime cannot say.
    """

    code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    duration: float | None = None
    usage: Usage | None = None

    def __attrs_post_init__(self) -> None:
        if (self.code is None) == (self.signal is None):
            raise ValueError("exactly one of code and signal")


@attrs.frozen(kw_only=True)
class BackgroundCommand:
    """A command in the background of a sandbox, as a list shows it.

    Attributes:
        id: names it in this sandbox.
        command: program and arguments, cut; hostile, but without control characters.
        pid: its process id inside the sandbox, None until it has started and when the runtime
            cannot say.
        exit: how it ended; None while it runs.
        stdout_kept: offsets in its stdout: of the first byte that can still be read, and how many
            bytes it has printed so far.
        stderr_kept: likewise.
    """

    id: str
    command: str
    pid: int | None
    exit: Exit | None
    stdout_kept: tuple[int, int]
    stderr_kept: tuple[int, int]

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.exit is None


@attrs.frozen(kw_only=True)
class ExecResult:
    """The result of a command.

    Attributes:
        exit_code: its exit status; 128 plus the number of the signal when one ended it, as shells
            say it.
        signal: the number of that signal, else None.
        stdout: captured bytes; the first and the last half when it was more than the bound.
        stderr: likewise.
        stdout_dropped: bytes that are missing in the middle of ``stdout``.
        stderr_dropped: bytes that are missing in the middle of ``stderr``.
        timed_out: whether its time limit ended it.
        duration: seconds.
        usage: CPU and memory, None when the runtime cannot say.
    """

    exit_code: int
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_dropped: int = 0
    stderr_dropped: int = 0
    timed_out: bool = False
    duration: float = 0.0
    usage: Usage | None = None

    @property
    def returncode(self) -> int:
        """The same as ``exit_code``, under the name of the standard library."""
        return self.exit_code

    @property
    def ok(self) -> bool:
        """Whether it ended with status 0 within its time."""
        return self.exit_code == 0 and not self.timed_out

    @property
    def truncated(self) -> bool:
        """Whether bytes of the output were dropped."""
        return self.stdout_dropped > 0 or self.stderr_dropped > 0

    @property
    def text(self) -> str:
        """``stdout`` as UTF-8, what is none of it replaced by U+FFFD."""
        return self.stdout.decode("utf-8", "replace")
