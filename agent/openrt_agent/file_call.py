"""One file operation that somebody waits for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from openrt_agent import messages, wire
from openrt_agent.connection import Connection
from openrt_agent.messages import AgentError
from openrt_agent.operations import Operation
from openrt_core.errors import (
    FileAccessError,
    FileError,
    FileExistsAlreadyError,
    FileIsDirectoryError,
    FileMissingError,
    FileNotDirectoryError,
    OpenrtError,
)
from openrt_core.models import Exit
from openrt_core.streams import InputWriter
from openrt_core.waiting import Latch

LIST_LIMIT: Final = 64 << 20
"""Most bytes that the list of one folder may have."""

_KINDS: Final[Mapping[str, type[FileError]]] = {
    "not_found": FileMissingError,
    "permission": FileAccessError,
    "user": FileAccessError,
    "is_a_directory": FileIsDirectoryError,
    "not_a_directory": FileNotDirectoryError,
    "exists": FileExistsAlreadyError,
}


class FileCall:
    """One file operation, and the handler of what the agent says about it."""

    operation: Operation

    def __init__(
        self, connection: Connection, path: str, *, writes: bool, most: int | None = None
    ) -> None:
        self.over = Latch()
        self.chunks: list[bytes] = []
        self.result: dict[str, Any] = {}
        self.error: OpenrtError | None = None
        self.moved_at = time.monotonic()
        self._connection = connection
        self._path = path
        self._most = most
        self._got = 0
        self._given_up = False
        self._writer = InputWriter(self._write, self._close_input) if writes else None

    def feed(self, data: bytes) -> None:
        """Sends ``data`` as the agent gives credit, then the end of file."""
        assert self._writer is not None
        self._writer.add_credit(wire.INPUT_CREDIT)
        try:
            self._writer.submit(data)
        except BrokenPipeError:
            return  # the operation has failed already, and says why itself
        self._writer.close()

    def give_up(self) -> None:
        """Nobody waits any more: the agent is told, and what still comes is dropped."""
        self._given_up = True
        self.chunks.clear()
        if self._writer is not None:
            self._writer.abandon()
        if not self.operation.queued:
            self._connection.session.forget(self.operation)
        elif not self.over.is_set():
            self._send(wire.CANCEL)

    def _send(self, kind: int) -> None:
        if self._connection.session.is_open(self.operation):
            self._connection.send(wire.encode(kind, self.operation.id))

    def _write(self, data: bytes) -> None:
        session = self._connection.session
        if session.is_open(self.operation):
            for frame in session.feed_input(self.operation, data):
                self._connection.send(frame)

    def _close_input(self) -> None:
        self._send(wire.STDIN_EOF)

    # Handler, in the I/O thread ----------------------------------------------------------------

    def on_started(self, pid: int) -> None:
        raise AssertionError("the session lets no STARTED of a file operation through")

    def on_exited(self, exit: Exit) -> None:
        raise AssertionError("the session lets no EXITED of a file operation through")

    def on_gap(self, stream: int, amount: int) -> None:
        raise AssertionError("the session lets no GAP of a file operation through")

    def on_output(self, stream: int, data: bytes) -> None:
        self.moved_at = time.monotonic()
        if self._given_up:
            return
        self.chunks.append(data)
        self._got += len(data)
        if self._most is not None and self._got >= self._most:
            self._finish(too_large(self._path, self._most))
            self._send(wire.CANCEL)

    def on_input_credit(self, amount: int) -> None:
        self.moved_at = time.monotonic()
        if self._writer is not None:
            self._writer.add_credit(amount)

    def on_failed(self, error: AgentError) -> None:
        self._finish(file_error(error, self._path))

    def on_ended(self, result: dict[str, Any]) -> None:
        self.result = result
        self._finish(None)

    def on_lost(self, error: OpenrtError) -> None:
        self._finish(error)

    def _finish(self, error: OpenrtError | None) -> None:
        if self.over.is_set():
            return
        self.error = error
        if self._writer is not None:
            self._writer.abandon()
        self.over.set()


def file_error(error: AgentError, path: str) -> FileError:
    """What the agent says of a file operation as the error that users know."""
    kind = _KINDS.get(error.code, FileError)
    return kind(
        f"{messages.clean(path)}: {error.message}",
        path=path,
        number=error.errno or None,
        code=f"file.{error.code}",
    )


def too_large(path: str, limit: int) -> FileError:
    """More bytes than are accepted."""
    return FileError(
        f"{messages.clean(path)} has more than {limit} bytes.", path=path, code="file.too_large"
    )
