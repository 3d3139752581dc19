"""Keeps a number of warm sandboxes: makes, looks after, hands out and removes them.

One thread owns all that is known of them; everybody else sends it messages. A Ctrl-C, which strikes
in the main thread only, can therefore never leave anything half done. What blocks (making, looking,
removing) runs on the executors, so that the number of threads does not grow with the pool.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import functools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from openrt_core import executors, pool_health
from openrt_core.backoff import Backoff
from openrt_core.errors import ConfigurationError
from openrt_core.events import Event
from openrt_core.manager import Manager
from openrt_core.models import SandboxHandle, SandboxSpec
from openrt_core.models.sandbox import new_id
from openrt_core.pool_parts import Check, Making, Member, Request, closed_error, submit
from openrt_core.provisioning import Ticket
from openrt_core.waiting import Latch

log = logging.getLogger("openrt")

MAKERS: Final = 8
"""How many members one pool has made at the same time."""


class Keeper:
    """The members of one pool. ``begin`` starts it; every other method sends it a message.

    Args:
        manager: of their runtime.
        spec: of each member, but for its id.
        size: how many are ready, or being made.
        max_age: seconds after which one that nobody took is replaced; None for no limit.
    """

    def __init__(
        self, manager: Manager, spec: SandboxSpec, size: int, max_age: float | None
    ) -> None:
        self.manager = manager
        self.last_error: BaseException | None = None
        self._spec = spec
        self._size = size
        self._max_age = max_age
        self._limit = manager.settings.core.max_provisioning
        self._backoff = Backoff()
        self._queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._context = contextvars.copy_context()
        self._begun = threading.Lock()
        self._running = False
        self._closed = False
        self._over = Latch()
        self._idle: deque[Member] = deque()
        self._waiting: deque[Request] = deque()
        self._making: set[Making] = set()
        self._checks: set[Check] = set()
        self._removing: set[str] = set()
        self._farewells: list[Callable[[], None]] = []

    # Messages -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Starts its thread, unless it runs. Idempotent."""
        if not self._running:  # a second thread would end at once
            # Not threading.Thread: an interrupt inside its start() can leave it waiting for ever.
            _thread.start_new_thread(self._context.copy().run, (self._run,))

    def ask(self, request: Request) -> None:
        """Queues up for a member; first come, first served."""
        self._post(lambda: self._ask(request))

    def withdraw(self, request: Request) -> None:
        """Leaves the queue, or gives back a member that was not used. Idempotent."""
        self._post(lambda: self._withdraw(request))

    def close(self, over: Callable[[], None]) -> None:
        """Makes no more, removes all members; ``over`` is called when none is left. Idempotent."""
        self._post(lambda: self._close(over))

    def _post(self, message: Callable[[], object]) -> None:
        self._queue.put(message)
        if self._over.is_set():
            self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()()

    # Its thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        self._running = True
        try:
            while not self._closed or self._making or self._checks or self._removing:
                self._step()
        except Exception:
            # Members that are left are removed at the exit of the interpreter.
            log.exception("a pool of sandboxes failed")
            self._closed = True
        self._over.set()
        self._fail_all(closed_error())
        for over in self._farewells:
            over()
        self._drain()

    def _step(self) -> None:
        now = time.monotonic()
        self._tidy(now)
        self._fill(now)
        while self._idle and len(self._checks) < len(self._waiting):
            self._check(self._idle.popleft())
        try:
            message = self._queue.get(timeout=self._pause(time.monotonic()))
        except queue.Empty:
            return
        message()

    def _pause(self, now: float) -> float | None:
        """Seconds until there is something to do without a message; None: nothing."""
        due = [(check.began or now) + pool_health.LIMIT for check in self._checks]
        if self._max_age is not None:
            due += [member.born + self._max_age for member in self._idle]
        if self._backoff.until > now and not self._closed:
            due.append(self._backoff.until)
        return max(min(due) - now, 0.0) if due else None

    def _tidy(self, now: float) -> None:
        """Removes members that are too old, too many, or do not answer."""
        for check in [c for c in self._checks if now - (c.began or now) > pool_health.LIMIT]:
            self._checked(check, fit=False)
        for member in list(self._idle):
            too_old = self._max_age is not None and now - member.born >= self._max_age
            if too_old or len(self._idle) > self._size:
                self._idle.remove(member)
                self._remove(member)

    # Making ---------------------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        # While it fails, one attempt is enough to learn whether it still does.
        makers = 1 if self._backoff.failures else MAKERS
        while (
            not self._closed
            and now >= self._backoff.until
            and len(self._making) < makers
            and len(self._idle) + len(self._checks) + len(self._making) < self._size
        ):
            job = Making()
            placed = functools.partial(self._placed, job)
            job.ticket = Ticket(self._limit, functools.partial(self._queue.put, placed))
            self._making.add(job)
            job.ticket.ask()

    def _placed(self, job: Making) -> None:
        if job.begun or job not in self._making:
            return
        job.begun = True
        try:
            executors.submit("provision", lambda: self._make(job))
        except RuntimeError:
            # The interpreter is going down, and what is there is removed by its exit.
            self._making.discard(job)
            job.ticket.release()
            self._closed = True
            self._fail_all(closed_error())

    def _make(self, job: Making) -> None:
        try:
            with job.ticket.entered():
                handle = self.manager.create(attrs.evolve(self._spec, id=new_id()))
        except BaseException as error:  # noqa: BLE001  # told to those who wait
            self._post(functools.partial(self._failed, job, error))
        else:
            self._post(functools.partial(self._made, job, handle))
        finally:
            job.ticket.release()

    def _made(self, job: Making, handle: SandboxHandle) -> None:
        self._making.discard(job)
        self._backoff.succeeded()
        self.last_error = None
        self._take_back(Member(handle, time.monotonic()))

    def _failed(self, job: Making, error: BaseException) -> None:
        self._making.discard(job)
        self.last_error = error
        if not self._backoff.failures:
            self._tell(f"No warm sandbox could be made, it is tried again: {error}")
        self._backoff.failed(time.monotonic())
        if self._hopeless():
            self._fail_all(error)

    def _hopeless(self) -> bool:
        # What was asked for cannot be made, and nothing is left: waiting would not help.
        left = self._idle or self._checks or self._making
        return isinstance(self.last_error, ConfigurationError) and not left

    # Handing out ----------------------------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        if self._closed:
            request.fail(closed_error())
        elif self.last_error is not None and self._hopeless():
            request.fail(self.last_error)
        else:
            self._waiting.append(request)

    def _withdraw(self, request: Request) -> None:
        member, request.member = request.member, None
        if request in self._waiting:
            self._waiting.remove(request)
        elif member is not None:
            self._take_back(member)

    def _check(self, member: Member) -> None:
        check = Check(member)
        self._checks.add(check)

        def look() -> None:
            check.began = time.monotonic()
            fit = pool_health.alive(self.manager, member.handle)
            self._post(functools.partial(self._checked, check, fit=fit))

        submit("call", look)

    def _checked(self, check: Check, *, fit: bool) -> None:
        if check not in self._checks:
            return
        self._checks.discard(check)
        if not fit:
            self._tell(f"The warm sandbox {check.member.handle.id} had died, it is replaced.")
            self._remove(check.member)
        elif self._waiting and not self._closed:
            request = self._waiting.popleft()
            request.member = check.member
            request.wake()
        else:
            self._take_back(check.member)

    def _take_back(self, member: Member) -> None:
        if self._closed:
            self._remove(member)
        else:
            self._idle.append(member)

    def _fail_all(self, error: BaseException) -> None:
        while self._waiting:
            self._waiting.popleft().fail(error)

    # Removing -------------------------------------------------------------------------------------

    def _close(self, over: Callable[[], None]) -> None:
        if self._over.is_set():
            over()
            return
        self._closed = True
        self._farewells.append(over)
        self._fail_all(closed_error())
        for job in [j for j in self._making if not j.begun]:
            self._making.discard(job)
            job.ticket.release()
        while self._idle:
            self._remove(self._idle.popleft())

    def _remove(self, member: Member) -> None:
        id = member.handle.id
        self._removing.add(id)

        def remove() -> None:
            try:
                self.manager.teardown(member.handle)
            except Exception as error:  # noqa: BLE001  # nobody waits here who could be told
                self._tell(f"The warm sandbox {id} may be left behind: {error}")
            finally:
                self._post(lambda: self._removing.discard(id))

        submit("teardown", remove)

    def _tell(self, text: str) -> None:
        line = "".join(c if c.isprintable() else " " for c in text)
        self.manager.emit(Event(kind="note", message=line[:300], source="pool"))
