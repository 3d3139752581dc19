"""The stream of one client to the agent: a long-lived exec, written and read on the event loop.

Bytes go out as soon as the call before them has been answered; what comes meanwhile goes out
together, in order.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from typing import TYPE_CHECKING

from openrt_agent.endpoint import PushEndpoint
from openrt_core.errors import TransportError
from openrt_modal.sdk import Sdk, error_of

if TYPE_CHECKING:
    import modal
    from modal.container_process import ContainerProcess

_MOST = 4 << 20
"""Bytes in one call; the library takes 16 MiB."""
_LAST_WORDS = 10.0
"""Seconds that the end of the stream has to reach the sandbox."""


class ExecStream:
    """Carries bytes between a PushEndpoint and the stdin and stdout of an exec.

    Attributes:
        endpoint: what the agent's client uses.
    """

    def __init__(self, sdk: Sdk, sandbox: modal.Sandbox, process: ContainerProcess[bytes]) -> None:
        self.endpoint = PushEndpoint(self._send, self._close)
        self._sandbox = sandbox
        self._process = process
        self._loop = sdk.loop()
        self._waiting: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._closing = False
        self._reader = sdk.begin(self._read())
        self._writer = sdk.begin(self._write())
        self._reader.add_done_callback(self._read_ended)
        self._writer.add_done_callback(self._write_ended)

    @classmethod
    async def open(cls, sdk: Sdk, sandbox: modal.Sandbox, *argv: str) -> ExecStream:
        """Runs ``argv`` in the sandbox and carries its streams. Runs on the loop.

        Raises:
            modal.exception.Error, ConnectionError: it was not started.
        """
        from modal.stream_type import StreamType

        process = await sandbox.exec.aio(*argv, text=False, stderr=StreamType.DEVNULL)
        return cls(sdk, sandbox, process)

    # The I/O thread of the agent's client calls these two.

    def _send(self, data: bytes) -> None:
        self._waiting.append(data)
        self._loop.call_soon_threadsafe(self._more.set)

    def _close(self) -> None:
        self._loop.call_soon_threadsafe(self._finish)

    # What follows runs on the loop.

    def _finish(self) -> None:
        self._closing = True
        self._more.set()
        self._loop.call_later(_LAST_WORDS, self._writer.cancel)

    async def _write(self) -> None:
        stdin = self._process.stdin
        while not self._closing or self._waiting:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                stdin.write(self._next())
                await stdin.drain.aio()
        # The agent takes it for the end of this client.
        stdin.write_eof()
        await stdin.drain.aio()

    def _next(self) -> bytes:
        parts = [self._waiting.popleft()]
        size = len(parts[0])
        while self._waiting and size + len(self._waiting[0]) <= _MOST:
            parts.append(self._waiting.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    async def _read(self) -> None:
        async for data in self._process.stdout:
            self.endpoint.received(data)

    def _read_ended(self, reader: concurrent.futures.Future[None]) -> None:
        self.endpoint.ended(_error(reader))
        self._writer.cancel()

    def _write_ended(self, writer: concurrent.futures.Future[None]) -> None:
        error = _error(writer)
        if error is not None:
            self.endpoint.ended(error)
        self._reader.cancel()
        self._detaching = self._loop.create_task(self._detach())

    async def _detach(self) -> None:
        await self._sandbox.detach.aio()


def _error(future: concurrent.futures.Future[None]) -> Exception | None:
    """Why it ended, None when it was its time."""
    if future.cancelled():
        return None
    error = future.exception()
    if error is None:
        return None
    if isinstance(error, Exception):
        return error_of("reach the sandbox", error) or error
    return TransportError(f"The stream to the sandbox was cut: {type(error).__name__}.")
