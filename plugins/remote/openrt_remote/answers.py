"""Answers of both planes, read as what they are: bytes from somebody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

JSON_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of the largest JSON answer that is read."""
SHOWN: Final = 300
"""Characters of foreign text in an error."""

FATAL: Final = frozenset({"failed", "unknown", "crashloopbackoff"})
"""States of a pod that will not get better."""


class InvalidAnswer(ValueError):
    """What came is not what the interface says; the text is fit to be shown."""


def shown(text: object, most: int = SHOWN) -> str:
    """Foreign text for an error: cut, and without control characters."""
    whole = str(text)
    cut = whole[:most] + ("…" if len(whole) > most else "")
    return "".join(c if c.isprintable() else "?" for c in cut)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that ``body`` is.

    Raises:
        InvalidAnswer
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer("the answer is not JSON") from error
    if not isinstance(value, dict):
        raise InvalidAnswer("the answer is not a JSON object")
    return value


def detail(body: bytes) -> str:
    """The reason that an answer with an error status gives, fit to be shown."""
    try:
        value = json_object(body)
    except InvalidAnswer:
        return shown(body.decode("utf-8", "replace"))
    return shown(value.get("detail") or value.get("error") or value.get("message") or "")


@attrs.frozen(kw_only=True)
class Session:
    """What the control plane tells of a sandbox.

    Attributes:
        runtime_id: its name there.
        url: of the server in it, without a slash at the end; "" when it is not told.
        key: of that server; "" when it is not told.
        status: in lower case: running, paused, stopped, starting, error; "" when it is not told.
        pod_status: in lower case; "" when it is not told.
        reasons: why it was restarted, fit to be shown.
    """

    runtime_id: str
    url: str
    key: str = attrs.field(repr=False)
    status: str
    pod_status: str
    reasons: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is there no more."""
        return self.status in ("stopped", "error") or self.pod_status in FATAL


def session(value: Mapping[str, Any]) -> Session:
    """A session out of an answer of the control plane.

    Raises:
        InvalidAnswer
    """
    reasons = value.get("restart_reasons")
    return Session(
        runtime_id=_word(value, "runtime_id") or _word(value, "id", needed=True),
        url=_url(_word(value, "url")),
        key=_word(value, "session_api_key"),
        status=_word(value, "status").lower(),
        pod_status=_word(value, "pod_status").lower(),
        reasons=tuple(shown(r, 100) for r in reasons[:5]) if isinstance(reasons, list) else (),
    )


def sessions(value: Mapping[str, Any]) -> list[tuple[str, Session]]:
    """Ids and sessions out of a list of the control plane.

    Raises:
        InvalidAnswer
    """
    found = value.get("runtimes")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidAnswer("its runtimes are no list of objects")
    return [(_word(one, "session_id"), session(one)) for one in found]


def why_ended(session: Session) -> str:
    """One clause that says why a sandbox is no more, as far as the control plane tells."""
    state = session.status if session.status in ("stopped", "error") else session.pod_status
    return ": ".join(
        [f"it is {shown(state, 40)}", *(["; ".join(session.reasons)] if session.reasons else [])]
    )


def _word(value: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    found = value.get(name)
    if found is None and not needed:
        return ""
    if not isinstance(found, str) or len(found) > 2048 or not found.isascii():
        raise InvalidAnswer(f"its {name} is not a text of ASCII")
    if not found.isprintable() or (needed and not found):
        raise InvalidAnswer(f"its {name} is empty or holds control characters")
    return found


def _url(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in text or "?" in text or "#" in text:
        raise InvalidAnswer("its url is not that of a server")
    return text.rstrip("/")
