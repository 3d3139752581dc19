"""Ratios of two ways to do the same, in one run: interleaved pairs, median and interval."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import attrs

PAIRS = 30
"""Fewest pairs for a figure."""


@attrs.frozen
class Ratio:
    """How long ours took, as a multiple of theirs.

    Attributes:
        ours: seconds, one a pair.
        theirs: seconds, one a pair.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self._ratios())

    def interval(self, resamples: int = 2000) -> tuple[float, float]:
        """The 95 % bootstrap interval of the median."""
        ratios = self._ratios()
        chance = random.Random(1)
        medians = sorted(
            statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(resamples)
        )
        return medians[int(resamples * 0.025)], medians[int(resamples * 0.975) - 1]

    def _ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    def line(self, name: str, bar: str) -> str:
        """One line for a report."""
        low, high = self.interval()
        ours, theirs = (statistics.median(x) * 1e3 for x in (self.ours, self.theirs))
        return (
            f"{name:<46} {self.median:6.2f} [{low:.2f}, {high:.2f}]  bar {bar:<8} "
            f"{ours:8.2f} ms against {theirs:8.2f} ms  ({len(self.ours)} pairs)"
        )


def measure(
    ours: Callable[[], object], theirs: Callable[[], object], pairs: int = PAIRS, warm_up: int = 3
) -> Ratio:
    """Times both in turn, whoever goes first changing from pair to pair."""
    for _ in range(warm_up):
        ours()
        theirs()
    took: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            begin = time.perf_counter()
            (ours, theirs)[which]()
            took[which].append(time.perf_counter() - begin)
    return Ratio(tuple(took[0]), tuple(took[1]))
