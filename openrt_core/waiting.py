"""Waiting that survives Ctrl-C.

``threading.Condition`` (and so ``Event``) may leave its inner lock held when a KeyboardInterrupt
strikes between two of its steps; everybody who waits afterwards hangs. A bare lock has no such
steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Latch:
    """Set once, waited for by any number of threads."""

    __slots__ = ("_gate", "_set")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._set = False

    def is_set(self) -> bool:
        """Whether ``set`` was called."""
        return self._set

    def set(self) -> None:
        """Lets everybody pass. Must be called once: the caller holds a lock of its own or knows
        that it is alone."""
        self._set = True
        self._gate.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set, at most ``timeout`` seconds. Whether it is set."""
        end = None if timeout is None else time.monotonic() + max(timeout, 0)
        while not self.is_set():
            # Slices, because a gate that an interrupted waiter failed to hand on must not hold us
            # for ever.
            left = 1.0 if end is None else min(1.0, end - time.monotonic())
            if left <= 0:
                return False
            if self._gate.acquire(timeout=left):
                self._gate.release()
        return True


def future_waker(
    loop: asyncio.AbstractEventLoop,
) -> tuple[asyncio.Future[None], Callable[[], None]]:
    """A future of ``loop``, and a function for any thread that completes it.

    The function does nothing when the loop is closed or the future is done: nobody waits there
        any more.
    """
    future: asyncio.Future[None] = loop.create_future()

    def complete() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(complete)
        except RuntimeError:  # the loop was closed
            return

    return future, wake
