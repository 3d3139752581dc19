"""Pools of warm sandboxes: taken in a moment, used once, replaced in the background."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Unpack

import attrs

from openrt_core import executors
from openrt_core.aio import AsyncSandbox
from openrt_core.base import SpecArguments, make_spec
from openrt_core.errors import SettingError
from openrt_core.manager import Manager
from openrt_core.models import SandboxHandle, SandboxSpec
from openrt_core.pool_keeper import Keeper
from openrt_core.pool_parts import Request, closed_error, late_error
from openrt_core.sandbox import Sandbox
from openrt_core.waiting import Latch, future_waker

ACQUIRE_TIMEOUT: Final = 300.0
"""Seconds that ``acquire`` waits when nothing else is said."""


class PoolBase:
    """What both pools share: their arguments, and the keeper of the members."""

    def __init__(
        self,
        runtime: str | None = None,
        *,
        size: int,
        manager: Manager | None = None,
        spec: SandboxSpec | None = None,
        max_age: float | None = None,
        **arguments: Unpack[SpecArguments],
    ) -> None:
        _check_size(size)
        _check_seconds("max_age", max_age)
        if arguments.get("keep") or (spec is not None and spec.keep):
            raise SettingError("The sandboxes of a pool are not kept.", hint="")
        self.size = size
        self.max_age = max_age
        self._runtime = runtime
        self._manager = manager
        self._spec = spec
        self._arguments = arguments
        self._keeper: Keeper | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()

    @property
    def closed(self) -> bool:
        """Whether it was closed here."""
        return self._closed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} size={self.size}{' closed' if self._closed else ''}>"

    def _opened(self) -> Keeper:
        """The keeper, begun. The first call imports the runtime and reads the settings."""
        if self._pid != os.getpid():
            raise SettingError("A pool cannot be used in a forked process.", hint="Make a new one.")
        with self._lock:
            if self._keeper is None and not self._closed:
                self._keeper = self._prepared()
        # After the keeper is there for ``close`` to see: one of the two sees the other.
        if self._closed or self._keeper is None:
            raise closed_error()
        self._keeper.begin()
        return self._keeper

    def _prepared(self) -> Keeper:
        manager = self._manager or Manager.open(self._runtime)
        arguments = self._arguments
        if self._spec is None:
            arguments = {**arguments, "keep": False}  # whatever the settings say
        spec = make_spec(manager, self._spec, arguments)
        max_age = self.max_age
        if max_age is None and spec.lifetime is not None:
            # What is handed out should have some of its life before it.
            max_age = spec.lifetime / 2
        return Keeper(manager, attrs.evolve(spec, keep=False), self.size, max_age)

    def _begin_close(self, over: Callable[[], None]) -> None:
        """Has ``over`` called when nothing is left; at once when there is nothing."""
        self._closed = True
        keeper = self._keeper
        if keeper is None or self._pid != os.getpid():
            over()
            return
        keeper.close(over)
        keeper.begin()


class Pool(PoolBase):
    """Warm sandboxes of one kind; a context manager that makes them and removes them again.

    ``acquire`` gives one that is ready and whose health was looked at just now. It belongs to the
    caller, who closes it (``with``) when it was used; it never comes back to the pool. Others are
    made in the background, so that ``size`` of them are ready. Thread-safe.

    Args:
        runtime: name of the runtime; None for the setting RUNTIME.
        size: how many are ready, or being made.
        manager: one that is open already, instead of ``runtime``.
        spec: the whole specification, instead of ``arguments``; each member has an id of its own.
        max_age: seconds after which one that nobody took is replaced. None: half of its
            ``lifetime`` when it has one, else never.
        arguments: as for ``Sandbox.create``.

    Raises:
        SettingError: an argument is wrong.
    """

    def start(self) -> None:
        """Begins to make sandboxes, and returns at once. ``acquire`` and ``with`` do it too.

        Raises:
            ConfigurationError: what was asked for cannot be.
        """
        self._opened()

    def acquire(self, timeout: float | None = ACQUIRE_TIMEOUT) -> Sandbox:
        """A warm sandbox; those who wait are served in order.

        Args:
            timeout: seconds to wait; None for no limit.

        Raises:
            ProvisionError: none was ready in time. The last error of making one, if that failed;
                else StartTimeoutError.
            ConfigurationError: what was asked for cannot be; raised at once.
            SandboxGoneError: the pool is closed.
        """
        _check_seconds("timeout", timeout)
        keeper = self._opened()
        latch = Latch()
        request = Request(lambda: None if latch.is_set() else latch.set())
        try:
            keeper.ask(request)
            latch.wait(timeout)
            return Sandbox(keeper.manager, _handle(keeper, request, timeout))
        except BaseException:
            keeper.withdraw(request)
            raise

    def close(self) -> None:
        """Removes all members, also those that are being made. Those that were acquired live on.
        Idempotent."""
        latch = Latch()
        self._begin_close(lambda: None if latch.is_set() else latch.set())
        latch.wait()

    def __enter__(self) -> Pool:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncPool(PoolBase):
    """As ``Pool``, for async code: ``async with await pool.acquire() as sandbox``."""

    async def start(self) -> None:
        """As ``Pool.start``."""
        await self._opened_async()

    async def acquire(self, timeout: float | None = ACQUIRE_TIMEOUT) -> AsyncSandbox:
        """As ``Pool.acquire``. Cancelled, it leaves what it may have got to the others."""
        _check_seconds("timeout", timeout)
        keeper = await self._opened_async()
        future, wake = future_waker(asyncio.get_running_loop())
        request = Request(wake)
        try:
            keeper.ask(request)
            await asyncio.wait((future,), timeout=timeout)
            return AsyncSandbox(keeper.manager, _handle(keeper, request, timeout))
        except BaseException:
            keeper.withdraw(request)
            raise

    async def close(self) -> None:
        """As ``Pool.close``. It goes on to its end when it is cancelled."""
        future, wake = future_waker(asyncio.get_running_loop())
        self._begin_close(wake)
        await future

    async def _opened_async(self) -> Keeper:
        if self._keeper is not None:
            return self._opened()
        return await asyncio.wrap_future(executors.submit("provision", self._opened))

    async def __aenter__(self) -> AsyncPool:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _check_size(size: Any) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise SettingError(f"size={size!r}: it takes a whole number, 1 or more.", hint="")


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None and not 0 < seconds < math.inf:
        raise SettingError(f"{name}={seconds!r}: it takes seconds above 0, or None.", hint="")


def _handle(keeper: Keeper, request: Request, timeout: float | None) -> SandboxHandle:
    """What a request got, or the error that it has to raise."""
    if request.member is not None:
        return request.member.handle
    error = request.error or keeper.last_error or late_error(timeout)
    # It may be raised to many; each raise adds to the traceback that it has.
    raise error.with_traceback(None)
