# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from support.fake_runtime import SPEC, FakeRuntime, manage
from support.polling import until

from openrt_core import AsyncSandbox, Sandbox, provisioning
from openrt_core.errors import ProvisionError, SettingError
from openrt_core.models import SandboxHandle
from openrt_core.plugin import hookimpl
from openrt_core.provisioning import Ticket, place
from openrt_core.settings import load


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    until(lambda: not provisioning._held and not provisioning._waiting)


@attrs.define(eq=False)
class Gated(FakeRuntime):
    """Each provision waits until it is let on; how many there were at once is written down."""

    gate: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    inside: list[str] = attrs.field(factory=list)
    order: list[str] = attrs.field(factory=list)
    most: int = 0
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    @hookimpl
    def openrt_provision(self, spec):
        with self.lock:
            self.inside.append(spec.id)
            self.order.append(spec.id)
            self.most = max(self.most, len(self.inside))
        assert self.gate.acquire(timeout=60)
        with self.lock:
            self.inside.remove(spec.id)
        self.alive.add(spec.id)
        return SandboxHandle(runtime="fake", id=spec.id)


@pytest.fixture
def limit(monkeypatch):
    def set_to(number):
        monkeypatch.setenv("OPENRT_MAX_PROVISIONING", str(number))

    return set_to


def reached(get, number):
    until(lambda: get() == number)


def spec(name):
    return attrs.evolve(SPEC, id=name)


def test_the_limit_is_eight_when_nobody_said():
    assert load(environ={}, folder="/").core.max_provisioning == 8


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_a_limit_that_lets_nobody_pass_is_refused(value):
    with pytest.raises(SettingError, match=r"OPENRT_MAX_PROVISIONING.*1 or more"):
        load(environ={"OPENRT_MAX_PROVISIONING": value}, folder="/")


def test_threads_wait_for_their_turn_and_get_it_in_order(limit):
    limit(2)
    runtime = Gated()
    manager = manage(runtime)
    with ThreadPoolExecutor(6) as threads:
        futures = []
        for n in range(6):
            futures.append(threads.submit(manager.create, spec(f"n{n}")))
            reached(lambda: len(runtime.inside) + len(provisioning._waiting), n + 1)
        assert sorted(runtime.inside) == ["n0", "n1"]
        for n in range(6):
            runtime.gate.release()
            reached(lambda: len(runtime.order), min(n + 3, 6))
        assert {f.result(60).id for f in futures} == runtime.alive
    assert sorted(runtime.order[:2]) == ["n0", "n1"]
    assert runtime.order[2:] == ["n2", "n3", "n4", "n5"]
    assert runtime.most == 2


def test_async_code_waits_too_without_a_thread_each(limit):
    limit(2)
    runtime = Gated()
    manager = manage(runtime)

    async def main():
        tasks = [
            asyncio.create_task(AsyncSandbox.create(manager=manager, spec=spec(f"n{n}")))
            for n in range(60)
        ]
        async with asyncio.timeout(60):
            while len(provisioning._waiting) < 58 or len(runtime.inside) < 2:
                await asyncio.sleep(0.01)
        runtime.gate.release(60)
        for sandbox in await asyncio.gather(*tasks):
            await sandbox.close()

    asyncio.run(main())
    assert runtime.most == 2
    assert not runtime.alive


def test_a_create_that_is_cancelled_while_it_waits_makes_nothing(limit):
    limit(1)
    runtime = Gated()
    manager = manage(runtime)

    async def main():
        first = asyncio.create_task(AsyncSandbox.create(manager=manager, spec=spec("first")))
        async with asyncio.timeout(60):
            while not runtime.inside:
                await asyncio.sleep(0.01)
        second = asyncio.create_task(AsyncSandbox.create(manager=manager, spec=spec("second")))
        async with asyncio.timeout(60):
            while not provisioning._waiting:
                await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not provisioning._waiting
        runtime.gate.release()
        await (await first).close()

    asyncio.run(main())
    assert runtime.order == ["first"]
    assert not runtime.alive


def test_an_error_gives_the_place_back(limit):
    limit(1)

    class Fails(FakeRuntime):
        @hookimpl
        def openrt_provision(self):
            raise ProvisionError("no room")

    manager = manage(Fails())
    for _ in range(3):
        with pytest.raises(ProvisionError):
            Sandbox.create(manager=manager, spec=SPEC)

    async def main():
        for _ in range(3):
            with pytest.raises(ProvisionError):
                await AsyncSandbox.create(manager=manager, spec=SPEC)

    asyncio.run(main())


@pytest.mark.parametrize("nested_async", [False, True])
def test_what_is_made_inside_of_another_does_not_wait_for_itself(limit, nested_async):
    limit(1)
    inner = FakeRuntime()

    class Outer(FakeRuntime):
        @hookimpl
        def openrt_provision(self, spec):
            if nested_async:
                asyncio.run(AsyncSandbox.create(manager=manage(inner), spec=SPEC))
            else:
                Sandbox.create(manager=manage(inner), spec=SPEC)
            self.alive.add(spec.id)
            return SandboxHandle(runtime="fake", id=spec.id)

    outer = Outer()
    with Sandbox.create(manager=manage(outer), spec=spec("outer")):
        assert inner.alive == {"box"}
        assert outer.alive == {"outer"}


def test_a_context_that_outlives_its_place_waits_like_everybody():
    contexts = []
    with place(1):
        contexts.append(contextvars.copy_context())
    with place(1):
        told = threading.Event()

        def enter():
            with place(1):
                told.set()

        thread = threading.Thread(target=contexts[0].run, args=(enter,))
        thread.start()
        until(lambda: provisioning._waiting)
        assert not told.is_set()
    thread.join(60)
    assert told.is_set()


def test_a_ticket_may_be_given_back_at_any_time_and_more_than_once():
    told: list[int] = []
    first, second, third = (Ticket(1, functools.partial(told.append, n)) for n in range(3))
    for ticket in (first, second, third):
        ticket.ask()
    assert told == [0]
    second.release()
    first.release()
    first.release()
    assert told == [0, 2]
    assert third.held
    third.release()


def test_a_ctrl_c_while_waiting_leaves_the_queue():
    with place(1):
        context = contextvars.Context()

        def wait():
            # In a context of its own it is not inside of the place that is held here.
            with place(1):
                raise AssertionError("there was no place")

        def interrupt():
            until(lambda: provisioning._waiting)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            context.run(wait)
        assert not provisioning._waiting


def test_a_forked_child_holds_no_place_of_its_parent():
    code = """
import os
from openrt_core.provisioning import place
import contextvars
with place(1):
    pid = os.fork()
    if not pid:
        def enter():
            with place(1):
                os._exit(7)
        contextvars.Context().run(enter)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
