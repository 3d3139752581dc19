"""Threads for the hooks that async code calls: made when first needed, and again after a fork."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Literal, TypeVar

T = TypeVar("T")
Kind = Literal["provision", "call", "teardown"]

# Apart, so that slow starts never stand in the way of commands, nor either of them of removal.
_THREADS: Final[dict[Kind, int]] = {"provision": 32, "call": 32, "teardown": 16}

_lock = threading.Lock()
_executors: dict[Kind, ThreadPoolExecutor] = {}


def submit(kind: Kind, function: Callable[[], T]) -> Future[T]:
    """Runs ``function`` in a thread, with the context variables of the caller.

    Raises:
        RuntimeError: the interpreter is going down.
    """
    with _lock:
        executor = _executors.get(kind)
        if executor is None:
            executor = ThreadPoolExecutor(_THREADS[kind], thread_name_prefix=f"openrt-{kind}")
            _executors[kind] = executor
    return executor.submit(contextvars.copy_context().run, function)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _executors.clear()


# A child after fork has none of our threads.
os.register_at_fork(after_in_child=_forget)
