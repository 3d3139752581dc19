"""Ports of a sandbox on this machine: what connects to a local socket is carried through the
agent's stream to a port inside. All of it runs in the I/O thread."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import socket
import struct
from collections import deque
from typing import Any, Final

from openrt_agent import loop as loops
from openrt_agent import wire
from openrt_agent.connection import Connection
from openrt_agent.messages import AgentError
from openrt_agent.requests import to_json
from openrt_core import deadlines
from openrt_core.errors import OpenrtError
from openrt_core.models import Exit

log = logging.getLogger("openrt")

WINDOW: Final = 1 << 20
"""Bytes from the sandbox that may wait here for one local client that does not read."""
MOST: Final = 256
"""Connections through one listener at once; others wait until one ends."""
_READ: Final = 65_536
_NEVER: Final = 3600.0
_RETRY: Final = 1.0


class Listener:
    """A local socket, 127.0.0.1 at a port of the system's choice, for one port of a sandbox.

    Args:
        connection: to the agent; the listener ends with it.
        port: in the sandbox.

    Attributes:
        address: host and port, here.
    """

    def __init__(self, connection: Connection, port: int) -> None:
        self._connection = connection
        self._port = port
        self._loop = loops.current()
        self._tunnels: set[Tunnel] = set()
        self._closed = False
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._socket.setblocking(False)
        self.address: tuple[str, int] = self._socket.getsockname()
        self.read_fd = self.write_fd = self._socket.fileno()
        self._loop.call(self._begin)
        connection.add_close_callback(self._close)

    def _begin(self) -> None:
        if not self._closed:
            self._loop.add(self)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove(self)
            self._socket.close()

    def left(self, tunnel: Tunnel) -> None:
        """For a tunnel: it is closed."""
        self._tunnels.discard(tunnel)
        self._resume()

    def _resume(self) -> None:
        if not self._closed:
            self._loop.want_read(self, len(self._tunnels) < MOST)

    # For the loop ------------------------------------------------------------------------------

    def readable(self) -> bool:
        try:
            local, _ = self._socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # It stays readable; without a pause this would take the whole processor.
                self._loop.want_read(self, False)
                deadlines.after(_RETRY, functools.partial(self._loop.call, self._resume))
            return False
        try:
            tunnel = Tunnel(self, self._connection, local, self._port)
        except OpenrtError:
            local.close()  # the connection to the sandbox has ended, or takes nothing now
            return False
        self._tunnels.add(tunnel)
        self._resume()
        return len(self._tunnels) < MOST

    def writable(self) -> None:
        """Nothing is ever written."""

    def tick(self, now: float) -> float:
        return now + _NEVER

    def broken(self, error: Exception) -> None:
        self._close()

    def orphaned(self) -> None:
        self._closed = True
        self._socket.close()


class Tunnel:
    """One local connection, and the handler of what comes for it from the agent."""

    def __init__(
        self, listener: Listener, connection: Connection, local: socket.socket, port: int
    ) -> None:
        self._listener = listener
        self._connection = connection
        self._socket = local
        self._loop = loops.current()
        self._room = wire.INPUT_CREDIT  # bytes that the agent can take
        self._out: deque[memoryview] = deque()
        self._input_over = False
        self._ended = False  # the sandbox's side has
        self._closed = False
        connection.check()
        local.setblocking(False)
        with contextlib.suppress(OSError):
            local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read_fd = self.write_fd = local.fileno()
        self._operation = connection.session.open("file", self, (WINDOW, 0))
        payload = to_json({"port": port, "credit": [WINDOW, 0]})
        connection.begin(self._operation, wire.encode(wire.FORWARD, self._operation.id, payload))
        self._loop.add(self)

    # For the loop ------------------------------------------------------------------------------

    def readable(self) -> bool:
        if self._input_over or self._room <= 0:
            self._loop.want_read(self, False)
            return False
        try:
            data = self._socket.recv(min(_READ, self._room))
        except BlockingIOError:
            return False
        except OSError:
            self._abort()
            return False
        if data:
            self._room -= len(data)
            for frame in self._connection.session.feed_input(self._operation, data):
                self._connection.send(frame)
        else:
            self._input_over = True
            self._send(wire.STDIN_EOF)
        return False

    def writable(self) -> None:
        sent = 0
        try:
            while self._out:
                taken = self._socket.send(self._out[0])
                sent += taken
                rest = self._out.popleft()[taken:]
                if rest:
                    self._out.appendleft(rest)
        except BlockingIOError:
            pass
        except OSError:
            self._abort()
            return
        if sent:
            credit = self._connection.session.grant(self._operation, 1, sent)
            if credit is not None:
                self._connection.send(credit)
        if self._ended and not self._out:
            self._close()
        else:
            self._loop.want_write(self, bool(self._out))

    def tick(self, now: float) -> float:
        return now + _NEVER

    def broken(self, error: Exception) -> None:
        self._abort()

    def orphaned(self) -> None:
        self._closed = True
        self._socket.close()

    # Handler -----------------------------------------------------------------------------------

    def on_output(self, stream: int, data: bytes) -> None:
        if not self._closed:
            self._out.append(memoryview(data))
            self.writable()

    def on_input_credit(self, amount: int) -> None:
        self._room += amount
        if not self._closed and not self._input_over:
            self._loop.want_read(self, True)

    def on_ended(self, result: dict[str, Any]) -> None:
        self._ended = True
        if not self._closed:
            self._loop.want_read(self, False)
            self.writable()

    def on_failed(self, error: AgentError) -> None:
        self._reset()

    def on_lost(self, error: OpenrtError) -> None:
        self._reset()

    def on_started(self, pid: int) -> None:
        raise AssertionError("the session lets no STARTED of a forward through")

    def on_exited(self, exit: Exit) -> None:
        raise AssertionError("the session lets no EXITED of a forward through")

    def on_gap(self, stream: int, amount: int) -> None:
        raise AssertionError("the session lets no GAP of a forward through")

    # -------------------------------------------------------------------------------------------

    def _send(self, kind: int) -> None:
        if self._connection.session.is_open(self._operation):
            self._connection.send(wire.encode(kind, self._operation.id))

    def _abort(self) -> None:
        """The local side broke."""
        if not self._closed:
            self._send(wire.CANCEL)
            self._close()

    def _reset(self) -> None:
        """The local client must not take what it got for the whole."""
        if not self._closed:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._out.clear()
            self._loop.remove(self)
            self._socket.close()
            self._listener.left(self)
