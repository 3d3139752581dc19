"""Events: what happens inside the core and its runtimes, for the command line, logs and wrappers.

A runtime emits through its context, the core through its manager; one ``Emitter`` for each manager
passes them on to whoever opened it and to the wrappers that subscribed (``WrapperContext``).
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

log = logging.getLogger("openrt")

EventKind = Literal["progress", "note", "deprecation"]
Progress = Callable[[int, int | None], object]
"""Told how many bytes are done, and how many there are, None when that is not known."""


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


class Emitter:
    """Passes each event on to all who listen, in the thread that emits. Thread-safe.

    Calling it never raises: what a listener raises is logged, and the others are told all the same.
    An event that a listener emits reaches ``target`` alone, so that no listener goes in circles.

    Args:
        target: what becomes of events; told after the listeners.
        remember: whether those who subscribe are told what they missed, until ``loaded`` is called.
    """

    def __init__(self, target: Callable[[Event], None], *, remember: bool = False) -> None:
        self._target = target
        self._listeners: tuple[Callable[[Event], None], ...] = ()
        self._early: list[Event] | None = [] if remember else None
        self._lock = threading.Lock()
        self._telling = threading.local()

    @classmethod
    def of(cls, emit: Callable[[Event], None] | None) -> Emitter:
        """``emit`` itself when it is one, else one around it; None reports."""
        return emit if isinstance(emit, cls) else cls(emit or report)

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._early is not None:
                self._early.append(event)
        if not getattr(self._telling, "now", False):
            self._tell(event)
        _call(self._target, event)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Has ``listener`` told of every event, first of those that are remembered."""
        with self._lock:
            self._listeners += (listener,)
            missed = tuple(self._early or ())
        for event in missed:
            _call(listener, event)

    def loaded(self) -> None:
        """All wrappers are loaded: nothing more is remembered for them."""
        with self._lock:
            self._early = None

    def _tell(self, event: Event) -> None:
        self._telling.now = True
        try:
            for listener in self._listeners:
                _call(listener, event)
        finally:
            self._telling.now = False


def _call(listener: Callable[[Event], None], event: Event) -> None:
    try:
        listener(event)
    except Exception:
        log.exception("a listener to events failed")
