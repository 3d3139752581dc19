"""One thread with an event loop, for all that goes on in the sandboxes of this process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from openrt_core.waiting import Latch

T = TypeVar("T")

_lock = threading.Lock()
_shared: Worker | None = None


def shared() -> Worker:
    """The one of this process: sandboxes come and go, and each would leave a thread behind."""
    global _shared
    with _lock:
        if _shared is None or not _shared.usable:
            _shared = Worker()
        return _shared


class Worker:
    """The loop, in a thread that ends with the process. After a fork it is not ``usable``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        threading.Thread(target=self.loop.run_forever, name="openrt-remote", daemon=True).start()

    @property
    def usable(self) -> bool:
        """Whether this is the process that it belongs to: a forked child has no such thread."""
        return self._pid == os.getpid()

    def spawn(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Has a coroutine run on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, waiting for it. Ctrl-C cancels it."""
        future = self.spawn(work)
        latch = Latch()
        future.add_done_callback(lambda _: latch.set())
        try:
            latch.wait()
        except BaseException:
            future.cancel()
            raise
        return future.result()
