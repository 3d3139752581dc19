"""Shell sessions: commands that share a working folder, variables, functions and options."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, Unpack

from openrt_core.base import KILL_WAIT
from openrt_core.errors import TransportError
from openrt_core.models import ExecResult, OutputMode
from openrt_core.shell_base import STEP_LIMIT, ShellBase
from openrt_core.shell_steps import NOTHING, RunArguments, ShellArguments, Step, Steps
from openrt_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from openrt_core.aio import AsyncSandbox
    from openrt_core.process import Process
    from openrt_core.sandbox import Sandbox

T = TypeVar("T")


class Shell(ShellBase):
    """A session, made by ``Sandbox.shell``; a context manager that closes it. Thread-safe: commands
    are run one after the other.
    """

    def __init__(self, sandbox: Sandbox, arguments: ShellArguments) -> None:
        super().__init__(sandbox, arguments)
        self._starter = sandbox
        self._lock = threading.Lock()
        self._make(self._open())

    def run(
        self, command: str, *, check: bool = False, **arguments: Unpack[RunArguments]
    ) -> ExecResult:
        """Runs a command in the session, to its end; its stdin is empty.

        A command that ends the shell (``exit 3``) ends the session: the result is as the shell
        ended, and ``closed`` is true. So does a KeyboardInterrupt.

        Args:
            command: any text for the shell, of one or more lines.
            check: whether another status than 0 is an error.
            arguments: see ``RunArguments``.

        Raises:
            CommandTimedOutError: its time limit struck: it was killed; carries what it printed. The
                session goes on, unless the shell did not come back: then ``closed`` is true.
            CommandFailedError: with ``check``.
            CommandError: the session is over.
            SandboxGoneError, TransportError: the session is over with it.
        """
        with self._lock:
            return self._make(self._run(command, check, arguments))

    def close(self) -> None:
        """Kills all that the session started and removes its files in the sandbox. Idempotent."""
        uninterrupted(lambda: self._make(self._end()))

    def __enter__(self) -> Shell:
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
            error.add_note(f"Closing the shell session failed: {failure}")

    def _make(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    result = self._take(step)
                except Exception as error:  # noqa: BLE001  # the steps raise it
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except Exception:
            raise
        except BaseException:
            # Ctrl-C: what the shell is at is not known any more.
            self.close()
            raise

    def _take(self, step: Step | None) -> ExecResult:
        if step is None:
            if self._main is not None and not self._main.join(STEP_LIMIT):
                raise _not_ended()
            return NOTHING
        process = self._starter.start(
            step.argv, stdin=step.input is not None, output=_output(step), **step.arguments
        )
        if step.main:
            self._watch(process)
            return NOTHING
        try:
            self._serve(process, step)
            return process.wait()
        except BaseException:
            # A process that is over is not harmed.
            process.kill()
            process.join(KILL_WAIT)
            raise
        finally:
            self._helper = None


class AsyncShell(ShellBase):
    """A session, made by ``AsyncSandbox.shell``; an async context manager that closes it. Commands
    are run one after the other.
    """

    def __init__(self, sandbox: AsyncSandbox, arguments: ShellArguments) -> None:
        super().__init__(sandbox, arguments)
        self._starter = sandbox
        self._lock = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, sandbox: AsyncSandbox, arguments: ShellArguments) -> AsyncShell:
        """What ``AsyncSandbox.shell`` returns."""
        shell = cls(sandbox, arguments)
        await shell._make(shell._open())
        return shell

    async def run(
        self, command: str, *, check: bool = False, **arguments: Unpack[RunArguments]
    ) -> ExecResult:
        """As ``Shell.run``. When it is cancelled, the session is closed."""
        async with self._lock:
            return await self._make(self._run(command, check, arguments))

    async def close(self) -> None:
        """As ``Shell.close``. It goes on to its end when it is cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._make(self._end()))
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> AsyncShell:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"Closing the shell session failed: {failure}")

    async def _make(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._take(step)
                except Exception as error:  # noqa: BLE001  # the steps raise it
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            # What the shell is at is not known any more.
            await self.close()
            raise

    async def _take(self, step: Step | None) -> ExecResult:
        if step is None:
            if self._main is not None and not await _over(self._main):
                raise _not_ended()
            return NOTHING
        process = await self._starter.start(
            step.argv, stdin=step.input is not None, output=_output(step), **step.arguments
        )
        if step.main:
            self._watch(process)
            return NOTHING
        try:
            self._serve(process, step)
            return await process
        except BaseException:
            # A process that is over is not harmed.
            process.kill()
            raise
        finally:
            self._helper = None


def _output(step: Step) -> OutputMode:
    return OutputMode.DISCARD if step.main else OutputMode.CAPTURE


def _not_ended() -> TransportError:
    return TransportError(
        f"The processes of the shell session did not end within {STEP_LIMIT:g} s.", started="yes"
    )


async def _over(process: Process) -> bool:
    """Waits until a process is over, at most STEP_LIMIT seconds; whether it is."""

    async def ended() -> None:
        # What it ended with does not matter here.
        with contextlib.suppress(Exception):
            await process

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ended(), STEP_LIMIT)
    return process.done
