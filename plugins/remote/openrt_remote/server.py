"""The agent server in one sandbox, spoken to over HTTP. Only the session's key goes here."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import attrs
import httpx

from openrt_core.errors import (
    AuthenticationError,
    ProvisionError,
    SandboxGoneError,
    Started,
    TransportError,
)
from openrt_core.models import PostMortem
from openrt_remote import answers
from openrt_remote.answers import InvalidAnswer, Session, shown
from openrt_remote.control import Answer, ControlPlane

CALL_TIMEOUT: Final = 60.0
"""Seconds for one call: none of those made here waits for a command."""
EXECUTE_TIMEOUT: Final = 30
"""Seconds for a script of openrt's own."""
TRIES: Final = 4
BACKOFF: Final = 0.25
BUSY_BACKOFF: Final = 4.0
WAKING: Final = 90.0
"""Seconds that a sandbox may answer 503, resumed or on its way."""
NO_LIMIT: Final = 10**9
"""Seconds that the server is told for a command without a time limit."""
_GONE: Final = frozenset({404, 502, 504})


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
        id: of the sandbox.
        session: where it is, and its key.
        control: asked when it does not answer as it should.
        retries: whether network errors are retried.
    """

    def __init__(self, id: str, session: Session, control: ControlPlane, *, retries: bool) -> None:
        self.id = id
        self._session = session
        self._control = control
        self._tries = TRIES if retries else 1
        self._closed = False
        self._client = httpx.AsyncClient(
            timeout=CALL_TIMEOUT,
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=20),
        )
        self._recovery = asyncio.Lock()

    async def close(self) -> None:
        """Closes its connections; calls after it say that the sandbox is gone."""
        self._closed = True
        await self._client.aclose()

    async def healthy(self) -> bool:
        """Whether it answers that it is."""
        try:
            return (await self._once("GET", "/health", {}, 4096)).status == 200
        except (httpx.HTTPError, TimeoutError):
            return False

    async def start(self, command: str, timeout: int) -> UUID:
        """Starts a shell command; its id.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError: whether it may run.
        """
        body = {"command": command, "timeout": timeout}
        # When an answer is lost, nobody knows whether it runs.
        answer = await self._call(
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
        answer = await self._call(
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
        answer = await self._call("GET", "/api/bash/bash_events/search", {"params": params})
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
        await self._call("POST", "/api/file/upload", arguments)

    async def download(self, path: str, first: int, most: int) -> Part | None:
        """At most ``most`` bytes of a file from ``first`` on; None when there is no such file.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError: or the file cannot be read.
        """
        arguments = {
            "params": {"path": path},
            "headers": {"Range": f"bytes={first}-{first + most - 1}"},
        }
        answer = await self._call(
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
            answer = await self._call(
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

    def gone(self, why: str) -> SandboxGoneError:
        """The error that says so."""
        return SandboxGoneError(
            f"The sandbox {self.id} is gone: {why}.", post_mortem=PostMortem(reason=f"{why}.")
        )

    # ----------------------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any],
        *,
        accept: tuple[int, ...] = (),
        most: int = answers.JSON_LIMIT,
        repeat: bool = True,
    ) -> Answer:
        left, busy, awake_by = self._tries, 3, 0.0
        while True:
            if self._closed:
                raise self.gone("it was removed here")
            left -= 1
            try:
                answer = await self._once(method, path, arguments, most)
            except (httpx.HTTPError, TimeoutError, RuntimeError) as error:
                if self._closed:
                    raise self.gone("it was removed here") from error
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                left = left if repeat or unsent else 0
                await self._recover(None, left)
                if left <= 0:
                    raise self._broken(error, "no" if unsent else "unknown") from error
                continue
            if 200 <= answer.status < 300:
                return answer
            if answer.status in accept and (answer.status != 404 or await self.healthy()):
                return answer
            if answer.status == 429 and busy > 1:
                busy, left = busy - 1, left + 1
                await asyncio.sleep(BUSY_BACKOFF * 2 ** (2 - busy))
            elif answer.status == 503:
                # It comes from before the server: nothing has run, so it may be repeated.
                awake_by = awake_by or time.monotonic() + WAKING
                left = 1 if time.monotonic() < awake_by else 0
                await self._recover(answer, left)
            elif answer.status in _GONE:
                left = left if repeat else 0
                await self._recover(answer, left)
            else:
                raise self._refused(answer, path)

    async def _once(
        self, method: str, path: str, arguments: Mapping[str, Any], most: int
    ) -> Answer:
        headers = {
            "X-Session-API-Key": self._session.key,
            "Accept-Encoding": "identity",
            **arguments.get("headers", {}),
        }
        rest = {name: value for name, value in arguments.items() if name != "headers"}
        url = self._session.url + quote(path)
        async with (
            asyncio.timeout(CALL_TIMEOUT),
            self._client.stream(
                method, url, headers=headers, follow_redirects=False, **rest
            ) as got,
        ):
            data = bytearray()
            async for piece in got.aiter_raw():
                data += piece
                if len(data) > most and got.status_code < 300:
                    raise httpx.RemoteProtocolError("the answer is too long")
                del data[most:]
            return Answer(got.status_code, got.headers, bytes(data))

    async def _recover(self, answer: Answer | None, left: int) -> None:
        """Asks the control plane what became of the sandbox; returns when it is worth another try.

        Raises:
            SandboxGoneError, TransportError
        """
        async with self._recovery:
            try:
                session = await asyncio.to_thread(self._control.session, self.id)
                if session is not None and session.status == "paused":
                    await asyncio.to_thread(self._control.resume, session.runtime_id)
                    session = await asyncio.to_thread(self._control.session, self.id)
            except ProvisionError as error:
                if left > 0:
                    session = self._session
                else:
                    raise TransportError(
                        f"The sandbox {self.id} does not answer, nor does the runtime API: {error}"
                    ) from error
            if session is None:
                raise self.gone("the runtime API does not know it")
            dead = answer is not None and answer.status in _GONE
            if session.ended or (dead and session.pod_status == "not found"):
                raise self.gone(why_ended(session))
            if session.url and session.key:
                self._session = session
        if left <= 0 and answer is not None:
            if dead:
                raise self.gone(f"its server answers {answer.status}")
            raise TransportError(
                f"The sandbox {self.id} is not reachable: its server answers {answer.status}.",
                started="no",
            )
        if left > 0:
            await asyncio.sleep(BACKOFF * 2 ** max(self._tries - left - 1, 0))

    def _broken(self, error: Exception, started: Started) -> TransportError:
        return TransportError(
            f"The way to the sandbox {self.id} broke: {shown(error) or type(error).__name__}.",
            started=started,
        )

    def _refused(self, answer: Answer, path: str) -> Exception:
        reason = answers.detail(answer.body)
        if answer.status in (401, 403):
            return AuthenticationError(
                f"The server in the sandbox {self.id} refused its session key: {reason}",
                hint="Another client may have restarted the sandbox; connect to it again.",
            )
        sure = answer.status < 500
        return TransportError(
            f"The server in the sandbox {self.id} answered {answer.status} to {path}: {reason}",
            started="no" if sure else "unknown",
        )

    def _understood(self) -> _Understood:
        return _Understood(self.id)


PIECE: Final = 4 * 1024 * 1024
"""Bytes of one part of a file that is read or written."""


def why_ended(session: Session) -> str:
    """One clause that says why a sandbox is no more, as far as the control plane tells."""
    state = session.status if session.status in ("stopped", "error") else session.pod_status
    return ": ".join(
        [f"it is {shown(state, 40)}", *(["; ".join(session.reasons)] if session.reasons else [])]
    )


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
