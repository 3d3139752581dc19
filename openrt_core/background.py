"""Commands in the background, for both façades."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from openrt_core.base import SandboxBase
from openrt_core.models import BackgroundCommand, OutputMode
from openrt_core.process import Process

T = TypeVar("T")


class Background(SandboxBase):
    """What a blocking sandbox can do with its background commands.

    Such a command (``start(cmd, background=True)``) belongs to the sandbox: it goes on when who
    started it has gone, and any process that joins the sandbox can attach to it. It never waits
    for a reader: of each stream the last MiB is kept, and readers are told what they missed.
    """

    def commands(self) -> list[BackgroundCommand]:
        """The background commands that run, and those that ended and are remembered: the last 64
        to end that were not forgotten. Ordered by their ids.

        Raises:
            UnsupportedError: this runtime has none.
            SandboxGoneError, TransportError
        """
        return self.manager.list_commands(self.open_handle())

    def attach(
        self,
        id: str,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
        *,
        output: OutputMode = OutputMode.STREAM,
    ) -> Process:
        """Attaches to a background command; returns at once. ``kill`` and ``signal`` of the process
        act on the command.

        Args:
            id: of the command: ``process.background_id``, or from ``commands``.
            stdout_offset: bytes of its stdout to leave out, 0 for all that is kept.
            stderr_offset: likewise.
            output: what becomes of its output. What was not kept any more is counted in
                ``process.stdout.dropped``, or the result's ``stdout_dropped``.

        Raises:
            UnsupportedError: this runtime has none.
            SettingError: an offset is none.
            SandboxGoneError, TransportError

            From ``wait`` and the readers: CommandError, when there is none of this id.
        """
        offsets = (stdout_offset, stderr_offset)
        return self.manager.attach(self.open_handle(), id, offsets, output, self._budget)

    def forget(self, id: str) -> bool:
        """Forgets a background command that has ended, and what it printed. False when there is
        none of this id.

        Raises:
            UnsupportedError: this runtime has none.
            CommandError: it still runs.
            SandboxGoneError, TransportError
        """
        return self.manager.forget_command(self.open_handle(), id)


class AsyncBackground(SandboxBase):
    """The same for async code."""

    async def commands(self) -> list[BackgroundCommand]:
        """As ``Sandbox.commands``."""
        handle = self.open_handle()
        return await self._in_thread(lambda: self.manager.list_commands(handle))

    async def attach(
        self,
        id: str,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
        *,
        output: OutputMode = OutputMode.STREAM,
    ) -> Process:
        """As ``Sandbox.attach``. The process can be awaited."""
        handle, offsets = self.open_handle(), (stdout_offset, stderr_offset)
        return await self._in_thread(
            lambda: self.manager.attach(handle, id, offsets, output, self._budget)
        )

    async def forget(self, id: str) -> bool:
        """As ``Sandbox.forget``."""
        handle = self.open_handle()
        return await self._in_thread(lambda: self.manager.forget_command(handle, id))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        raise NotImplementedError
