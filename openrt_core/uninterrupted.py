"""Calls that go on to their end when the user presses Ctrl-C."""

from __future__ import annotations

import _thread
import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from openrt_core.waiting import Latch

T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._begun = threading.Lock()
        self._over = Latch()
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Makes the call, unless somebody does already."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._value = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
            self._error = error
        finally:
            self._over.set()

    def wait(self) -> T:
        try:
            # Not threading.Thread: an interrupt inside its start() can leave the new thread waiting
            # for ever, before it has begun.
            try:
                _thread.start_new_thread(self.run, ())
            except RuntimeError:
                # No thread can be had; what has to be done is done here, Ctrl-C or not.
                self.run()
            self._over.wait()
        except KeyboardInterrupt as interrupt:
            # A second one ends this wait and not the call. When the interrupt came before the
            # thread, there is none that makes it.
            self.run()
            self._over.wait()
            if self._error is not None:
                interrupt.add_note(f"What was interrupted failed as well: {self._error}")
            raise
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set whenever there is no error


def uninterrupted(function: Callable[[], T]) -> T:
    """Calls ``function`` to its end, whatever Ctrl-C the user presses meanwhile.

    Only the main thread is ever interrupted. There it runs in a thread of its own, with the context
    variables of the caller. A KeyboardInterrupt is raised when the call is over; a second one at
    once, while the call goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    return _Call(function).wait()
