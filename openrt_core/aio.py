"""The async façade: the names of ``Sandbox``, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TypeVar, Unpack

from openrt_core import executors
from openrt_core.base import (
    KILL_WAIT,
    CommandArguments,
    SandboxBase,
    SpecArguments,
    checked,
    encoded,
    make_spec,
)
from openrt_core.files import AsyncFiles
from openrt_core.manager import Manager
from openrt_core.models import ExecResult, OutputMode, SandboxHandle, SandboxSpec, SandboxStatus
from openrt_core.process import Process

T = TypeVar("T")


class AsyncSandbox(SandboxBase):
    """A sandbox, for async code. Made by ``create`` or ``connect``; an async context manager.

    Hooks run in threads, with the context variables of the caller. Waiting for a command takes
    none. Leaving the context closes it.

    Attributes:
        files: its files.
    """

    def __init__(self, manager: Manager, handle: SandboxHandle, *, keep: bool = False) -> None:
        super().__init__(manager, handle, keep=keep)
        self.files = AsyncFiles(self, lambda function: _run("call", function))

    @classmethod
    async def create(
        cls,
        runtime: str | None = None,
        *,
        manager: Manager | None = None,
        spec: SandboxSpec | None = None,
        **arguments: Unpack[SpecArguments],
    ) -> AsyncSandbox:
        """As ``Sandbox.create``. When cancelled, what it makes is removed once it is there."""

        def make() -> AsyncSandbox:
            used = manager or Manager.open(runtime)
            made = make_spec(used, spec, arguments)
            return cls(used, used.create(made), keep=made.keep)

        return await _run("provision", make, abandoned=_remove)

    @classmethod
    async def connect(
        cls, id: str, runtime: str | None = None, *, manager: Manager | None = None
    ) -> AsyncSandbox:
        """As ``Sandbox.connect``."""

        def join() -> AsyncSandbox:
            used = manager or Manager.open(runtime)
            return cls(used, used.connect(id), keep=True)

        return await _run("provision", join)

    async def exec(
        self,
        cmd: str | Sequence[str],
        *,
        input: str | bytes | None = None,  # the name that subprocess.run gives it
        check: bool = False,
        **arguments: Unpack[CommandArguments],
    ) -> ExecResult:
        """As ``Sandbox.exec``. When it is cancelled, the command is killed."""
        process = await self._start(
            cmd, arguments, stdin=input is not None, output=OutputMode.CAPTURE
        )
        try:
            if input is not None:
                process.feed_input(encoded(input))
            result = await process
        except asyncio.CancelledError:
            process.kill()
            await _over(process, KILL_WAIT)
            raise
        except BaseException:
            # A coroutine that is closed must not wait for anything more.
            process.kill()
            raise
        return checked(result, check)

    async def start(
        self,
        cmd: str | Sequence[str],
        *,
        stdin: bool = False,
        output: OutputMode = OutputMode.STREAM,
        **arguments: Unpack[CommandArguments],
    ) -> Process:
        """As ``Sandbox.start``. The process can be awaited."""
        return await self._start(cmd, arguments, stdin=stdin, output=output)

    async def _start(
        self,
        cmd: str | Sequence[str],
        arguments: CommandArguments,
        *,
        stdin: bool,
        output: OutputMode,
    ) -> Process:
        handle = self.open_handle()

        def start() -> Process:
            command = self._command(cmd, arguments, stdin=stdin, output=output)
            return self.manager.start(handle, command, self._budget)

        return await _run("call", start, abandoned=Process.kill)

    async def status(self) -> SandboxStatus:
        """As ``Sandbox.status``."""
        return await _run("call", lambda: self.manager.status(self.handle))

    async def kill(self) -> bool:
        """As ``Sandbox.kill``. It goes on to its end when it is cancelled."""
        self._closed = True
        return await _run("teardown", lambda: self.manager.teardown(self.handle))

    async def close(self) -> None:
        """As ``Sandbox.close``. It goes on to its end when it is cancelled."""
        if self._closed:
            return
        self._closed = True
        if not self.keep:
            await _run("teardown", lambda: self.manager.teardown(self.handle))

    async def __aenter__(self) -> AsyncSandbox:
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
            # What went wrong inside is what the user has to see.
            error.add_note(f"Closing the sandbox {self.id} failed: {failure}")


def _remove(sandbox: AsyncSandbox) -> None:
    """Removes what nobody waits for any more, kept or not: nobody knows its id."""
    sandbox.manager.teardown(sandbox.handle)


async def _run(
    kind: executors.Kind,
    function: Callable[[], T],
    abandoned: Callable[[T], object] | None = None,
) -> T:
    """Runs a function in a thread. Cancelled, it goes on; ``abandoned`` then gets its result."""
    try:
        future = executors.submit(kind, function)
    except RuntimeError:
        if kind != "teardown":
            raise
        # The interpreter is going down and takes no more threads; it must be done all the same.
        return function()
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        # What has not begun need not begin.
        if abandoned is not None and not future.cancel():
            future.add_done_callback(lambda done: _abandon(done, abandoned))
        raise


def _abandon(done: Future[T], abandoned: Callable[[T], object]) -> None:
    if done.cancelled() or done.exception() is not None:
        return
    result = done.result()
    try:
        # A thread of its own: this may be the event loop's.
        executors.submit("teardown", lambda: abandoned(result))
    except RuntimeError:
        abandoned(result)


async def _over(process: Process, seconds: float) -> None:
    """Waits until a process is over, at most so long; what it ended with does not matter here."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_ended(process), seconds)


async def _ended(process: Process) -> None:
    with contextlib.suppress(Exception):
        await process
