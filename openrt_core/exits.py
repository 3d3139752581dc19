"""What is to be removed when the interpreter exits and nobody removed it before."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger("openrt")

_lock = threading.Lock()
_removals: dict[tuple[str, str], Callable[[], object]] = {}


def add(runtime: str, id: str, remove: Callable[[], object]) -> None:
    """Has ``remove`` called at the exit of the interpreter, in the thread that ends it."""
    with _lock:
        _removals[runtime, id] = remove


def claim(runtime: str, id: str, remove: Callable[[], object]) -> bool:
    """As ``add``, unless there is one of this id already; whether there was none."""
    with _lock:
        return _removals.setdefault((runtime, id), remove) is remove


def holds(runtime: str, id: str) -> bool:
    """Whether the exit will remove it."""
    with _lock:
        return (runtime, id) in _removals


def discard(runtime: str, id: str) -> None:
    """Takes it back. Idempotent."""
    with _lock:
        _removals.pop((runtime, id), None)


def _remove_all() -> None:
    # Executors and, in some versions of Python, threads cannot be started any more: all is done
    # here, one after the other.
    while True:
        with _lock:
            if not _removals:
                return
            (runtime, id), remove = _removals.popitem()
        try:
            remove()
        except BaseException as error:  # noqa: BLE001  # a Ctrl-C ends one removal, not the others
            log.error("sandbox %s of the runtime %s may be left behind: %s", id, runtime, error)


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _removals.clear()


atexit.register(_remove_all)
# What a parent has open is not a forked child's to remove.
os.register_at_fork(after_in_child=_forget)
