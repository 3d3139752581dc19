"""One running command: a coroutine on the worker's loop that starts, follows and drains it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from openrt_core.errors import (
    CommandNotStartedError,
    OpenrtError,
    SandboxGoneError,
    Started,
    TransportError,
)
from openrt_core.models import Command, Exit, OutputMode
from openrt_core.process import Process
from openrt_remote import wrapper
from openrt_remote.answers import shown
from openrt_remote.controls import Output, Requests
from openrt_remote.server import EXECUTE_TIMEOUT, NO_LIMIT, PIECE, Server

FIRST_POLL: Final = 0.02
"""Seconds until the server is asked for the first time whether a command has ended; they grow."""
LAST_POLL: Final = 1.0
KILL_AGAIN: Final = 1.0
"""Seconds after which a command that was killed and has not ended is killed again."""
STDIN_WINDOW: Final = 4 * 1024 * 1024
"""Bytes that may wait here on their way to a command's stdin; the sandbox's disk holds more."""
BACKSTOP: Final = 5
"""Seconds after its limit when the server itself kills a command, should we be gone by then."""
LOOK_AFTER: Final = 30.0
"""Seconds between looks whether a command that the server still calls running is there at all."""
WORTH_KNOWING: Final = 0.5
"""Seconds after which a command's process id is asked for."""


class Running:
    """A command; its ``run`` is to be spawned once.

    Args:
        process: what is fed; its command is run.
        requests: its controls.

    Attributes:
        events: what the server was asked to run for it; it keeps a record of each.
    """

    def __init__(self, process: Process, requests: Requests) -> None:
        self._command: Command = process.command
        self._process = process
        self._asked = requests
        self._folder = ""
        self.events: list[UUID] = []
        self._kill_at = 0.0
        self._limit = math.inf
        self._timed_out = False
        self._fetched_at = 0.0
        self._started_at = 0.0

    async def run(
        self, server: Server, folder: str, environment: Mapping[str, str], cwd: str
    ) -> None:
        """Runs it to its end, which the process is told.

        Args:
            server: of the sandbox.
            folder: in the sandbox, for this command alone.
            environment: all of it.
            cwd: absolute.

        Raises:
            CommandNotStartedError, SandboxGoneError, TransportError: the process is not told yet.
        """
        self._folder = folder
        text = wrapper.script(self._command, self._folder, environment, cwd)
        await server.upload(f"{self._folder}/run", text)
        if self._asked.killed:
            self._process.exited(Exit(signal=int(signal.SIGKILL)))
            return
        started = await self._start(server)
        feeder = asyncio.create_task(self._feed(server)) if self._command.stdin else None
        try:
            code = await self._follow(server, started, feeder)
            if code in (wrapper.NOT_STARTED, -1):
                await self._check_started(server, cwd, code)
            await self._drain(server)
        finally:
            if feeder is not None:
                feeder.cancel()
                await asyncio.wait([feeder])
        self._process.exited(self._exit(code))

    async def _start(self, server: Server) -> UUID:
        limit = self._command.timeout
        whole = NO_LIMIT if limit is None else math.ceil(limit + self._command.grace) + BACKSTOP
        self._started_at = time.monotonic()
        try:
            id = await server.start(wrapper.invocation(self._folder), min(whole, NO_LIMIT))
        except TransportError as error:
            if error.started != "no":
                await self._give_up(server, error)
            raise
        self.events.append(id)
        if limit is not None:
            self._limit = time.monotonic() + limit
        return id

    async def _give_up(self, server: Server, error: TransportError) -> None:
        """The answer to the start was lost: what may run unseen is killed; raises what is known."""
        pid = await self._ask_pid(server)
        started: Started = "yes" if pid else "unknown"
        await self._send(server, signal.SIGKILL, group=True)
        raise TransportError(error.message, started=started) from error

    async def _ask_pid(self, server: Server) -> int | None:
        part = await server.download(f"{self._folder}/pid", 0, 20)
        text = part.data.strip() if part is not None else b""
        return int(text) if text.isdigit() else None

    async def _send(self, server: Server, number: int, *, group: bool) -> None:
        script = wrapper.signal_script(self._folder, number, group=group)
        self.events.append(await server.start(script, EXECUTE_TIMEOUT))

    async def end(self, server: Server) -> None:
        """Kills it, for a client that goes; what the server answers no longer matters."""
        with contextlib.suppress(OpenrtError):
            await self._send(server, signal.SIGKILL, group=True)

    async def _follow(
        self, server: Server, started: UUID, feeder: asyncio.Task[None] | None
    ) -> int:
        """Polls until it has ended, fetching output and sending signals meanwhile; how it ended."""
        delay = FIRST_POLL
        look_at, missing = time.monotonic() + LOOK_AFTER, False
        await self._pause(FIRST_POLL / 4)
        while (code := await server.outcome(started)) is None:
            if missing:
                raise TransportError("The server lost sight of the command.", started="yes")
            if time.monotonic() > look_at:
                look_at = time.monotonic() + LOOK_AFTER
                missing = await server.execute(wrapper.alive_script(self._folder)) != 0
            self._raise_from(feeder)
            acted = await self._act(server)
            moved = await self._fetch_some(server)
            woken = await self._pause(delay)
            lively = acted or moved or woken
            delay = FIRST_POLL if lively else min(delay * 1.5, LAST_POLL)
        return code

    def _raise_from(self, feeder: asyncio.Task[None] | None) -> None:
        if self._process.done and self._kill_at:
            raise TransportError("The command outlives its end.", started="yes")
        if feeder is not None and feeder.done():
            feeder.result()

    async def _pause(self, seconds: float) -> bool:
        """Waits for the time, the limit or a request; whether there was one."""
        until_limit = max(self._limit - time.monotonic(), 0.0)
        try:
            await asyncio.wait_for(self._asked.wake.wait(), min(seconds, until_limit))
        except TimeoutError:
            return False
        self._asked.wake.clear()
        return True

    async def _act(self, server: Server) -> bool:
        """Sends the signals that are due; whether there were any."""
        now = time.monotonic()
        if now >= self._limit:
            if not self._timed_out and self._command.grace > 0:
                self._asked.signals.append((signal.SIGTERM, True))
                self._limit = now + self._command.grace
            else:
                self._asked.killed = True
                self._limit = math.inf
            self._timed_out = True
        due, self._asked.signals = self._asked.signals, []
        for number, group in due:
            await self._send(server, number, group=group)
        if self._asked.killed and now >= self._kill_at:
            self._kill_at = now + KILL_AGAIN
            await self._send(server, signal.SIGKILL, group=True)
            return True
        if self._process.pid is None and now - self._started_at > WORTH_KNOWING:
            pid = await self._ask_pid(server)
            if pid is not None:
                self._process.started(pid)
        return bool(due)

    async def _fetch_some(self, server: Server) -> bool:
        """Output while it runs: at once for a reader, once a second for what is only kept."""
        now = time.monotonic()
        if self._command.output is OutputMode.CAPTURE:
            if now - max(self._fetched_at, self._started_at) < LAST_POLL:
                return False
            self._fetched_at = now
        moved = False
        for output in self._asked.outputs.values():
            moved = bool(await self._fetch(server, output, PIECE)) or moved
        return moved

    async def _fetch(self, server: Server, output: Output, most: int) -> int:
        """Fetches and feeds one part; the size of the whole file, or 0 when nothing was new."""
        most = min(most, output.window, PIECE)
        if most <= 0:
            return 0
        part = await server.download(f"{self._folder}/{output.name}", output.offset, most)
        if part is None:
            # Before its start the script has not made it yet; afterwards somebody removed it.
            return 0
        if part.size < output.offset:
            raise TransportError("The command's output was cut in the sandbox.", started="yes")
        if not part.data:
            return 0
        output.offset += len(part.data)
        output.window -= len(part.data)
        self._process.feed(output.number, part.data)
        return part.size

    async def _drain(self, server: Server) -> None:
        """The rest of what was there when the command ended, as the reader takes it."""
        self._limit = math.inf  # it holds no more
        for output in self._asked.outputs.values():
            first = await server.download(f"{self._folder}/{output.name}", output.offset, 1)
            if first is None:
                raise TransportError(
                    "The command ended, but its output was removed in the sandbox.", started="yes"
                )
            while output.offset < first.size and not self._given_up:
                if not await self._fetch(server, output, first.size - output.offset):
                    if output.window > 0:
                        raise TransportError(
                            "The command's output is not all there.", started="yes"
                        )
                    await self._pause(LAST_POLL)

    @property
    def _given_up(self) -> bool:
        """Whether nobody will read the rest."""
        killed = self._asked.killed and not self._timed_out
        return self._process.done or (killed and self._command.output is OutputMode.STREAM)

    async def _feed(self, server: Server) -> None:
        """Carries its input into the sandbox, part by part."""
        self._process.add_stdin_credit(STDIN_WINDOW)
        number = 0
        while True:
            await self._asked.input_wake.wait()
            self._asked.input_wake.clear()
            while self._asked.input:
                data = b"".join(self._asked.input)
                self._asked.input.clear()
                await server.upload(f"{self._folder}/in.{number}.{len(data)}", data)
                number += 1
                self._process.add_stdin_credit(len(data))
            if self._asked.input_closed:
                await server.upload(f"{self._folder}/in.{number}.0", b"")
                return

    async def _check_started(self, server: Server, cwd: str, code: int) -> None:
        """Raises when the script did not get as far as the program."""
        part = await server.download(f"{self._folder}/fail", 0, 100)
        if part is not None:
            reason = part.data.decode("ascii", "replace")
            raise CommandNotStartedError(wrapper.failure(reason, self._command, cwd))
        if await self._ask_pid(server) is None:
            raise TransportError(
                f"The server could not start the command (it tells {code}).", started="no"
            )

    def _exit(self, code: int) -> Exit:
        # The server answers -1 for its own limit; SIGHUP, which is 1 too, is told by the time.
        overdue = code == -1 and self._command.timeout is not None
        if overdue and time.monotonic() - self._started_at > (self._command.timeout or 0):
            return Exit(signal=int(signal.SIGKILL), timed_out=True)
        if code < 0:
            return Exit(signal=-code, timed_out=self._timed_out)
        return Exit(code=code, timed_out=self._timed_out)


def lost(error: BaseException | None, id: str) -> Exception:
    """The error of the process for what ended its coroutine."""
    if isinstance(error, Exception):
        return error
    why = "it was removed here" if error is None else shown(error)
    return SandboxGoneError(f"The sandbox {id} is gone: {why}.")
