"""The ends of a running command's streams that a user holds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from openrt_core.waiting import Latch, future_waker

STREAM_WINDOW: Final = 1024 * 1024
"""Bytes of one stream that may wait for its reader; a command that writes more is slowed down."""


class OutputReader:
    """One output stream of a command that was started with ``OutputMode.STREAM``.

    Read by one reader at a time. At the end of the stream reads give ``b""``; when the command
    did not end but was lost, they raise what ``Process.wait`` raises.

    Attributes:
        dropped: bytes of a background command that are missing so far: it does not wait for its
            reader.
    """

    def __init__(self, credit: Callable[[int], None]) -> None:
        self._lock = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self.dropped = 0
        self._error: Exception | None = None
        self._wake: Callable[[], None] | None = None
        self._credit = credit

    def read(self, size: int = -1) -> bytes:
        """What is there, at most ``size`` bytes, waiting for the first; all up to the end with
        ``size`` -1."""
        if size < 0:
            return b"".join(self)
        while True:
            data = self._take(size)
            if data is not None:
                return data
            latch = Latch()
            if self._watch(latch.set):
                latch.wait()

    async def read_async(self, size: int = -1) -> bytes:
        """The same as ``read``, for async code."""
        import asyncio  # takes a while, which blocking callers need not wait

        if size < 0:
            return b"".join([chunk async for chunk in self])
        while True:
            data = self._take(size)
            if data is not None:
                return data
            future, wake = future_waker(asyncio.get_running_loop())
            if self._watch(wake):
                await future

    def __iter__(self) -> Iterator[bytes]:
        """Chunks as they come, up to the end."""
        while chunk := self.read(STREAM_WINDOW):
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read_async(STREAM_WINDOW):
            yield chunk

    def _take(self, size: int) -> bytes | None:
        with self._lock:
            if self._chunks:
                chunk = self._chunks.popleft()
                if len(chunk) > size:
                    self._chunks.appendleft(chunk[size:])
                    chunk = chunk[:size]
            elif self._error is not None:
                raise self._error
            elif self._ended or size == 0:
                return b""
            else:
                return None
        self._credit(len(chunk))
        return chunk

    def _watch(self, wake: Callable[[], None]) -> bool:
        """Has ``wake`` called at the next change; False when there is something already."""
        with self._lock:
            if self._chunks or self._ended:
                return False
            self._wake = wake
            return True

    def feed(self, data: bytes) -> None:
        """For the process: more bytes came."""
        with self._lock:
            if not self._ended:
                self._chunks.append(data)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def end(self, error: Exception | None) -> None:
        """For the process: nothing more comes; ``error`` when that is not the command's own end."""
        with self._lock:
            self._ended = True
            self._error = error
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()


def read_both(one: OutputReader, other: OutputReader) -> Iterator[tuple[OutputReader, bytes]]:
    """Chunks of two streams as they come, each with its reader, up to the end of both."""
    unended = [one, other]
    while unended:
        came = False
        for reader in tuple(unended):
            data = reader._take(STREAM_WINDOW)
            if data:
                came = True
                yield reader, data
            elif data is not None:
                unended.remove(reader)
        if unended and not came:
            _wait_for_any(unended)


def _wait_for_any(readers: list[OutputReader]) -> None:
    latch, first = Latch(), threading.Lock()

    def wake() -> None:
        if first.acquire(blocking=False):  # a latch is set once
            latch.set()

    watched = [reader._watch(wake) for reader in readers]
    if all(watched):
        latch.wait()


class InputWriter:
    """The stdin of a command. Bytes go out as the command takes them; several writers do not mix
    their bytes."""

    def __init__(self, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._queue: deque[tuple[memoryview, Callable[[bool], None] | None]] = deque()
        self._credit = 0
        self._pushing = False
        self._closing = False
        self._closed = False
        self._broken = False
        self._send = send
        self._send_close = close

    def write(self, data: bytes) -> None:
        """Writes all of ``data``; returns when the way to the command has taken it.

        Raises:
            BrokenPipeError: stdin was closed, or the command is over.
        """
        latch, sent = Latch(), [True]

        def taken(went_out: bool) -> None:
            sent[0] = went_out
            latch.set()

        if self.submit(data, taken):
            latch.wait()
        _check(sent[0])

    async def write_async(self, data: bytes) -> None:
        """The same as ``write``, for async code."""
        import asyncio

        future, wake = future_waker(asyncio.get_running_loop())
        sent = [True]

        def taken(went_out: bool) -> None:
            sent[0] = went_out
            wake()

        if self.submit(data, taken):
            await future
        _check(sent[0])

    def submit(self, data: bytes, taken: Callable[[bool], None] | None = None) -> bool:
        """Queues ``data`` and returns at once; ``taken`` is called with True when all of it went
        out, with False when it never will. False for no data.

        Raises:
            BrokenPipeError: stdin was closed, or the command is over.
        """
        with self._lock:
            _check(not self._closing and not self._broken)
            if not data:
                return False
            self._queue.append((memoryview(data), taken))
        self._push()
        return True

    def close(self) -> None:
        """End of file for the command, after what was written. Idempotent."""
        with self._lock:
            self._closing = True
        self._push()

    def add_credit(self, amount: int) -> None:
        """For the runtime: it can take so many bytes more."""
        with self._lock:
            self._credit += amount
        self._push()

    def abandon(self) -> None:
        """For the process: the command is over; what was not sent is dropped and writers are let
        go."""
        with self._lock:
            self._broken = True
            waiting = [taken for _, taken in self._queue if taken is not None]
            self._queue.clear()
        for taken in waiting:
            taken(False)

    def _push(self) -> None:
        """Sends what the credit allows. One thread at a time, so that bytes keep their order."""
        with self._lock:
            if self._pushing:
                return
            self._pushing = True
        try:
            while True:
                with self._lock:
                    step = self._next()
                    if step is None:
                        self._pushing = False
                        return
                step()
        except BaseException:
            # A KeyboardInterrupt: the next push must not take this one for still at work.
            with self._lock:
                self._pushing = False
            raise

    def _next(self) -> Callable[[], None] | None:
        if self._broken or self._closed:
            return None
        if not self._queue:
            if self._closing:
                self._closed = True
                return self._send_close
            return None
        if self._credit <= 0:
            return None
        data, taken = self._queue.popleft()
        part, rest = data[: self._credit], data[self._credit :]
        self._credit -= len(part)
        if rest:
            self._queue.appendleft((rest, taken))
            taken = None

        def step() -> None:
            sent = False
            try:
                self._send(bytes(part))
                sent = True
            finally:
                # Also when a Ctrl-C strikes here: the data may be another thread's, which waits.
                if taken is not None:
                    taken(sent)

        return step


def _check(open: bool) -> None:
    if not open:
        raise BrokenPipeError("the command's stdin is closed")
