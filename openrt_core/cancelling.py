"""Ends what works in a thread when the coroutine that waits for it is cancelled."""

from __future__ import annotations

import asyncio

from openrt_core.events import Progress


class UntilCancelled:
    """A callback for progress that raises once its block was left with an error.

    Args:
        progress: what else is told of the progress.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._cancelled = False

    def __call__(self, done: int, total: int | None) -> None:
        if self._cancelled:
            raise asyncio.CancelledError
        if self._progress is not None:
            self._progress(done, total)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._cancelled = error is not None
