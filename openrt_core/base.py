"""What ``Sandbox`` and ``AsyncSandbox`` share: arguments, commands, paths, and who removes what."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

import attrs

from openrt_core.capture import CaptureBudget
from openrt_core.errors import CommandFailedError, SandboxGoneError, SettingError
from openrt_core.manager import Manager
from openrt_core.models import (
    Capabilities,
    Command,
    ExecResult,
    Mount,
    OutputMode,
    SandboxHandle,
    SandboxSpec,
    TerminalSize,
)

KILL_WAIT: Final = 5.0
"""Seconds that an interrupted ``exec`` waits for the command that it killed."""


class SpecArguments(TypedDict, total=False):
    """What ``create`` takes beside the runtime. What is not given, or None, is as the settings say.

    ``volumes`` is as SANDBOX_VOLUMES, or a sequence of such items and ``Mount``. The others are
    fields of ``SandboxSpec``.
    """

    image: str | None
    image_commands: Sequence[str] | None
    image_rebuild: bool | None
    volumes: str | Sequence[str | Mount] | None
    env: Mapping[str, str] | None
    secrets: Mapping[str, str] | None
    workdir: str | None
    user: int | None
    network: str | None
    ports: Sequence[int] | None
    cpu: float | None
    memory: int | None
    pids: int | None
    disk: int | None
    gpu: str | None
    platform: str | None
    labels: Mapping[str, str] | None
    lifetime: float | None
    idle_limit: float | None
    keep: bool | None
    start_timeout: float | None
    read_only: bool | None
    options: Mapping[str, Any] | None


class CommandArguments(TypedDict, total=False):
    """What ``exec`` and ``start`` take beside the command.

    ``env`` is added to the sandbox's; ``cwd`` is absolute or relative to the working folder;
    ``user`` is a uid or a name; ``timeout`` in seconds, None for no limit, the setting
    SANDBOX_TIMEOUT (120) when it is not given; ``grace`` in seconds between SIGTERM and SIGKILL at
    the limit, 0 by default.
    """

    env: Mapping[str, str] | None
    cwd: str | None
    user: int | str | None
    timeout: float | None
    grace: float
    merge_stderr: bool
    tty: TerminalSize | None


def make_spec(manager: Manager, spec: SandboxSpec | None, arguments: SpecArguments) -> SandboxSpec:
    """The spec of a new sandbox: arguments over settings, or ``spec`` as it is.

    Raises:
        SettingError: a value is wrong, or both were given.
    """
    given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
    if spec is None:
        from openrt_core.settings.spec import make_spec as from_settings

        features = manager.capabilities.features
        return from_settings(
            manager.settings,
            features=features,
            emit=manager.emit,
            runtime=manager.name,
            **given,
        )
    if given:
        raise SettingError(f"spec= leaves no room for {', '.join(sorted(given))}.", hint="")
    return spec


class SandboxBase:
    """A sandbox that is open, without the calls that wait.

    Attributes:
        manager: calls the hooks of its runtime.
        handle: names it; plain data that another process can connect with.
        keep: whether it lives on when it is closed.
    """

    def __init__(self, manager: Manager, handle: SandboxHandle, *, keep: bool = False) -> None:
        self.manager = manager
        self.handle = handle
        self.keep = keep
        self._budget = CaptureBudget()
        self._default_timeout: float | None = None
        self._closed = False

    @property
    def id(self) -> str:
        """Its id."""
        return self.handle.id

    @property
    def runtime(self) -> str:
        """The name of its runtime."""
        return self.handle.runtime

    @property
    def workdir(self) -> str:
        """The folder in which commands run."""
        return self.handle.workdir

    @property
    def capabilities(self) -> Capabilities:
        """What its runtime can do."""
        return self.manager.capabilities

    @property
    def closed(self) -> bool:
        """Whether it was closed or killed here."""
        return self._closed

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<{type(self).__name__} {self.runtime}:{self.id}{state}>"

    def open_handle(self) -> SandboxHandle:
        """The handle, for one more call.

        Raises:
            SandboxGoneError: it was closed here.
        """
        if self._closed:
            raise SandboxGoneError(
                f"The sandbox {self.id} was closed here.",
                hint="Make a new one, or connect again to one that was kept.",
            )
        return self.handle

    def _command(
        self,
        cmd: str | Sequence[str],
        arguments: CommandArguments,
        *,
        stdin: bool,
        output: OutputMode,
        background: bool = False,
    ) -> Command:
        if isinstance(cmd, (bytes, Mapping)) or not isinstance(cmd, (str, Sequence)):
            raise SettingError("A command is a str for the shell, or a sequence of str.", hint="")
        values: dict[str, Any] = dict(arguments)
        values["env"] = values.get("env") or {}
        values["cwd"] = posixpath.join(self.handle.workdir, values.get("cwd") or "")
        values["cwd"] = values["cwd"].rstrip("/") or "/"
        if "timeout" not in values:
            values["timeout"] = None if background else self._time_limit()
        argv: tuple[str, ...] = ("/bin/sh", "-c", cmd) if isinstance(cmd, str) else tuple(cmd)
        unknown = set(values) - {a.name for a in attrs.fields(Command)}
        if unknown:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
        return Command(argv=argv, stdin=stdin, output=output, background=background, **values)

    def _time_limit(self) -> float:
        if self._default_timeout is None:
            self._default_timeout = float(self.manager.settings.core.timeout)
        return self._default_timeout


def encoded(text: str | bytes) -> bytes:
    """Text as UTF-8, bytes as they are."""
    return text.encode() if isinstance(text, str) else bytes(text)


def checked(result: ExecResult, check: bool) -> ExecResult:
    """The result, or with ``check`` an error unless its status is 0.

    Raises:
        CommandFailedError
    """
    if check and not result.ok:
        by = f"by signal {result.signal}" if result.signal else f"with status {result.exit_code}"
        raise CommandFailedError(f"The command ended {by}.", result=result)
    return result
