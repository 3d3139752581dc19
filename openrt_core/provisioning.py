"""How many sandboxes one process makes at once (OPENRT_MAX_PROVISIONING): first come, first served.

A sandbox that is made while another is being made (a runtime that stands on another one, a wrapper
that needs a helper) takes no second place: it would wait for itself. "While" goes by the context
variables, so a thread that a runtime starts without them, and waits for, counts as somebody else.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from openrt_core.waiting import Latch

_lock = threading.Lock()
_waiting: Final[deque[Ticket]] = deque()
_held: Final[set[Ticket]] = set()
_current: Final[contextvars.ContextVar[Ticket | None]] = contextvars.ContextVar(
    "openrt_provisioning", default=None
)


class Ticket:
    """One place among those who make sandboxes: asked for, held, released.

    Args:
        limit: how many may hold a place, this one included, when it gets its own.
        ready: called when it does, in the thread of whoever made room; short, never raises, and
            does no harm when it is called again.
    """

    def __init__(self, limit: int, ready: Callable[[], None]) -> None:
        self._limit = limit
        self._ready = ready
        self._outer: Ticket | None = None

    @property
    def held(self) -> bool:
        """Whether it has its place now, or stands in another one that is held."""
        return self in _held or (self._outer is not None and self._outer.held)

    def ask(self) -> None:
        """Queues up, unless it stands in a place that is held; ``ready`` may be called before this
        returns."""
        outer = _current.get()
        if outer is not None and outer.held:
            self._outer = outer
            self._ready()
            return
        with _lock:
            _waiting.append(self)
            _admit()

    def release(self) -> None:
        """Gives the place back, or leaves the queue. Idempotent."""
        try:
            self._release()
        except KeyboardInterrupt:
            # A place that is not given back is lost to everybody.
            self._release()
            raise

    def _release(self) -> None:
        self._outer = None
        with _lock:
            _held.discard(self)
            with contextlib.suppress(ValueError):
                _waiting.remove(self)
            _admit()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """In this context and those copied from it, what is made stands in this place."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    def _admitted(self) -> bool:
        if self not in _held and len(_held) >= self._limit:
            return False
        _held.add(self)
        self._ready()
        return True


def _admit() -> None:
    # Left the queue last: should a Ctrl-C strike in between, the next call does it all again.
    while _waiting and _waiting[0]._admitted():
        _waiting.popleft()


@contextlib.contextmanager
def place(limit: int) -> Iterator[None]:
    """Waits for a place and holds it; at once inside of another one.

    Args:
        limit: how many places there are, 1 or more.
    """
    latch = Latch()
    ticket = Ticket(limit, lambda: None if latch.is_set() else latch.set())
    try:
        ticket.ask()
        latch.wait()
        with ticket.entered():
            yield
    finally:
        ticket.release()


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _waiting.clear()
    _held.clear()


# What a parent makes is not made in a forked child.
os.register_at_fork(after_in_child=_forget)
