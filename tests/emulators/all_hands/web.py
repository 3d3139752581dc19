"""What the emulator's servers share: HTTP/1.1 on loopback, one thread a connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self

_PIECE = 64 * 1024


class BadRequest(Exception):
    """The request cannot be understood; the text says why."""


class Handler(BaseHTTPRequestHandler):
    """A request handler that reads bodies of either framing and answers JSON."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes: with Nagle's algorithm each answer would wait for an ACK, 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the journal is the log."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the request's body, piece by piece."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from self._chunks()
            return
        left = int(self.headers.get("content-length") or 0)
        while left:
            piece = self.rfile.read(min(left, _PIECE))
            if not piece:
                raise ConnectionResetError("the body ended early")
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
            if size == 0:
                while self.rfile.readline().strip():
                    continue  # trailers
                return
            yield self.rfile.read(size)
            self.rfile.readline()

    @staticmethod
    def json_object(body: bytes) -> dict[str, object]:
        """Return what `body` says as a JSON object.

        Raises:
            BadRequest: it is something else.
        """
        try:
            value = json.loads(body)
        except ValueError as error:
            raise BadRequest("the body is not JSON") from error
        if not isinstance(value, dict):
            raise BadRequest("the body is not a JSON object")
        return value

    def answer(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        """Send `value` as JSON."""
        self.answer_bytes(
            status,
            json.dumps(value).encode(),
            {"Content-Type": "application/json", **(headers or {})},
        )

    def answer_bytes(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        """Send `data` as it is."""
        self.send_response(status)
        for name, content in headers.items():
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up in the middle: tests do that on purpose."""


class Listener:
    """A server on a free port of 127.0.0.1, in a thread of its own. A context manager."""

    _poll_s: ClassVar[float] = 0.05

    def __init__(self, handler: type[Handler]) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(self._poll_s,), daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The origin: scheme, host, port, and no slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def listening(self) -> bool:
        """Whether it is not closed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening. Calls that are in progress end by themselves. Twice is fine."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
