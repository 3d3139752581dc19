"""One host process with its three streams: output by offset, idempotent input, exact status."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO

import attrs

CHUNK = 256 * 1024
"""Bytes at most in one read from a pipe and in one message to a client."""
AHEAD = 64 * 1024 * 1024
"""Unread bytes kept before the process is no longer read, so that `yes` cannot eat the memory."""
BEHIND = 16 * 1024 * 1024
"""Bytes kept behind the furthest reader, for clients that come back with an older offset."""


class Dropped(Exception):
    """The offset asked for is older than what is still kept."""


class Output:
    """What a process wrote to one stream, readable from any kept offset by many readers."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self._taken = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._fd = -1
        self._paused = False
        self.ended = True

    def attach(self, fd: int) -> None:
        """Collect from this non-blocking descriptor, which is ours to close, until its end."""
        self._fd, self.ended = fd, False
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self.close()
            return
        self._data += chunk
        if self._end - self._taken > AHEAD:
            self._paused = True
            asyncio.get_running_loop().remove_reader(self._fd)
        self._wake()

    @property
    def _end(self) -> int:
        return self._start + len(self._data)

    def close(self) -> None:
        """Stop collecting; readers get what is there, then the end."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _take(self, offset: int) -> bytes:
        if offset < self._start:
            raise Dropped(f"offset {offset} is gone, kept from {self._start}")
        chunk = bytes(self._data[offset - self._start : offset - self._start + CHUNK])
        self._taken = max(self._taken, offset + len(chunk))
        if self._taken - self._start > 2 * BEHIND:
            surplus = self._taken - self._start - BEHIND
            del self._data[:surplus]
            self._start += surplus
        if self._paused and self._fd >= 0 and self._end - self._taken <= AHEAD // 2:
            self._paused = False
            asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return chunk

    async def read_from(self, offset: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``offset`` on as they come, until the end. Raises Dropped."""
        while True:
            chunk = self._take(offset)
            if chunk:
                offset += len(chunk)
                yield chunk
            elif self.ended:
                return
            else:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiters.discard(waiter)


class Input:
    """The stdin of a process. A byte that was accepted once is never written twice."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = asyncio.Lock()
        self._ready = asyncio.Event()
        self.accepted = 0
        self.closed = False

    async def write(self, offset: int, data: bytes, end: bool = False) -> None:
        """Write ``data``, which starts at ``offset`` of the stream; close it after that if ``end``.

        Bytes below what was accepted are skipped; a process that no longer reads swallows the
        rest, as a pipe nobody reads would. Raises ValueError if ``offset`` leaves a gap.
        """
        async with self._lock:
            if offset > self.accepted:
                raise ValueError(f"stdin offset {offset}, expected at most {self.accepted}")
            rest = memoryview(data)[self.accepted - offset :]
            while len(rest):
                written = await self._write_some(rest)
                self.accepted += written
                rest = rest[written:]
            if end:
                self.close()

    async def _write_some(self, data: memoryview) -> int:
        if self._fd < 0:
            return len(data)
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            await self._writable()
            return 0
        except BrokenPipeError:
            self.close()
            return len(data)

    async def _writable(self) -> None:
        """Wait until the pipe takes bytes again, or close() was called."""
        loop, fd = asyncio.get_running_loop(), self._fd
        self._ready.clear()
        loop.add_writer(fd, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            # After close() the number may belong to another file, which has its own writer.
            if self._fd == fd:
                loop.remove_writer(fd)

    def close(self) -> None:
        """Close stdin and wake a write that waits for room; safe to call again."""
        self.closed = True
        if self._fd >= 0:
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._ready.set()


@attrs.define(eq=False)
class Process:
    """A process in a session of its own. Its end is known at once, whoever holds its pipes."""

    popen: subprocess.Popen[bytes]
    stdin: Input
    stdout: Output
    stderr: Output
    ended: asyncio.Event = attrs.field(factory=asyncio.Event)
    timed_out: bool = False
    _timer: asyncio.TimerHandle | None = None

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        discard: frozenset[str] = frozenset(),
        pass_fds: Sequence[int] = (),
        time_limit: float | None = None,
    ) -> Process:
        """Start ``argv`` from the running loop's thread.

        ``discard`` names streams ("stdout", "stderr") that go to /dev/null. After ``time_limit``
        seconds the process group is killed. Raises OSError if the program cannot be started.
        """
        # Start from the loop's own thread: bubblewrap dies with the *thread* that started it.
        popen = subprocess.Popen(
            argv,
            env=dict(env),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if "stdout" in discard else subprocess.PIPE,
            stderr=subprocess.DEVNULL if "stderr" in discard else subprocess.PIPE,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            bufsize=0,
        )
        assert popen.stdin is not None
        process = cls(popen, Input(_adopt(popen.stdin)), Output(), Output())
        for output, pipe in ((process.stdout, popen.stdout), (process.stderr, popen.stderr)):
            if pipe is not None:
                output.attach(_adopt(pipe))
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(pidfd, process._reap, pidfd)
        if time_limit is not None:
            process._timer = loop.call_later(time_limit, process._expire)
        return process

    def _reap(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self.popen.wait()
        if self._timer is not None:
            self._timer.cancel()
        self.stdin.close()
        self.ended.set()

    def _expire(self) -> None:
        self.timed_out = True
        self.kill()

    def kill(self) -> None:
        """SIGKILL the process group, unless the leader has been reaped."""
        if not self.ended.is_set():
            os.killpg(self.popen.pid, signal.SIGKILL)

    @property
    def status(self) -> dict[str, int]:
        """``{"code": n}`` or ``{"signal": n}``, and nothing while it runs: the router's oneof."""
        code = self.popen.returncode
        if code is None:
            return {}
        return {"code": code} if code >= 0 else {"signal": -code}


def _adopt(pipe: IO[bytes]) -> int:
    """Take the descriptor over from Popen's file object, non-blocking."""
    fd = os.dup(pipe.fileno())
    pipe.close()
    os.set_blocking(fd, False)
    return fd
