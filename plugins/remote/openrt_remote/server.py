"""What the agent server in one sandbox is asked for."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

import attrs

from openrt_core.errors import TransportError
from openrt_remote import answers
from openrt_remote.answers import InvalidAnswer, shown
from openrt_remote.control import Answer
from openrt_remote.link import Link

EXECUTE_TIMEOUT: Final = 30
"""Seconds for a script of openrt's own."""
NO_LIMIT: Final = 10**9
"""Seconds that the server is told for a command without a time limit."""
PIECE: Final = 4 * 1024 * 1024
"""Bytes of one part of a file that is read or written."""


@attrs.frozen
class Part:
    """A part of a file.

    Attributes:
        data: the bytes.
        size: of the whole file, when they were read.
    """

    data: bytes
    size: int


class Server:
    """One sandbox's server. For the worker's loop only.

    Args:
        link: the way to it.

    Attributes:
        id: of the sandbox.
    """

    def __init__(self, link: Link) -> None:
        self.id = link.id
        self._link = link

    async def close(self) -> None:
        """Closes its connections; calls after it say that the sandbox is gone."""
        await self._link.close()

    async def start(self, command: str, timeout: int) -> UUID:
        """Starts a shell command; its id.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError: whether it may run.
        """
        body = {"command": command, "timeout": timeout}
        # When an answer is lost, nobody knows whether it runs.
        answer = await self._link.call(
            "POST", "/api/bash/start_bash_command", {"json": body}, repeat=False
        )
        with self._understood():
            return UUID(str(answers.json_object(answer.body).get("id")))

    async def execute(self, script: str) -> int:
        """Runs a short script of openrt's own to its end; its status.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError
        """
        body = {"command": script, "timeout": EXECUTE_TIMEOUT}
        answer = await self._link.call(
            "POST", "/api/bash/execute_bash_command", {"json": body}, repeat=False
        )
        with self._understood():
            code = answers.json_object(answer.body).get("exit_code")
            if not isinstance(code, int):
                raise InvalidAnswer("it tells no exit code")
            return code

    async def outcome(self, command: UUID) -> int | None:
        """The exit code as subprocess has it (negative: the signal); None while the command runs.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError
        """
        params = {"command_id__eq": str(command), "kind__eq": "BashOutput", "limit": "100"}
        answer = await self._link.call("GET", "/api/bash/bash_events/search", {"params": params})
        with self._understood():
            items = answers.json_object(answer.body).get("items")
            if not isinstance(items, list):
                raise InvalidAnswer("there is no list of events")
            for item in items:
                code = item.get("exit_code") if isinstance(item, dict) else None
                if isinstance(code, int) and -128 < code < 256:
                    return code
        return None

    async def upload(self, path: str, data: bytes) -> None:
        """Writes a file; folders above it are made.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError
        """
        arguments = {"params": {"path": path}, "files": {"file": ("file", data)}}
        await self._link.call("POST", "/api/file/upload", arguments)

    async def download(self, path: str, first: int, most: int) -> Part | None:
        """At most ``most`` bytes of a file from ``first`` on; None when there is no such file.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError: or the file cannot be read.
        """
        arguments = {
            "params": {"path": path},
            "headers": {"Range": f"bytes={first}-{first + most - 1}"},
        }
        answer = await self._link.call(
            "GET", "/api/file/download", arguments, accept=(404, 416), most=most + 1
        )
        if answer.status == 404:
            return None
        with self._understood():
            return _part(answer, first, most)

    async def read(self, path: str, most: int) -> bytes | None:
        """A whole file; None when the server does not give it out, for whatever reason.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError
            OverflowError: it has more than ``most`` bytes.
        """
        content = bytearray()
        while True:
            arguments = {
                "params": {"path": path},
                "headers": {"Range": f"bytes={len(content)}-{len(content) + PIECE - 1}"},
            }
            answer = await self._link.call(
                "GET", "/api/file/download", arguments, accept=(400, 404, 416, 500), most=PIECE + 1
            )
            if answer.status not in (200, 206):
                return None
            with self._understood():
                part = _part(answer, len(content), PIECE)
            if part.size > most:
                raise OverflowError(f"{part.size} bytes")
            content += part.data
            if len(content) >= part.size or not part.data:
                return bytes(content)

    def _understood(self) -> _Understood:
        return _Understood(self.id)


def _part(answer: Answer, first: int, most: int) -> Part:
    if answer.status == 416:
        return Part(b"", _size(answer, r"bytes \*/(\d{1,18})"))
    if answer.status == 200 and first == 0 and len(answer.body) <= most:
        return Part(answer.body, len(answer.body))
    size = _size(answer, rf"bytes {first}-\d{{1,18}}/(\d{{1,18}})")
    if len(answer.body) > most:
        raise InvalidAnswer("it holds more bytes than were asked for")
    return Part(answer.body, size)


def _size(answer: Answer, form: str) -> int:
    found = re.fullmatch(form, answer.headers.get("content-range", ""))
    if found is None:
        raise InvalidAnswer("its Content-Range is not what was asked for")
    return int(found[1])


class _Understood:
    """Turns what is not as the interface says into an error of the way to the sandbox."""

    def __init__(self, id: str) -> None:
        self._id = id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, ValueError):
            why = shown(error) if isinstance(error, InvalidAnswer) else "no id"
            raise TransportError(
                f"The server in the sandbox {self._id} did not answer as its interface says: {why}."
            ) from error
