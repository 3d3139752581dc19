"""What the emulator was asked, and what it was told to refuse.

Values of secrets are never kept: a test compares `digest(secret)` with what a request carried.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

Side = Literal["control", "sandbox"]
"""Who was asked: the control plane (`X-API-Key`) or a sandbox's own URL (`X-Session-API-Key`)."""

CONTROL_KEY = "x-api-key"
SESSION_KEY = "x-session-api-key"
_SECRET_HEADERS = frozenset({CONTROL_KEY, SESSION_KEY, "authorization", "cookie"})


def digest(value: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of `value`."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


@attrs.frozen
class Seen:
    """One request, as it arrived.

    `keys` maps the names of the headers that carry secrets (lower case) to their values' digests.
    `body` is the JSON object that the control plane got, the values in `environment` as digests;
    None on the sandbox's side. `foreign` names the headers, or "path", that held the other side's
    key.
    """

    side: Side
    method: str
    path: str
    headers: frozenset[str]
    keys: Mapping[str, str]
    status: int
    body: Mapping[str, object] | None = None
    foreign: tuple[str, ...] = ()


@attrs.define(eq=False)
class _Refusal:
    side: Side
    path: str
    status: int
    detail: str
    headers: Mapping[str, str]
    times: int | None


@attrs.define(eq=False)
class Journal:
    """Every request in the order it was answered, and the refusals that are still to be given."""

    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _seen: list[Seen] = attrs.field(factory=list)
    _refusals: list[_Refusal] = attrs.field(factory=list)

    def requests(
        self, side: Side | None = None, method: str | None = None, path: str = ""
    ) -> list[Seen]:
        """Return what was seen: of one side, one method, paths that start with `path`."""
        with self._lock:
            seen = list(self._seen)
        return [
            one
            for one in seen
            if side in (None, one.side)
            and method in (None, one.method)
            and one.path.startswith(path)
        ]

    def leaks(self) -> list[Seen]:
        """Return the requests that took one side's key, or its header, to the other side."""
        header: Mapping[Side, str] = {"control": SESSION_KEY, "sandbox": CONTROL_KEY}
        return [s for s in self.requests() if s.foreign or header[s.side] in s.headers]

    def refuse(
        self,
        side: Side,
        status: int,
        *,
        path: str = "",
        times: int | None = 1,
        detail: str = "refused by the test",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next `times` requests to paths that start with `path` with `status`.

        `times=None` refuses until `clear_refusals`. On the control plane a request with a wrong key
        is answered 401 and does not count.
        """
        refusal = _Refusal(side, path, status, detail, dict(headers or {}), times)
        with self._lock:
            self._refusals.append(refusal)

    def clear_refusals(self) -> None:
        """Forget every refusal that is still to be given."""
        with self._lock:
            self._refusals.clear()

    def next_refusal(self, side: Side, path: str) -> tuple[int, str, Mapping[str, str]] | None:
        """Return status, detail and headers of the refusal that this request gets, and count it."""
        with self._lock:
            for one in self._refusals:
                if one.side == side and path.startswith(one.path):
                    if one.times is not None:
                        one.times -= 1
                        if one.times <= 0:
                            self._refusals.remove(one)
                    return one.status, one.detail, one.headers
        return None

    def note(
        self,
        side: Side,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]],
        status: int,
        *,
        body: Mapping[str, object] | None = None,
        foreign_keys: Iterable[str] = (),
    ) -> None:
        """Write down one request. `foreign_keys` are the secrets that have no business here."""
        pairs = [(name.lower(), value) for name, value in headers]
        secrets = list(foreign_keys)
        places = [*pairs, ("path", path)]
        foreign = tuple(n for n, value in places if any(key in value for key in secrets))
        seen = Seen(
            side=side,
            method=method,
            path=path,
            headers=frozenset(name for name, _ in pairs),
            keys={name: digest(value) for name, value in pairs if name in _SECRET_HEADERS},
            status=status,
            body=None if body is None else _without_secrets(body),
            foreign=foreign,
        )
        with self._lock:
            self._seen.append(seen)


def _without_secrets(body: Mapping[str, object]) -> dict[str, object]:
    environment = body.get("environment")
    if not isinstance(environment, dict):
        return dict(body)
    return {**body, "environment": {name: digest(str(v)) for name, v in environment.items()}}
