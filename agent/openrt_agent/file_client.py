"""File operations through an agent: blocking calls that never hang."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from openrt_agent import messages, wire
from openrt_agent.connection import Connection
from openrt_agent.file_call import LIST_LIMIT, FileCall, too_large
from openrt_agent.requests import User, to_bytes, to_json
from openrt_agent.wire import Violation
from openrt_core.errors import TransportError
from openrt_core.models import Entry

PATIENCE: Final = 60.0
"""Seconds without any progress after which a file operation is given up."""
READ_LIMIT: Final = 1 << 30


class FileClient:
    """Files of one sandbox. Paths are absolute; ``user`` is as in START, None for the agent's own.

    All calls raise FileError or one of its kinds for what the sandbox's file system refuses, and
    TransportError or SandboxGoneError when the way to it broke or nothing moved for ``patience``
    seconds.
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
            limit: most bytes that are accepted; more are a FileError with code ``file.too_large``.
            user: with whose rights.
        """
        wanted = limit + 1 if length is None else min(length, limit + 1)
        keys = {"offset": offset, "length": wanted, "credit": [wanted, 0]}
        call = self._run("read", path, keys, user, window=wanted)
        data = b"".join(call.chunks)
        if len(data) > limit:
            raise too_large(path, limit)
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
        """Removes a file, a link or a folder; a full one with ``recursive``. Follows no links."""
        self._run("remove", path, {"recursive": recursive}, user)

    def rename(self, path: str, to: str, *, user: User | None = None) -> None:
        """Renames ``path``; what was at ``to`` is replaced."""
        self._run("rename", path, {"to": to_bytes(to)}, user)

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
    ) -> FileCall:
        connection = self._connection
        connection.check()
        request = {"op": op, "path": to_bytes(path), **keys}
        if user is not None:
            request["user"] = user
        payload = to_json(request)
        most = LIST_LIMIT if op == "list" else None
        call = FileCall(connection, path, writes=data is not None, most=most)
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

    def _wait(self, call: FileCall) -> None:
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


def _parse_line(line: bytes) -> Entry:
    return messages.parse_entry(messages.from_json(line))
