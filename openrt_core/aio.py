"""The async façade: the names of ``Sandbox``, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, Unpack

from openrt_core import executors, provisioning
from openrt_core.background import AsyncBackground
from openrt_core.base import (
    KILL_WAIT,
    CommandArguments,
    SpecArguments,
    checked,
    encoded,
    make_spec,
)
from openrt_core.files import AsyncFiles
from openrt_core.manager import Manager
from openrt_core.models import ExecResult, OutputMode, SandboxHandle, SandboxSpec, SandboxStatus
from openrt_core.process import Process
from openrt_core.waiting import future_waker

if TYPE_CHECKING:
    from openrt_core.shell import AsyncShell
    from openrt_core.shell_steps import ShellArguments

T = TypeVar("T")
Handles = list[SandboxHandle]  # inside the class `list` is the method


class AsyncSandbox(AsyncBackground):
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

        def prepare() -> tuple[Manager, SandboxSpec, int]:
            used = manager or Manager.open(runtime)
            limit = used.settings.core.max_provisioning
            return used, make_spec(used, spec, arguments), limit

        used, made, limit = await _run("provision", prepare)
        ticket = await _placed(limit)

        def make() -> AsyncSandbox:
            with ticket.entered():
                handle = used.create(made)
                return cls(used, handle, keep=used.keeps(handle))

        return await _run("provision", make, abandoned=_remove, over=ticket.release)

    @classmethod
    async def connect(
        cls, id: str, runtime: str | None = None, *, manager: Manager | None = None
    ) -> AsyncSandbox:
        """As ``Sandbox.connect``."""

        def join() -> AsyncSandbox:
            used = manager or Manager.open(runtime)
            return cls(used, used.connect(id), keep=True)

        return await _run("provision", join, abandoned=_disconnect)

    @classmethod
    async def list(
        cls,
        labels: Mapping[str, str] | None = None,
        runtime: str | None = None,
        *,
        manager: Manager | None = None,
    ) -> Handles:
        """As ``Sandbox.list``."""
        return await _run("call", lambda: (manager or Manager.open(runtime)).list(labels))

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
        background: bool = False,
        **arguments: Unpack[CommandArguments],
    ) -> Process:
        """As ``Sandbox.start``. The process can be awaited."""
        return await self._start(cmd, arguments, stdin=stdin, output=output, background=background)

    async def _start(
        self,
        cmd: str | Sequence[str],
        arguments: CommandArguments,
        *,
        stdin: bool,
        output: OutputMode,
        background: bool = False,
    ) -> Process:
        handle = self.open_handle()

        def start() -> Process:
            command = self._command(
                cmd, arguments, stdin=stdin, output=output, background=background
            )
            return self.manager.start(handle, command, self._budget)

        return await _run("call", start, abandoned=Process.kill)

    async def shell(self, **arguments: Unpack[ShellArguments]) -> AsyncShell:
        """As ``Sandbox.shell``."""
        from openrt_core.shell import AsyncShell

        return await AsyncShell.open(self, arguments)

    async def status(self) -> SandboxStatus:
        """As ``Sandbox.status``."""
        return await _run("call", lambda: self.manager.status(self.handle))

    async def pause(self) -> bool:
        """As ``Sandbox.pause``."""
        handle = self.open_handle()
        return await _run("call", lambda: self.manager.pause(handle))

    async def resume(self) -> bool:
        """As ``Sandbox.resume``."""
        handle = self.open_handle()
        return await _run("call", lambda: self.manager.resume(handle))

    async def snapshot(self, name: str) -> str:
        """As ``Sandbox.snapshot``."""
        handle = self.open_handle()
        return await _run("provision", lambda: self.manager.snapshot(handle, name))

    async def expose(self, port: int) -> str:
        """As ``Sandbox.expose``."""
        handle = self.open_handle()
        return await _run("call", lambda: self.manager.expose(handle, port))

    async def kill(self) -> bool:
        """As ``Sandbox.kill``. It goes on to its end when it is cancelled."""
        self._closed = True
        return await _run("teardown", lambda: self.manager.teardown(self.handle))

    async def close(self) -> None:
        """As ``Sandbox.close``. It goes on to its end when it is cancelled."""
        if self._closed:
            return
        self._closed = True
        manager = self.manager
        end = manager.disconnect if self.keep else manager.teardown
        await _run("teardown", lambda: end(self.handle))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await _run("call", function)

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


def _disconnect(sandbox: AsyncSandbox) -> None:
    """Lets go of what somebody else made."""
    sandbox.manager.disconnect(sandbox.handle)


async def _run(
    kind: executors.Kind,
    function: Callable[[], T],
    abandoned: Callable[[T], object] | None = None,
    over: Callable[[], object] | None = None,
) -> T:
    """Runs a function in a thread. Cancelled, it goes on; ``abandoned`` then gets its result.

    ``over`` is called once it has ended, or when it will never begin.
    """
    try:
        future = executors.submit(kind, function)
        if over is not None:
            future.add_done_callback(lambda _: over())
    except RuntimeError:
        if over is not None:
            over()
        if kind != "teardown":
            raise
        # The interpreter is going down and takes no more threads; it must be done all the same.
        return function()
    # Not asyncio's own wrapper, which complains of an error that nobody waits for any more.
    ended, wake = future_waker(asyncio.get_running_loop())
    future.add_done_callback(lambda _: wake())
    try:
        await ended
    except asyncio.CancelledError:
        # What has not begun does not begin; only an end must come, whoever waits for it.
        if kind != "teardown" and not future.cancel() and abandoned is not None:
            future.add_done_callback(lambda done: _abandon(done, abandoned))
        raise
    return future.result()


async def _placed(limit: int) -> provisioning.Ticket:
    """A place among those who make sandboxes, waited for without a thread."""
    future, wake = future_waker(asyncio.get_running_loop())
    ticket = provisioning.Ticket(limit, wake)
    try:
        ticket.ask()
        await future
    except BaseException:
        ticket.release()
        raise
    return ticket


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
