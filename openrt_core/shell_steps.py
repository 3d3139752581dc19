"""What a shell session is asked for, and the commands that it needs, whoever waits for them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Final, TypedDict, TypeVar

import attrs

from openrt_core.base import CommandArguments
from openrt_core.models import ExecResult

T = TypeVar("T")


class ShellArguments(TypedDict, total=False):
    """What ``shell`` takes.

    ``cwd`` and ``env`` as for ``exec``, for the start of the session; ``user`` for all of it;
    ``program``: the shell, one of bash, dash or busybox ash, by its path or as program and
    arguments; by default /bin/bash where it is, else /bin/sh.
    """

    cwd: str | None
    env: Mapping[str, str] | None
    user: int | str | None
    program: str | Sequence[str] | None


class RunArguments(TypedDict, total=False):
    """What ``run`` takes beside the command: ``timeout`` in seconds, None for no limit, the
    setting SANDBOX_TIMEOUT (120) when it is not given."""

    timeout: float | None


@attrs.frozen(kw_only=True)
class Step:
    """A command that a session needs, run to its end.

    Attributes:
        argv: program and arguments.
        arguments: further ones, as for ``Sandbox.exec``.
        input: for its stdin.
        main: whether it is the session itself, which is started only.
    """

    argv: tuple[str, ...]
    arguments: CommandArguments
    input: bytes | None = None
    main: bool = False


Steps = Generator[Step | None, ExecResult, T]
"""Steps to be made one after the other; None: wait for the end of the session's processes."""
NOTHING: Final = ExecResult(exit_code=0)
"""What a step without a result is answered with."""
