"""Captured output, bounded: the first and the last half are kept."""

from __future__ import annotations

import threading

CAPTURE_LIMIT = 10 * 1024 * 1024
"""Bytes kept of one stream of one command."""
SANDBOX_CAPTURE_LIMIT = 64 * 1024 * 1024
"""Bytes kept for all running commands of one sandbox together."""

_SLACK = 64 * 1024  # the tail is cut in steps, not at every message


class CaptureBudget:
    """Bytes that the running commands of one sandbox may keep together. Thread-safe."""

    __slots__ = ("_left", "_lock")

    def __init__(self, limit: int = SANDBOX_CAPTURE_LIMIT) -> None:
        self._lock = threading.Lock()
        self._left = limit

    def take(self, amount: int) -> int:
        """Takes up to ``amount`` bytes; how many it got."""
        with self._lock:
            got = min(amount, self._left)
            self._left -= got
            return got

    def give(self, amount: int) -> None:
        """Gives bytes back."""
        with self._lock:
            self._left += amount


class Capture:
    """One stream's captured bytes. Not thread-safe: its process feeds it under a lock."""

    __slots__ = ("_budget", "_half", "_head", "_head_open", "_tail", "_tail_room", "dropped")

    def __init__(self, budget: CaptureBudget | None = None, limit: int = CAPTURE_LIMIT) -> None:
        self._budget = budget
        self._half = limit // 2
        self._head = bytearray()
        self._head_open = True
        self._tail = bytearray()
        self._tail_room = 0
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Adds bytes at the end."""
        if self._head_open:
            wanted = min(len(data), self._half - len(self._head))
            got = self._granted(wanted)
            self._head += data[:got]
            self._head_open = got == wanted and len(self._head) < self._half
            data = data[got:]
        if data:
            self._add_to_tail(data)

    def _add_to_tail(self, data: bytes) -> None:
        self._tail += data
        wanted = min(len(self._tail), self._half + _SLACK)
        if wanted > self._tail_room:
            self._tail_room += self._granted(wanted - self._tail_room)
        if len(self._tail) > self._tail_room:
            self._cut(min(self._tail_room, self._half))

    def _cut(self, most: int) -> None:
        extra = len(self._tail) - most
        if extra > 0:
            del self._tail[:extra]
            self.dropped += extra

    def _granted(self, amount: int) -> int:
        return amount if self._budget is None else self._budget.take(amount)

    def value(self) -> bytes:
        """What was kept: the head and the tail, one after the other."""
        self._cut(self._half)
        return bytes(self._head + self._tail)

    def close(self) -> None:
        """Gives its share of the budget back: what was kept now belongs to the result. Call it
        once."""
        if self._budget is not None:
            self._budget.give(len(self._head) + self._tail_room)
            self._budget = None
