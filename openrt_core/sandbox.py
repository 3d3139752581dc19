"""The blocking façade: one sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from openrt_core.background import Background
from openrt_core.base import (
    KILL_WAIT,
    CommandArguments,
    SpecArguments,
    checked,
    encoded,
    make_spec,
)
from openrt_core.files import Files
from openrt_core.manager import Manager
from openrt_core.models import ExecResult, OutputMode, SandboxHandle, SandboxSpec, SandboxStatus
from openrt_core.process import Process

if TYPE_CHECKING:
    from openrt_core.shell import Shell
    from openrt_core.shell_steps import ShellArguments

Handles = list[SandboxHandle]  # inside the class `list` is the method


class Sandbox(Background):
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
        handle = manager.create(made)
        return cls(manager, handle, keep=manager.keeps(handle))

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

    @classmethod
    def list(
        cls,
        labels: Mapping[str, str] | None = None,
        runtime: str | None = None,
        *,
        manager: Manager | None = None,
    ) -> Handles:
        """The sandboxes that are there, whoever made them; ``connect`` takes their ids.

        Args:
            labels: only those that were made with all of these labels; None for every one.
            runtime: name of the runtime; None for the setting RUNTIME.
            manager: one that is open already, instead of ``runtime``.

        Raises:
            UnsupportedError: this runtime cannot.
        """
        return (manager or Manager.open(runtime)).list(labels)

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
        background: bool = False,
        **arguments: Unpack[CommandArguments],
    ) -> Process:
        """Starts a command and returns at once; as ``exec`` otherwise.

        Args:
            cmd: as for ``exec``.
            stdin: whether ``process.stdin`` will be written to.
            output: what becomes of its output.
            background: whether it belongs to the sandbox and goes on without this process, which
                ``commands`` and ``attach`` are for. It then has no time limit unless one is given,
                and no stdin.
            arguments: see ``CommandArguments``.
        """
        command = self._command(cmd, arguments, stdin=stdin, output=output, background=background)
        return self.manager.start(self.open_handle(), command, self._budget)

    def shell(self, **arguments: Unpack[ShellArguments]) -> Shell:
        """Starts a shell session, whose commands share folder, variables, functions and options.

        Args:
            arguments: see ``ShellArguments``.

        Raises:
            UnsupportedError: this runtime cannot.
            CommandNotStartedError: the shell, ``cwd`` or ``user`` is not there.
            CommandError: the session's folder cannot be made.
            SandboxGoneError, TransportError
        """
        from openrt_core.shell import Shell

        return Shell(self, arguments)

    def status(self) -> SandboxStatus:
        """Its state; for one that is gone, with what is known of its end.

        Raises:
            UnsupportedError: this runtime cannot say.
        """
        return self.manager.status(self.handle)

    def pause(self) -> bool:
        """Stops all that runs in it, its memory kept. A command's time limit goes on meanwhile.

        Returns:
            True if it ran, False if it was paused already.

        Raises:
            UnsupportedError: this runtime cannot.
            SandboxGoneError: it has ended.
        """
        return self.manager.pause(self.open_handle())

    def resume(self) -> bool:
        """Lets it run on. True if it was paused, False if it ran already. Raises as ``pause``."""
        return self.manager.resume(self.open_handle())

    def snapshot(self, name: str) -> str:
        """Keeps its files, without its mounts, as an image that the user removes.

        Args:
            name: what the image will be called.

        Returns:
            The image's reference, for ``Sandbox.create(image=…)``.

        Raises:
            UnsupportedError: this runtime cannot.
            SandboxGoneError: it has ended.
            SettingError: no image can have this name.
            ProvisionError: the image could not be made.
        """
        return self.manager.snapshot(self.open_handle(), name)

    def expose(self, port: int) -> str:
        """Makes a TCP port of it reachable, as long as it is open here.

        Args:
            port: 1 to 65535; whether something listens there yet does not matter.

        Returns:
            The URL, without a slash at the end.

        Raises:
            UnsupportedError: this runtime cannot.
            SettingError: it is no port.
            SandboxGoneError, TransportError
        """
        return self.manager.expose(self.open_handle(), port)

    def kill(self) -> bool:
        """Removes it, also one that is kept. True if it was there. Idempotent."""
        self._closed = True
        return self.manager.teardown(self.handle)

    def close(self) -> None:
        """Ends the use of it here: removes it unless it is kept. Idempotent.

        Of a kept one the connection goes, and with it every command that runs and is not in the
        background.
        """
        if self._closed:
            return
        self._closed = True
        if self.keep:
            self.manager.disconnect(self.handle)
        else:
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
