"""A sandbox that this process has open. All of it is for the worker's loop only."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from openrt_core.errors import (
    OpenrtError,
    ProvisionError,
    SandboxGoneError,
    Started,
    TransportError,
)
from openrt_core.models import SandboxSpec
from openrt_core.process import Process
from openrt_remote import wrapper
from openrt_remote.answers import InvalidAnswer, json_object
from openrt_remote.command import Running
from openrt_remote.server import EXECUTE_TIMEOUT, Server
from openrt_remote.start import ENVIRONMENT

log = logging.getLogger("openrt")

KILLS_TIME: Final = 10.0
"""Seconds that closing takes for killing commands, at most."""
SWEEP: Final = 0.5
"""Seconds until what is left of ended commands is removed, all at once."""
RECORD_LIMIT: Final = 1024 * 1024

_SETUP: Final = """umask 077
mkdir -p {folder} || exit 3
umask 022
mkdir -p {workdir} && cd {workdir} || exit 4
"""


class Sandbox:
    """A sandbox that is open.

    Attributes:
        server: its server.
        workdir: folder in which commands run.
        env: what each of its commands gets; not shown anywhere.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.workdir = "/workspace"
        self.env: dict[str, str] = {}
        self._folder = f"/tmp/.openrt-{server.id}"
        self._running: dict[asyncio.Task[Any], Running] = {}
        self._folders: list[str] = []
        self._events: list[UUID] = []
        self._closed = False
        self._removed = False
        self._sweeper: asyncio.Task[None] | None = None

    async def set_up(self, spec: SandboxSpec) -> None:
        """Makes the folders, and writes down what a guest has to know: all but the secrets.

        Raises:
            ProvisionError, SandboxGoneError, TransportError
        """
        self.workdir = spec.workdir
        self.env = {**spec.env, **spec.secrets}
        folder, workdir = wrapper.quoted_text(self._folder), wrapper.quoted_text(spec.workdir)
        code = await self.server.execute(_SETUP.format(folder=folder, workdir=workdir))
        if code == 4:
            raise ProvisionError(
                f"The folder {spec.workdir!r} cannot be made in the sandbox.",
                hint="Choose another with workdir=: commands run there as an ordinary user.",
            )
        if code != 0:
            raise ProvisionError(f"The sandbox could not be set up: status {code}.")
        record = {"workdir": spec.workdir, "env": dict(spec.env)}
        await self.server.upload(f"{self._folder}/sandbox.json", json.dumps(record).encode())

    async def join(self) -> None:
        """Reads what its maker wrote down. Nothing there: another client made it; defaults hold.

        Raises:
            SandboxGoneError, TransportError
        """
        part = await self.server.download(f"{self._folder}/sandbox.json", 0, RECORD_LIMIT)
        if part is None:
            return
        try:
            self.workdir, self.env = _record(json_object(part.data))
        except InvalidAnswer as error:
            raise TransportError(
                f"The record in {self._folder} of the sandbox {self.server.id} is spoilt: {error}."
            ) from error

    async def run(self, process: Process, running: Running) -> None:
        """Runs a command to its end.

        Raises:
            CommandNotStartedError, SandboxGoneError, TransportError: the process is not told yet.
        """
        task = asyncio.current_task()
        assert task is not None  # it runs on the loop
        if self._is_closed():
            raise self._ended("no")
        self._running[task] = running
        folder = f"{self._folder}/{secrets.token_hex(8)}"
        command = process.command
        try:
            env = {**self.env, **command.env}
            await running.run(self.server, folder, env, command.cwd or self.workdir)
        except asyncio.CancelledError:
            if self._is_closed():
                raise self._ended("unknown" if process.pid is None else "yes") from None
            raise
        finally:
            self._running.pop(task, None)
            self._folders.append(folder)
            self._events += running.events
            if not self._is_closed() and (self._sweeper is None or self._sweeper.done()):
                self._sweeper = asyncio.create_task(self._sweep())

    def _is_closed(self) -> bool:
        # A method, for it may change at every await.
        return self._closed

    def _ended(self, started: Started) -> OpenrtError:
        if self._removed:
            return SandboxGoneError(f"The sandbox {self.server.id} is gone: it was removed here.")
        return TransportError(
            f"The connection to the sandbox {self.server.id} was closed here.", started=started
        )

    async def close(self, *, removed: bool) -> None:
        """Ends what goes on here, and the connections.

        Args:
            removed: whether the sandbox ends too. Else it is left alone, but for the commands of
                this client, which are killed.
        """
        self._closed = True
        self._removed = removed
        tasks = [*self._running, *([self._sweeper] if self._sweeper is not None else [])]
        if self._running and not removed:
            kills = [asyncio.create_task(one.end(self.server)) for one in self._running.values()]
            await asyncio.wait(kills, timeout=KILLS_TIME)
        for task in tasks:
            task.cancel()
        await self.server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def _sweep(self) -> None:
        while self._folders:
            await asyncio.sleep(SWEEP)
            folders, self._folders = self._folders[:100], self._folders[100:]
            events, self._events = self._events[:200], self._events[200:]
            script = wrapper.removal(folders, events, ENVIRONMENT["OH_BASH_EVENTS_DIR"])
            try:
                self._events.append(await self.server.start(script, EXECUTE_TIMEOUT))
            except OpenrtError as error:
                log.debug("what commands left in the sandbox stays there: %s", error)


def _record(value: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Working folder and environment out of a record, which any command may have changed."""
    workdir, env = value.get("workdir"), value.get("env")
    if not isinstance(workdir, str) or not workdir.startswith("/") or "\0" in workdir:
        raise InvalidAnswer("it names no working folder")
    if not isinstance(env, dict) or not all(
        isinstance(text, str) and "\0" not in text and wrapper.settable(name)
        for name, text in env.items()
    ):
        raise InvalidAnswer("its environment is none")
    return workdir, env
