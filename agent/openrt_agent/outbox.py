"""Frames that wait to be sent, put in by any thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from openrt_agent.operations import Operation

_BATCH: Final = 262_144


class _Item:
    """A frame that waits to be sent. ``sent`` holds how many bytes each write took."""

    __slots__ = ("frame", "operation", "sent")

    def __init__(self, frame: bytes, operation: Operation | None) -> None:
        self.frame = frame
        self.operation = operation
        self.sent: list[int] = []

    def left(self) -> int:
        return len(self.frame) - sum(self.sent)


class Outbox:
    """A queue of frames.

    A KeyboardInterrupt may strike a caller of ``put`` between any two steps. So the bytes that a
    write took are recorded by the very call that writes (``list.extend`` over ``map``), and what
    takes more than one step is left to the I/O thread, which no interrupt reaches.

    Args:
        write_fd: ``put`` writes here itself when nothing waits; None: all is left to ``drain``.

    Attributes:
        waiting: bytes that wait.
        closed: nothing is taken any more.
    """

    def __init__(self, write_fd: int | None) -> None:
        self.waiting = 0
        self.closed = False
        self._fds = None if write_fd is None else (write_fd,)
        self._lock = threading.Lock()
        self._holder = 0  # the thread that holds the lock
        self._items: deque[_Item] = deque()

    def is_mine(self) -> bool:
        """Whether this thread is in here already: ``put`` would hang in its signal handler."""
        return self._holder == threading.get_ident()

    def put(self, frame: bytes, operation: Operation | None) -> bool:
        """Sends or queues a frame, or drops it once closed. Whether any are left."""
        item = _Item(frame, operation)
        with self._lock:
            if self.closed:
                return False
            self._holder = threading.get_ident()
            try:
                if operation is not None:
                    operation.queued = True
                self._items.append(item)
                self.waiting += len(frame)
                if self._fds is not None and len(self._items) == 1:
                    self._write(item, self._fds)
                return bool(self._items)
            finally:
                self._holder = 0

    def drain(self, send: Callable[[memoryview], int]) -> tuple[bool, bool]:
        """In the I/O thread: sends what ``send`` takes. Whether any went out, and any are left.

        Raises:
            Whatever ``send`` raises.
        """
        moved = False
        with self._lock:
            self._holder = threading.get_ident()
            try:
                while self._items:
                    batch, data = self._batch()
                    taken = send(data) if data else 0
                    moved = moved or taken > 0
                    self._took(batch, taken)
                    if taken < len(data):
                        break
                return moved, bool(self._items)
            finally:
                self._holder = 0

    def close(self) -> frozenset[int]:
        """Drops what waits. The ids of the operations whose first frame did not go out whole."""
        with self._lock:
            self._holder = threading.get_ident()
            try:
                self.closed = True
                items = list(self._items)
                self._items.clear()
                return frozenset(i.operation.id for i in items if i.operation and i.left() > 0)
            finally:
                self._holder = 0

    def _write(self, item: _Item, fds: tuple[int]) -> None:
        try:
            item.sent.extend(map(os.write, fds, (item.frame,)))
        except OSError:
            # No room, or a broken stream: the I/O thread meets it as well and deals with it.
            return
        if item.left() <= 0:
            self._items.popleft()
            self.waiting -= len(item.frame)

    def _batch(self) -> tuple[list[_Item], memoryview]:
        """The first frame, with those behind it as long as they are small together."""
        batch: list[_Item] = []
        size = 0
        for item in self._items:
            if batch and size + len(item.frame) > _BATCH:
                break
            batch.append(item)
            size += len(item.frame)
        data = batch[0].frame if len(batch) == 1 else b"".join(item.frame for item in batch)
        return batch, memoryview(data)[sum(batch[0].sent) :]

    def _took(self, batch: list[_Item], taken: int) -> None:
        for item in batch:
            part = min(item.left(), taken)
            taken -= part
            if item.left() > part:
                item.sent.append(part)
                return
            self._items.popleft()
            self.waiting -= len(item.frame)
