"""Events: what happens inside the core and its runtimes, for the command line, logs and
wrappers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import attrs

log = logging.getLogger("openrt")

EventKind = Literal["progress", "note", "deprecation"]


@attrs.frozen(kw_only=True)
class Event:
    """One event.

    Attributes:
        kind: ``progress`` (long work goes on), ``note`` (worth telling once) or ``deprecation``.
        message: one line for a person, without secrets and without control characters.
        source: the name of the runtime or of the part of the core.
        sandbox: the id that it is about, or "".
        done: for progress: how much is done, in ``unit``; None when unknown.
        total: for progress: how much there is, in ``unit``; None when unknown.
        unit: of ``done`` and ``total``: ``bytes``, ``layers``, …
        details: plain values for programs.
    """

    kind: EventKind
    message: str
    source: str = "core"
    sandbox: str = ""
    done: float | None = None
    total: float | None = None
    unit: str = ""
    details: Mapping[str, Any] = attrs.field(factory=dict)


def report(event: Event) -> None:
    """What becomes of events when nobody asked for them: warnings of what is deprecated, the rest
    is logged."""
    if event.kind == "deprecation":
        # Python hides DeprecationWarning from those who could do something about it.
        warnings.warn(event.message, FutureWarning, stacklevel=2)
    elif event.kind == "note":
        log.warning("%s", event.message)
    else:
        log.debug("%s: %s", event.source, event.message)
