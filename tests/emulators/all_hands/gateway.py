"""A sandbox's own URL: what stands between a client and the server in the pod.

Each sandbox has an origin of its own, because V1 clients refuse a URL with a path in it.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable
from typing import ClassVar, Protocol

import attrs
from emulators.all_hands.journal import Journal
from emulators.all_hands.web import Handler, Listener

# Of the connection, not of the message: these are not passed on.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "host"})
# A command may take as long as its own time limit; this only bounds a forgotten connection.
_UPSTREAM_TIMEOUT_S = 3600.0


class Backend(Protocol):
    """A server that a gateway can stand in front of."""

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 that it listens on."""

    @property
    def session_key(self) -> str:
        """What it takes as X-Session-API-Key."""

    def alive(self) -> bool:
        """Say whether it runs."""

    def healthy(self) -> bool:
        """Say whether it runs and answers."""

    def pids(self) -> list[int]:
        """Return the processes of the sandbox, as the host numbers them."""

    def kill(self) -> None:
        """End it and all that it started."""


@attrs.define(eq=False)
class Gateway:
    """The reverse proxy of one sandbox. It notes every request in the journal.

    `closed_with` is the status that everything gets instead of the server's answer: 503 for one
    that sleeps, 404 or 502 or 504 for one that is gone; None lets everything through.
    """

    backend: Backend
    journal: Journal
    control_key: str
    closed_with: int | None = None
    _listener: Listener = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        class Bound(_GatewayHandler):
            gateway = self

        self._listener = Listener(Bound)

    @property
    def url(self) -> str:
        """The sandbox's origin."""
        return self._listener.url

    def close(self) -> None:
        """Stop listening; the server behind is left as it is."""
        self._listener.close()


class _GatewayHandler(Handler):
    gateway: ClassVar[Gateway]

    def _serve(self) -> None:
        refusal = self.gateway.journal.next_refusal("sandbox", self.path)
        if self.gateway.closed_with is not None:
            refusal = (self.gateway.closed_with, "the sandbox is not there", {})
        if "upgrade" in self.headers:
            refusal = (501, "the emulator passes no WebSocket on", {})
        if refusal is not None:
            status, detail, headers = refusal
            for _ in self.pieces():
                continue  # what was sent has to be read, else the next request starts in its middle
            self._note(status)
            self.answer(status, {"detail": detail}, headers)
            return
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.gateway.backend.port, timeout=_UPSTREAM_TIMEOUT_S
        )
        with contextlib.closing(connection):
            self._relay(connection)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _relay(self, connection: http.client.HTTPConnection) -> None:
        try:
            self._send_on(connection)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            # The pod died under the call. A call that /stop or a fault cut short gets that status.
            status = self.gateway.closed_with or 502
            self._note(status)
            self.close_connection = True  # part of the body may be unread
            self.answer(status, {"detail": "Bad Gateway"})
            return
        self._note(response.status)
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        empty = self.command == "HEAD" or response.status in (204, 304)
        if empty or response.getheader("content-length") is not None:
            self.end_headers()
            self._copy(response, self.wfile.write)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._copy(response, self._write_chunk)
            self.wfile.write(b"0\r\n\r\n")

    def _send_on(self, connection: http.client.HTTPConnection) -> None:
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        connection.putrequest(self.command, self.path, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for piece in self.pieces():
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.send(b"0\r\n\r\n")

    @staticmethod
    def _copy(response: http.client.HTTPResponse, write: Callable[[bytes], object]) -> None:
        while piece := response.read1(64 * 1024):
            write(piece)

    def _write_chunk(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _note(self, status: int) -> None:
        # Before the answer goes out: a client that has its answer may look at the journal at once.
        self.gateway.journal.note(
            "sandbox",
            self.command,
            self.path,
            self.headers.items(),
            status,
            foreign_keys=(self.gateway.control_key,),
        )
