"""File operations through an agent: blocking calls, each with a limit of its own on how long nothing may move."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from openrt_agent import messages, wire
from openrt_agent.connection import Connection
from openrt_agent.messages import AgentError, User
from openrt_agent.session import Operation
from openrt_agent.wire import Violation
from openrt_core.errors import (
    FileAccessError,
    FileError,
    FileExistsAlreadyError,
    FileIsDirectoryError,
    FileMissingError,
    FileNotDirectoryError,
    OpenrtError,
    TransportError,
)
from openrt_core.models import Entry, Exit
from openrt_core.streams import InputWriter
from openrt_core.waiting import Latch

PATIENCE: Final = 60.0
"""Seconds without any progress after which a file operation is given up."""
READ_LIMIT: Final = 1 << 30
LIST_LIMIT: Final = 64 << 20

_KINDS: Final[Mapping[str, type[FileError]]] = {
    "not_found": FileMissingError,
    "permission": FileAccessError,
    "user": FileAccessError,
    "is_a_directory": FileIsDirectoryError,
    "not_a_directory": FileNotDirectoryError,
    "exists": FileExistsAlreadyError,
}


class FileClient:
    """Files of one sandbox. Paths are absolute; ``user`` is as in START, None for the agent's own.

    All calls raise FileError or one of its kinds for what the sandbox's file system refuses, and TransportError or
    SandboxGoneError when the way to it broke or nothing moved for ``patience`` seconds.
    """

    def __init__(self, connection: Connection, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._connection = connection

    def read(
        self,
        path: str,
        *,
        offset: int = 0,
        length: int | None = None,
        limit: int = READ_LIMIT,
        user: User | None = None,
    ) -> bytes:
        """The content of a file, or ``length`` bytes of it from ``offset``.

        Args:
            path: the file.
            offset: bytes to leave out at the beginning.
            length: most bytes wanted; None for all.
            limit: most bytes that are accepted; a file with more is a FileError with code ``file.too_large``.
            user: with whose rights.
        """
        wanted = limit + 1 if length is None else min(length, limit + 1)
        keys = {"offset": offset, "length": wanted, "credit": [wanted, 0]}
        call = self._run("read", path, keys, user, window=wanted)
        data = b"".join(call.chunks)
        if len(data) > limit:
            raise _too_large(path, limit)
        if self._checked(messages.parse_count, call.result, "size") != len(data):
            self._violate(Violation("a file of another size than was sent"))
        return data

    def write(
        self,
        path: str,
        data: bytes,
        *,
        mode: int | None = None,
        append: bool = False,
        exclusive: bool = False,
        make_parents: bool = True,
        user: User | None = None,
    ) -> int:
        """Writes a file, atomically unless it is appended to. The number of bytes.

        Args:
            path: the file; a link is followed once.
            data: the whole content.
            mode: permission bits; None keeps those of a file that is there, else 0o644.
            append: whether to add to what is there.
            exclusive: whether a file that is there is an error.
            make_parents: whether missing folders above it are made.
            user: with whose rights, and whose it will be.
        """
        keys: dict[str, Any] = {
            "append": append,
            "exclusive": exclusive,
            "make_parents": make_parents,
        }
        if mode is not None:
            keys["mode"] = mode
        call = self._run("write", path, keys, user, data=data)
        size: int = self._checked(messages.parse_count, call.result, "size")
        return size

    def stat(self, path: str, *, follow: bool = True, user: User | None = None) -> Entry:
        """One entry, whose name is ``path``; of what a link points to with ``follow``."""
        call = self._run("stat", path, {"follow": follow}, user)
        entry: Entry = self._checked(messages.parse_entry, call.result.get("entry"), name=path)
        return entry

    def list(self, path: str, *, user: User | None = None) -> list[Entry]:
        """The entries of a folder, unordered."""
        call = self._run("list", path, {"credit": [LIST_LIMIT, 0]}, user, window=LIST_LIMIT)
        return [
            self._checked(_parse_line, line)
            for line in b"".join(call.chunks).split(b"\n")
            if line.strip()
        ]

    def mkdir(
        self,
        path: str,
        *,
        mode: int = 0o755,
        parents: bool = True,
        exist_ok: bool = True,
        user: User | None = None,
    ) -> None:
        """Makes a folder."""
        self._run("mkdir", path, {"mode": mode, "parents": parents, "exist_ok": exist_ok}, user)

    def remove(self, path: str, *, recursive: bool = False, user: User | None = None) -> None:
        """Removes a file, a link or a folder; a full one only with ``recursive``. Follows no links."""
        self._run("remove", path, {"recursive": recursive}, user)

    def rename(self, path: str, to: str, *, user: User | None = None) -> None:
        """Renames ``path``; what was at ``to`` is replaced."""
        self._run("rename", path, {"to": messages.to_bytes(to)}, user)

    # -------------------------------------------------------------------------------------------

    def _run(
        self,
        op: str,
        path: str,
        keys: Mapping[str, Any],
        user: User | None,
        *,
        window: int = 0,
        data: bytes | None = None,
    ) -> _Call:
        connection = self._connection
        connection.check()
        request = {"op": op, "path": messages.to_bytes(path), **keys}
        if user is not None:
            request["user"] = user
        payload = messages.to_json(request)
        call = _Call(connection, path, window, writes=data is not None)
        call.operation = connection.session.open("file", call, (window, 0))
        try:
            connection.begin(call.operation, wire.encode(wire.FILE, call.operation.id, payload))
            if data is not None:
                call.feed(data)
            self._wait(call)
        except BaseException:
            call.give_up()
            raise
        if call.error is not None:
            raise call.error
        return call

    def _wait(self, call: _Call) -> None:
        while True:
            left = call.moved_at + self.patience - time.monotonic()
            if left <= 0:
                raise TransportError(
                    f"Nothing moved for {self.patience:g} s in a file operation in the sandbox.",
                    hint="Is the sandbox paused, or its file system stuck?",
                )
            if call.over.wait(left):
                return

    def _checked(self, parse: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return parse(*arguments, **keywords)
        except Violation as error:
            self._violate(error)

    def _violate(self, error: Violation) -> NoReturn:
        self._connection.violate(error)
        raise TransportError(
            f"What came from the sandbox is not the agent's protocol: {error}.",
            code="transport.protocol",
            started="yes",
        )


class _Call:
    """One file operation that somebody waits for. The handler of what the agent says about it."""

    operation: Operation[_Call]

    def __init__(self, connection: Connection, path: str, window: int, *, writes: bool) -> None:
        self.over = Latch()
        self.chunks: list[bytes] = []
        self.result: dict[str, Any] = {}
        self.error: OpenrtError | None = None
        self.moved_at = time.monotonic()
        self._connection = connection
        self._path = path
        self._window = window
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
        if not self.over.is_set():
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

    def on_output(self, stream: int, data: bytes) -> None:
        self.moved_at = time.monotonic()
        if self._given_up:
            return
        self.chunks.append(data)
        self._got += len(data)
        if self._got >= self._window and self._window == LIST_LIMIT:
            self._finish(_too_large(self._path, LIST_LIMIT))
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


def _too_large(path: str, limit: int) -> FileError:
    return FileError(
        f"{messages.clean(path)} has more than {limit} bytes.", path=path, code="file.too_large"
    )


def _parse_line(line: bytes) -> Entry:
    return messages.parse_entry(messages.from_json(line))
