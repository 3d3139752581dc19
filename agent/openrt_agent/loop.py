"""The one I/O thread of a process: all connections to all agents, whatever their number."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger("openrt")

_FOREVER: Final = 3600.0


class Source(Protocol):
    """What the loop serves. Everything is called in its thread and must not block."""

    read_fd: int
    write_fd: int

    def readable(self) -> bool:
        """There may be something to read. True: call again, whatever the descriptor says."""

    def writable(self) -> None:
        """There may be room to write."""

    def tick(self, now: float) -> float:
        """Looks at its times; when it wants to be asked next."""

    def broken(self, error: Exception) -> None:
        """A call to it raised ``error``, which was logged."""

    def orphaned(self) -> None:
        """This is a child after fork: what belongs to the parent is let go. Takes no lock."""


class Loop:
    """Runs sources in a daemon thread that starts with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._sources: set[Source] = set()
        self._again: set[Source] = set()
        self._masks: dict[int, int] = {}
        self._tick_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, None)

    def call(self, function: Callable[[], None]) -> None:
        """Has ``function`` called in the loop's thread. From any thread, and signal handlers."""
        self._calls.append(function)
        if self._thread is None:
            threading.Thread(target=self._run, name="openrt-io", daemon=True).start()
        # Always, for a note that it was rung may be left behind by a Ctrl-C that came before the
        # ringing. A full buffer: it is awake already.
        with contextlib.suppress(BlockingIOError):
            self._ring.send(b"\0")

    def is_current(self) -> bool:
        """Whether this is the loop's thread."""
        return self._thread is threading.current_thread()

    # In the loop's thread ----------------------------------------------------------------------

    def add(self, source: Source) -> None:
        """Serves a source from now on."""
        self._sources.add(source)
        self._set(source.read_fd, selectors.EVENT_READ, source)
        self._tick_at = 0.0

    def want_write(self, source: Source, wanted: bool) -> None:
        """Whether ``writable`` is to be called."""
        fd = source.write_fd
        if fd < 0:
            if wanted:
                self._again.add(source)
        else:
            mask = self._masks.get(fd, 0) & ~selectors.EVENT_WRITE
            self._set(fd, mask | (selectors.EVENT_WRITE if wanted else 0), source)

    def want_read(self, source: Source, wanted: bool) -> None:
        """Whether ``readable`` is to be called: until this is asked, it is."""
        mask = self._masks.get(source.read_fd, 0) & ~selectors.EVENT_READ
        self._set(source.read_fd, mask | (selectors.EVENT_READ if wanted else 0), source)

    def remove(self, source: Source) -> None:
        """Forgets a source; to be called before its descriptors are closed."""
        self._sources.discard(source)
        self._again.discard(source)
        for fd in {source.read_fd, source.write_fd}:
            self._set(fd, 0, source)

    def _set(self, fd: int, mask: int, source: Source) -> None:
        before = self._masks.get(fd, 0)
        if mask == before:
            return
        if not mask:
            self._selector.unregister(fd)
            del self._masks[fd]
            return
        if before:
            self._selector.modify(fd, mask, source)
        else:
            self._selector.register(fd, mask, source)
        self._masks[fd] = mask

    def _run(self) -> None:
        with self._lock:
            # Several callers may have started one, or one that was interrupted while it did.
            if self._thread is not None:
                return
            self._thread = threading.current_thread()
        while True:
            self._turn()

    def _turn(self) -> None:
        if self._again or self._calls:
            wait = 0.0
        else:
            wait = min(max(self._tick_at - time.monotonic(), 0.0), _FOREVER)
        for key, mask in self._selector.select(wait):
            source: Source | None = key.data
            if source is None:
                self._answer_bell()
                continue
            if mask & selectors.EVENT_READ:
                self._read(source)
            if mask & selectors.EVENT_WRITE:
                self._guard(source, source.writable)
        for source in list(self._again):
            self._again.discard(source)
            self._read(source)
            if source.write_fd < 0:
                self._guard(source, source.writable)
        self._run_calls()
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick(now)

    def _answer_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):
            function = self._calls.popleft()
            try:
                function()
            except BaseException:
                # SystemExit as well, here and below: it would end the thread of every sandbox.
                log.exception("a call in the I/O thread failed")

    def _read(self, source: Source) -> None:
        if source not in self._sources:
            return
        try:
            if source.readable() and source in self._sources:
                self._again.add(source)
        except BaseException as error:
            log.exception("reading from a sandbox failed")
            source.broken(_plain(error))

    def _guard(self, source: Source, function: Callable[[], None]) -> None:
        if source not in self._sources:
            return
        try:
            function()
        except BaseException as error:
            log.exception("writing to a sandbox failed")
            source.broken(_plain(error))

    def _tick(self, now: float) -> None:
        # Times only ever move later, except for a new source, which sets _tick_at back.
        self._tick_at = now + _FOREVER
        for source in list(self._sources):
            try:
                self._tick_at = min(self._tick_at, source.tick(now))
            except BaseException as error:
                log.exception("keeping a sandbox's connection alive failed")
                source.broken(_plain(error))

    def orphan(self) -> None:
        """For a child after fork: lets go of everything, and leaves the parent's alone."""
        # Not unregistered: the epoll set is the parent's as well.
        self._selector.close()
        self._bell.close()
        self._ring.close()
        for source in list(self._sources):
            source.orphaned()


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(f"unexpected {error!r}")


_loop: Loop | None = None
_making = threading.Lock()


def current() -> Loop:
    """The loop of this process."""
    global _loop
    if _loop is None:
        with _making:
            if _loop is None:
                _loop = Loop()
    return _loop


def _after_fork() -> None:
    global _loop, _making
    _making = threading.Lock()
    loop, _loop = _loop, None
    if loop is not None:
        loop.orphan()


os.register_at_fork(after_in_child=_after_fork)
