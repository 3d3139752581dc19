"""When to try again what keeps failing: ever later, and not everybody at the same moment."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Exponential, with jitter: each delay lies between a half and the whole of its step.

    Args:
        first: the first step in seconds; each further one is twice as long.
        most: the longest step in seconds.
        chance: gives numbers of [0, 1).

    Attributes:
        failures: how many rounds have failed since the last success.
        until: the time before which nothing should be tried, on the clock of ``failed``.
    """

    def __init__(
        self, first: float = 0.5, most: float = 30.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._first = first
        self._most = most
        self._chance = chance
        self.failures = 0
        self.until = 0.0

    def failed(self, now: float) -> None:
        """Something failed. What fails within the delay belongs to the round before it."""
        if now < self.until:
            return
        step = min(self._first * 2.0 ** min(self.failures, 60), self._most)
        self.failures += 1
        self.until = now + step * (0.5 + self._chance() / 2)

    def succeeded(self) -> None:
        """Something worked: all begins anew."""
        self.failures = 0
        self.until = 0.0
