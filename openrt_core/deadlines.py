"""One thread that calls functions at a time: the client's own guard over every time limit."""

from __future__ import annotations

import _thread
import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger("openrt")


class Deadline:
    """A call that is due at a time; ``cancel`` takes it back."""

    __slots__ = ("_clock", "call", "when")

    def __init__(self, clock: Clock, when: float, call: Callable[[], None]) -> None:
        self._clock = clock
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Takes the call back, if it has not begun. Idempotent."""
        if self.call is not None:
            self.call = None
            self._clock.cancelled()


class Clock:
    """Calls functions when they are due, in a daemon thread that starts with the first of them.

    Calls must be short: they delay each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = itertools.count()
        self._dead = 0
        # A pipe-less wake-up: the thread sleeps in acquire(timeout) and release ends its sleep.
        self._alarm = threading.Lock()
        self._alarm.acquire()
        self._thread: int | None = None

    def after(self, seconds: float, call: Callable[[], None]) -> Deadline:
        """Has ``call`` called in ``seconds`` seconds."""
        deadline = Deadline(self, time.monotonic() + seconds, call)
        with self._lock:
            heapq.heappush(self._heap, (deadline.when, next(self._order), deadline))
            first = self._heap[0][2] is deadline
            if self._thread is None:
                # Not threading.Thread: an interrupt inside its start() can leave the new thread
                # waiting for ever, and no time limit would be guarded any more.
                self._thread = _thread.start_new_thread(self._run, ())
            elif first and self._alarm.locked():
                self._alarm.release()
        return deadline

    def cancelled(self) -> None:
        """Counts a cancelled deadline, and sweeps when most are: a busy client makes thousands a
        second."""
        with self._lock:
            self._dead += 1
            if self._dead > 64 and self._dead > len(self._heap) // 2:
                self._heap = [item for item in self._heap if item[2].call is not None]
                heapq.heapify(self._heap)
                self._dead = 0

    def _run(self) -> None:
        while True:
            due: list[Callable[[], None]] = []
            with self._lock:
                now = time.monotonic()
                while self._heap and (self._heap[0][0] <= now or self._heap[0][2].call is None):
                    deadline = heapq.heappop(self._heap)[2]
                    call, deadline.call = deadline.call, None
                    if call is None:
                        self._dead = max(self._dead - 1, 0)
                    else:
                        due.append(call)
                left = self._heap[0][0] - now if self._heap else threading.TIMEOUT_MAX
            for call in due:
                try:
                    call()
                except BaseException:
                    # SystemExit as well: it would end this thread, and with it every time limit.
                    log.exception("a call at a deadline failed")
            if not due:
                self._alarm.acquire(timeout=min(left, threading.TIMEOUT_MAX))


_clock = Clock()


def after(seconds: float, call: Callable[[], None]) -> Deadline:
    """Has ``call`` called in ``seconds`` seconds, in a thread of the core's own. Thread-safe."""
    return _clock.after(seconds, call)


def _fresh() -> None:
    global _clock
    _clock = Clock()


# A child after fork has none of our threads.
os.register_at_fork(after_in_child=_fresh)
