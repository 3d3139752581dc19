"""The stream to a container's stdio or to an exec, as the engine frames it.

Without a terminal each message of the engine has a header of 8 bytes: the stream (1 stdout, 2
stderr), three zeros, and the length as u32 big-endian (Docker Engine API, "Attach to a
container", stream format).
"""

from __future__ import annotations

import collections
import contextlib
import socket
from typing import Any

_HEADER = 8
_LOG_LIMIT = 8192


class EngineEndpoint:
    """An endpoint of openrt_agent over a hijacked connection of the engine.

    stdout is the agent's stream; the last of stderr is kept for the post-mortem.
    """

    def __init__(self, raw: Any) -> None:
        import ssl

        # The SDK hands out a SocketIO around the socket for unix and http, the SSL socket itself
        # for https.
        self._holder = raw
        self._socket: socket.socket = getattr(raw, "_sock", raw)
        self._socket.setblocking(False)
        # What we send has no frames; only TLS has.
        self.raw_write = not isinstance(self._socket, ssl.SSLSocket)
        self._head = bytearray()
        self._left = 0
        self._stream = 0
        self._log = collections.deque[bytes]()
        self._log_size = 0
        self._closed = False

    @property
    def read_fd(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    @property
    def write_fd(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def receive(self, size: int) -> bytes | None:
        """Bytes of the agent's stdout; None when there are none now, b"" at the end."""
        while True:
            try:
                if self._left == 0:
                    if not self._read_header():
                        return b""
                    continue
                data = self._socket.recv(min(size, self._left))
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                if _would_block(error):
                    return None
                return b""
            if not data:
                return b""
            self._left -= len(data)
            if self._stream == 1:
                return data
            self._keep(data)

    def _read_header(self) -> bool:
        """Reads on at a header; False at the end of the stream. A header may come in pieces."""
        data = self._socket.recv(_HEADER - len(self._head))
        if not data:
            return False
        self._head += data
        if len(self._head) == _HEADER:
            self._stream = self._head[0]
            self._left = int.from_bytes(self._head[4:], "big")
            self._head.clear()
        return True

    def _keep(self, data: bytes) -> None:
        self._log.append(data)
        self._log_size += len(data)
        while self._log and self._log_size - len(self._log[0]) >= _LOG_LIMIT:
            self._log_size -= len(self._log.popleft())

    def log(self) -> bytes:
        """The last that came on stderr; hostile."""
        return b"".join(self._log)[-_LOG_LIMIT:]

    def send(self, data: memoryview) -> int:
        """Sends what the socket takes now; how many bytes."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if _would_block(error):
                return 0
            raise

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):  # it was cut already
                # The engine ends the attachment at once, whatever else holds the descriptor.
                self._socket.shutdown(socket.SHUT_RDWR)
            self._release()

    def abandon(self) -> None:
        """For a child after fork: its copies of the descriptors go, the connection stays."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        # The SDK hangs the response on what it hands out. It wants to be closed before its socket
        # is, or Python 3.13 complains on stderr when it is collected. Its own close() would put
        # the connection back into the pool, whose lock nobody may hold in a child after fork.
        response = getattr(self._holder, "_response", None)
        if response is not None:
            response.raw.close()
        self._holder.close()
        self._socket.close()


def _would_block(error: OSError) -> bool:
    import ssl

    return isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError))
