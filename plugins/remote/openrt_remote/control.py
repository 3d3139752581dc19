"""The control plane: sandboxes are started, found and stopped here. Its key goes nowhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs

from openrt_core.errors import (
    ID_TAKEN,
    AuthenticationError,
    EngineUnreachableError,
    ImageNotFoundError,
    OpenrtError,
    ProvisionError,
    QuotaError,
)
from openrt_remote import answers
from openrt_remote.answers import InvalidAnswer, Session, shown

if TYPE_CHECKING:
    import httpx

TRIES: Final = 3
_UNAVAILABLE: Final = frozenset({500, 502, 503, 504})


@attrs.frozen
class Answer:
    """One answer: status, headers and the body, bounded."""

    status: int
    headers: httpx.Headers = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True, eq=False)
class ControlPlane:
    """Calls of the control plane, blocking. Thread-safe and stateless: a connection for each call.

    Attributes:
        url: its origin.
        key: what it takes as X-API-Key.
        timeout: seconds for one call.
        retries: whether network errors are retried, in calls that may be repeated.
        backoff: seconds before the first repetition; doubled each time.
        busy_backoff: the same for "too many requests"; what the answer says goes before it.
    """

    url: str
    key: str = attrs.field(repr=False)
    timeout: float = 180.0
    retries: bool = True
    backoff: float = 0.5
    busy_backoff: float = 4.0

    def session(self, id: str) -> Session | None:
        """The sandbox of a session, None when there is no such session.

        Raises:
            ProvisionError: or one of its kinds.
        """
        answer = self._call("GET", f"/sessions/{id}", accept=(404,))
        return None if answer.status == 404 else self._session(answer)

    def sessions(self) -> list[tuple[str, Session]]:
        """The ids of all sessions of the account that are not stopped, with their sandboxes.

        Raises:
            ProvisionError: or one of its kinds.
        """
        answer = self._call("GET", "/list")
        try:
            return answers.sessions(answers.json_object(answer.body))
        except InvalidAnswer as error:
            raise self._foreign(error) from error

    def start(self, body: Mapping[str, Any]) -> Session:
        """Starts a sandbox, not yet ready. When an answer is lost, it looks before it asks again.

        Raises:
            ProvisionError: or one of its kinds.
        """
        for attempt in range(TRIES):
            try:
                return self._session(self._call("POST", "/start", body, repeat=False))
            except EngineUnreachableError:
                if not self.retries or attempt == TRIES - 1:
                    raise
            except ProvisionError as error:
                if error.code != ID_TAKEN or not attempt:
                    raise
                # Taken by the one whose answer was lost, which is ours to remove.
                error.code = ProvisionError.code
                if attempt == TRIES - 1:
                    raise
            # It may have been started all the same, and a session takes no second one.
            found = self.session(str(body["session_id"]))
            if found is not None and not found.ended:
                return found
            time.sleep(self.backoff * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def stop(self, runtime_id: str) -> bool:
        """Ends a sandbox; False when there is none of this id.

        Raises:
            ProvisionError: or one of its kinds.
        """
        return self._post("/stop", runtime_id)

    def pause(self, runtime_id: str) -> bool:
        """Pauses a sandbox; False when there is none of this id.

        Raises:
            ProvisionError: or one of its kinds.
        """
        return self._post("/pause", runtime_id)

    def resume(self, runtime_id: str) -> bool:
        """Wakes a paused sandbox; False when there is none of this id.

        Raises:
            ProvisionError: or one of its kinds.
        """
        return self._post("/resume", runtime_id)

    def image_exists(self, image: str) -> bool:
        """Whether the platform knows the image; True when it does not say."""
        try:
            answer = self._call("GET", "/image_exists", params={"image": image}, repeat=False)
            return answers.json_object(answer.body).get("exists") is not False
        except (OpenrtError, InvalidAnswer):
            return True

    def _post(self, path: str, runtime_id: str) -> bool:
        # 409: it is stopped already.
        answer = self._call("POST", path, {"runtime_id": runtime_id}, accept=(404, 409))
        return answer.status not in (404, 409)

    def _session(self, answer: Answer) -> Session:
        try:
            return answers.session(answers.json_object(answer.body))
        except InvalidAnswer as error:
            raise self._foreign(error) from error

    def _foreign(self, error: InvalidAnswer) -> ProvisionError:
        return ProvisionError(
            f"The runtime API at {self.url} did not answer as its interface says: {error}."
        )

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
        repeat: bool = True,
    ) -> Answer:
        import httpx

        network = TRIES if repeat and self.retries else 1
        busy = TRIES
        while True:
            try:
                answer = self._send(method, path, body, params)
                if answer.status == 429 and busy > 1:
                    busy -= 1
                    time.sleep(_asked_delay(answer, self.busy_backoff * 2 ** (TRIES - 1 - busy)))
                    continue
                if answer.status in _UNAVAILABLE and network > 1:
                    network -= 1
                    time.sleep(self.backoff)
                    continue
            except httpx.HTTPError as error:
                network -= 1
                if network <= 0:
                    raise self._unreachable(error) from error
                time.sleep(self.backoff)
                continue
            if 200 <= answer.status < 300 or answer.status in accept:
                return answer
            self._refused(answer, path)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
    ) -> Answer:
        import httpx

        end = time.monotonic() + self.timeout
        headers = {"X-API-Key": self.key, "Accept-Encoding": "identity"}
        with (
            httpx.Client(base_url=self.url, headers=headers, timeout=self.timeout) as client,
            client.stream(method, path, json=body, params=params, follow_redirects=False) as got,
        ):
            data = bytearray()
            for piece in got.iter_raw():
                data += piece
                if len(data) > answers.JSON_LIMIT or time.monotonic() > end:
                    raise httpx.RemoteProtocolError("the answer is too long, or takes too long")
            return Answer(got.status_code, got.headers, bytes(data))

    def _unreachable(self, error: httpx.HTTPError) -> EngineUnreachableError:
        why = shown(error) or type(error).__name__
        return EngineUnreachableError(
            f"The runtime API at {self.url} cannot be reached: {why}.",
            hint="Check the network and SANDBOX_REMOTE_RUNTIME_API_URL.",
        )

    def _refused(self, answer: Answer, path: str) -> NoReturn:
        reason = answers.detail(answer.body)
        what = path.split("/")[1]
        text = f"The runtime API at {self.url} answered {answer.status} to {what}: {reason}"
        if answer.status == 401 or (answer.status == 403 and "quota" not in reason.lower()):
            raise AuthenticationError(
                text, hint="Check SANDBOX_API_KEY; `openrt config` shows where it comes from."
            )
        if answer.status in (402, 429) or "quota" in reason.lower():
            raise QuotaError(text)
        if answer.status in _UNAVAILABLE:
            raise EngineUnreachableError(text)
        if answer.status == 409 and path == "/start":
            raise ProvisionError(text, code=ID_TAKEN)
        if "image" in reason.lower() and "not found" in reason.lower():
            raise ImageNotFoundError(text)
        raise ProvisionError(text, hint="Check SANDBOX_REMOTE_RUNTIME_API_URL.")


def _asked_delay(answer: Answer, default: float) -> float:
    """Seconds to wait, as Retry-After says, but never more than a minute."""
    asked = answer.headers.get("retry-after", "")
    return min(float(asked) if asked.isascii() and asked.isdigit() else default, 60.0)
