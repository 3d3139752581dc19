"""The session keyring, which the kernel shares between a process and its children."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_KEYCTL: Final = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING: Final = 1

T = TypeVar("T")


def without_ours(start: Callable[[], T]) -> T:
    """Calls ``start`` in a thread with an empty session keyring of its own, for what it starts.

    Where the kernel refuses (no keys at all, a filter of system calls, a quota) nothing changes.
    """

    def apart() -> T:
        call = _KEYCTL.get(platform.machine())
        if call is not None:
            ctypes.CDLL(None).syscall(call, _JOIN_SESSION_KEYRING, None)
        return start()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(apart).result()
