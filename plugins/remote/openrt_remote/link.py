"""The way to the server in one sandbox: HTTP with the session's key, which goes nowhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import attrs

from openrt_core.errors import (
    AuthenticationError,
    ProvisionError,
    SandboxGoneError,
    Started,
    TransportError,
)
from openrt_core.models import PostMortem
from openrt_remote import answers
from openrt_remote.answers import Session, shown, why_ended
from openrt_remote.control import Answer, ControlPlane

CALL_TIMEOUT: Final = 60.0
"""Seconds for one call: none of those made here waits for a user's command."""
TRIES: Final = 4
BACKOFF: Final = 0.25
BUSY_BACKOFF: Final = 4.0
WAKING: Final = 90.0
"""Seconds that a sandbox may answer 503, resumed or on its way."""
_GONE: Final = frozenset({404, 502, 504})


@attrs.define
class _Tries:
    """What is left of the patience with one call.

    Attributes:
        left: tries after network errors and faulty answers.
        busy: tries after "too many requests".
        awake_by: until when the sandbox may be waking up; 0 before it was found asleep.
    """

    left: int
    busy: int = 3
    awake_by: float = 0.0


class Link:
    """Calls of one sandbox's server, repeated where that is safe. For the worker's loop only.

    Args:
        id: of the sandbox.
        session: where it is, and its key.
        control: asked when it does not answer as it should.
        retries: whether network errors are retried.
    """

    def __init__(self, id: str, session: Session, control: ControlPlane, *, retries: bool) -> None:
        import httpx

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
        import httpx

        try:
            return (await self._once("GET", "/health", {}, 4096)).status == 200
        except (httpx.HTTPError, TimeoutError, RuntimeError):  # the last: closed meanwhile
            return False

    async def call(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any],
        *,
        accept: tuple[int, ...] = (),
        most: int = answers.JSON_LIMIT,
        repeat: bool = True,
    ) -> Answer:
        """One call.

        Args:
            method: of HTTP.
            path: on the server.
            arguments: as httpx takes them.
            accept: statuses that are answers too, beside 2xx.
            most: bytes of the longest answer.
            repeat: whether it may be made again when nobody knows what became of it.

        Raises:
            SandboxGoneError, AuthenticationError, TransportError
        """
        import httpx

        tries = _Tries(self._tries)
        while True:
            if self._closed:
                raise self.gone("it was removed here")
            tries.left -= 1
            try:
                answer = await self._once(method, path, arguments, most)
            except (httpx.HTTPError, TimeoutError, RuntimeError) as error:
                await self._after_error(error, tries, repeat)
                continue
            if 200 <= answer.status < 300:
                return answer
            if answer.status in accept and (answer.status != 404 or await self.healthy()):
                return answer
            await self._after_refusal(answer, path, tries, repeat)

    async def _after_error(self, error: Exception, tries: _Tries, repeat: bool) -> None:
        """Returns when the call is to be made again."""
        import httpx

        if self._closed:
            raise self.gone("it was removed here") from error
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        left = tries.left if repeat or unsent else 0
        await self._recover(None, left)
        if left <= 0:
            raise self._broken(error, "no" if unsent else "unknown") from error

    async def _after_refusal(self, answer: Answer, path: str, tries: _Tries, repeat: bool) -> None:
        """Returns when the call is to be made again."""
        if answer.status == 429 and tries.busy > 1:
            tries.busy, tries.left = tries.busy - 1, tries.left + 1
            await asyncio.sleep(BUSY_BACKOFF * 2 ** (2 - tries.busy))
        elif answer.status == 503:
            # It comes from before the server: nothing has run, so it may be repeated.
            tries.awake_by = tries.awake_by or time.monotonic() + WAKING
            tries.left = 1 if time.monotonic() < tries.awake_by else 0
            await self._recover(answer, tries.left)
        elif answer.status in _GONE:
            await self._recover(answer, tries.left if repeat else 0)
        else:
            raise self._refused(answer, path)

    async def _once(
        self, method: str, path: str, arguments: Mapping[str, Any], most: int
    ) -> Answer:
        import httpx

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

    def gone(self, why: str) -> SandboxGoneError:
        """The error that says so."""
        return SandboxGoneError(
            f"The sandbox {self.id} is gone: {why}.", post_mortem=PostMortem(reason=f"{why}.")
        )
