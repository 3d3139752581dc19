"""The blocking façade: one sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Unpack

from openrt_core.base import (
    KILL_WAIT,
    CommandArguments,
    SandboxBase,
    SpecArguments,
    checked,
    encoded,
    make_spec,
)
from openrt_core.files import Files
from openrt_core.manager import Manager
from openrt_core.models import ExecResult, OutputMode, SandboxHandle, SandboxSpec, SandboxStatus
from openrt_core.process import Process


class Sandbox(SandboxBase):
    """A sandbox. Made by ``create`` or ``connect``; a context manager that closes it.

    Attributes:
        files: its files.
    """

    def __init__(self, manager: Manager, handle: SandboxHandle, *, keep: bool = False) -> None:
        super().__init__(manager, handle, keep=keep)
        self.files = Files(self)

    @classmethod
    def create(
        cls,
        runtime: str | None = None,
        *,
        manager: Manager | None = None,
        spec: SandboxSpec | None = None,
        **arguments: Unpack[SpecArguments],
    ) -> Sandbox:
        """Makes a sandbox and returns when it can run commands.

        Args:
            runtime: name of the runtime; None for the setting RUNTIME.
            manager: one that is open already, instead of ``runtime``.
            spec: the whole specification, instead of ``arguments``.
            arguments: see ``SpecArguments``. What is not given is as the settings say.

        Raises:
            ConfigurationError: what was asked for cannot be; nothing was spent.
            ProvisionError: it could not be made; what was made of it is removed.
        """
        manager = manager or Manager.open(runtime)
        made = make_spec(manager, spec, arguments)
        return cls(manager, manager.create(made), keep=made.keep)

    @classmethod
    def connect(
        cls, id: str, runtime: str | None = None, *, manager: Manager | None = None
    ) -> Sandbox:
        """Joins a sandbox that another process made, or that was kept. ``close`` lets it live on.

        Raises:
            UnsupportedError: this runtime cannot.
            SandboxGoneError: there is none of this id.
        """
        manager = manager or Manager.open(runtime)
        return cls(manager, manager.connect(id), keep=True)

    def exec(
        self,
        cmd: str | Sequence[str],
        *,
        input: str | bytes | None = None,  # the name that subprocess.run gives it
        check: bool = False,
        **arguments: Unpack[CommandArguments],
    ) -> ExecResult:
        """Runs a command to its end.

        Args:
            cmd: a str for ``/bin/sh -c``, or program and arguments.
            input: what it reads from stdin; None for nothing.
            check: whether another status than 0 is an error.
            arguments: see ``CommandArguments``.

        Raises:
            CommandTimedOutError: its time limit struck; carries what it printed.
            CommandFailedError: with ``check``.
            CommandNotStartedError, SandboxGoneError, TransportError
        """
        command = self._command(cmd, arguments, stdin=input is not None, output=OutputMode.CAPTURE)
        process = self.manager.start(self.open_handle(), command, self._budget)
        try:
            if input is not None:
                process.feed_input(encoded(input))
            result = process.wait()
        except BaseException:
            # Ctrl-C, or what a signal handler raised; a command that is over is not harmed.
            process.kill()
            process.join(KILL_WAIT)
            raise
        return checked(result, check)

    def start(
        self,
        cmd: str | Sequence[str],
        *,
        stdin: bool = False,
        output: OutputMode = OutputMode.STREAM,
        **arguments: Unpack[CommandArguments],
    ) -> Process:
        """Starts a command and returns at once; as ``exec`` otherwise.

        Args:
            cmd: as for ``exec``.
            stdin: whether ``process.stdin`` will be written to.
            output: what becomes of its output.
            arguments: see ``CommandArguments``.
        """
        command = self._command(cmd, arguments, stdin=stdin, output=output)
        return self.manager.start(self.open_handle(), command, self._budget)

    def status(self) -> SandboxStatus:
        """Its state; for one that is gone, with what is known of its end.

        Raises:
            UnsupportedError: this runtime cannot say.
        """
        return self.manager.status(self.handle)

    def kill(self) -> bool:
        """Removes it, also one that is kept. True if it was there. Idempotent."""
        self._closed = True
        return self.manager.teardown(self.handle)

    def close(self) -> None:
        """Ends the use of it here: removes it unless it is kept. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if not self.keep:
            self.manager.teardown(self.handle)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            # What went wrong inside is what the user has to see.
            error.add_note(f"Closing the sandbox {self.id} failed: {failure}")
