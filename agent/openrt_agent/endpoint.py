"""How bytes get to an agent and back: pipes, sockets, or an SDK's own streams.

An endpoint may have an attribute ``raw_write = True``: what is written to ``write_fd`` reaches the
agent as it is, without TLS or framing. A caller's thread then writes a command straight to the
descriptor instead of waking the I/O thread. And it may have a method ``abandon()``, called in a
child after fork: it closes the child's copies of the descriptors, and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from openrt_core.errors import TransportError

PIPE_SIZE: Final = 1 << 20


class Endpoint(Protocol):
    """Two ordered streams of bytes. The I/O thread calls all of it; nothing here may block.

    Attributes:
        read_fd: becomes readable when ``receive`` may give something.
        write_fd: becomes writable when ``send`` may take something; the same as ``read_fd`` for
            sockets, -1 when ``send`` takes everything.
    """

    @property
    def read_fd(self) -> int: ...

    @property
    def write_fd(self) -> int: ...

    def receive(self, size: int) -> bytes | None:
        """About ``size`` bytes at most; ``b""`` at the end, None when nothing is there now.

        Raises:
            OSError, TransportError: the stream broke.
        """

    def send(self, data: memoryview) -> int:
        """How many bytes were taken, 0 when there is no room now.

        Raises:
            OSError, TransportError: the stream broke.
        """

    def close(self) -> None:
        """Closes both streams. Idempotent."""


class FdEndpoint:
    """Two descriptors, for example the pipes of a process. They belong to the endpoint from now on.

    Args:
        read_fd: to read from.
        write_fd: to write to; may be the same.
        on_close: called once, after the descriptors were closed. Must not block.
    """

    raw_write = True

    def __init__(
        self, read_fd: int, write_fd: int, on_close: Callable[[], None] | None = None
    ) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self._on_close = on_close
        self._open = True
        for fd in {read_fd, write_fd}:
            os.set_blocking(fd, False)
            # Fewer wake-ups for large outputs. Refused for sockets, and to users with many pipes.
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                with contextlib.suppress(OSError):
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def receive(self, size: int) -> bytes | None:
        try:
            return os.read(self.read_fd, size)
        except BlockingIOError:
            return None

    def send(self, data: memoryview) -> int:
        try:
            return os.write(self.write_fd, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._open:
            self.abandon()
            if self._on_close is not None:
                self._on_close()

    def abandon(self) -> None:
        """Closes this process's copies of the descriptors and nothing else."""
        if self._open:
            self._open = False
            for fd in {self.read_fd, self.write_fd}:
                os.close(fd)


class SocketEndpoint(FdEndpoint):
    """A connected stream socket without TLS. It belongs to the endpoint from now on."""

    def __init__(self, sock: socket.socket, on_close: Callable[[], None] | None = None) -> None:
        fd = sock.detach()
        super().__init__(fd, fd, on_close)


class PushEndpoint:
    """The streams of an SDK that has no descriptors.

    The SDK's side calls ``received`` and ``ended``, from any thread; neither blocks.

    Args:
        send_bytes: called in the I/O thread with what is to be sent. Must not block: it hands the
            bytes to the SDK's own thread. What can pile up there is bounded by the credit that the
            agent gives.
        on_close: called once. Must not block.
    """

    MOST: Final = 8 << 20
    """Bytes that may wait here. An agent that keeps to its credit never sends as much ahead."""

    write_fd = -1

    def __init__(
        self, send_bytes: Callable[[bytes], None], on_close: Callable[[], None] | None = None
    ) -> None:
        self._send_bytes = send_bytes
        self._on_close = on_close
        self._lock = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self.read_fd = self._bell.fileno()

    def received(self, data: bytes) -> None:
        """The SDK got bytes from the agent."""
        with self._lock:
            if self._closed or self._ended or not data:
                return
            if self._size + len(data) > self.MOST:
                self._ended = True
                self._error = TransportError("The sandbox sent more than it was allowed to.")
            else:
                self._chunks.append(data)
                self._size += len(data)
            self._wake()

    def ended(self, error: Exception | None = None) -> None:
        """The SDK's stream ended; with ``error`` when that is not the end that the agent made."""
        with self._lock:
            if not self._ended and not self._closed:
                self._ended = True
                self._error = error
                self._wake()

    def receive(self, size: int) -> bytes | None:
        with self._lock:
            if self._chunks:
                data = self._chunks.popleft()
                self._size -= len(data)
                return data
            if not self._ended:
                with contextlib.suppress(BlockingIOError):
                    self._bell.recv(65_536)
                return None
            error = self._error
        if error is not None:
            raise TransportError(str(error)) from error
        return b""

    def send(self, data: memoryview) -> int:
        self._send_bytes(bytes(data))
        return len(data)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._chunks.clear()
            self._bell.close()
            self._ring.close()
        if self._on_close is not None:
            self._on_close()

    def abandon(self) -> None:
        """For a child after fork: its copies of the wake-up sockets go, the SDK is left alone."""
        self._closed = True
        self._bell.close()
        self._ring.close()

    def _wake(self) -> None:
        # A full buffer means that the other side has been woken and not come yet.
        with contextlib.suppress(BlockingIOError):
            self._ring.send(b"\0")
