# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading

import attrs
import pytest
import support
from support.fake_runtime import SPEC, FakeRuntime, hang
from support.polling import until

from openrt_core import AsyncPool, Pool, exits, pool_health, provisioning
from openrt_core.backoff import Backoff
from openrt_core.errors import (
    CommandNotStartedError,
    ProvisionError,
    SandboxGoneError,
    SettingError,
    StartTimeoutError,
    UnsupportedError,
)
from openrt_core.hook_calls import Wrapper
from openrt_core.manager import Manager
from openrt_core.models import SandboxHandle, SandboxStatus
from openrt_core.plugin import hookimpl
from openrt_core.pool_parts import Request

LONG = 60.0


def reached(get, number):
    until(lambda: get() == number)


@pytest.fixture
def events():
    return []


@pytest.fixture
def managed(events):
    def manage(runtime, *wrappers):
        named = [Wrapper(f"w{n}", w) for n, w in enumerate(wrappers)]
        return Manager("fake", runtime, named, emit=events.append)

    return manage


@attrs.define(eq=False)
class Status(FakeRuntime):
    """A runtime that can say how a sandbox is."""

    looked: list[str] = attrs.field(factory=list)

    @hookimpl
    def openrt_status(self, handle):
        self.looked.append(handle.id)
        return SandboxStatus(state="running" if handle.id in self.alive else "gone")


@attrs.define(eq=False)
class Gated(FakeRuntime):
    """Provision waits until it is let on."""

    gate: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    begun: list[str] = attrs.field(factory=list)

    @hookimpl
    def openrt_provision(self, spec):
        self.begun.append(spec.id)
        assert self.gate.acquire(timeout=LONG)
        self.alive.add(spec.id)
        return SandboxHandle(runtime="fake", id=spec.id)


@attrs.define(eq=False)
class Failing(FakeRuntime):
    """Provision raises what stands in ``errors``, then works."""

    errors: list[Exception] = attrs.field(factory=list)
    attempts: int = 0

    @hookimpl
    def openrt_provision(self, spec):
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]
        self.alive.add(spec.id)
        return SandboxHandle(runtime="fake", id=spec.id)


@pytest.fixture(params=[FakeRuntime, Status])
def runtime(request):
    return request.param()


def test_a_warm_sandbox_is_used_once_and_replaced(runtime, managed):
    with Pool(manager=managed(runtime), spec=SPEC, size=2) as pool:
        until(lambda: len(runtime.alive) == 2)
        warm = set(runtime.alive)
        with pool.acquire(LONG) as sandbox:
            assert sandbox.id in warm
            assert sandbox.exec("true").stdout == b"out"
            until(lambda: len(runtime.alive) == 3)
        assert sandbox.id not in runtime.alive
        with pool.acquire(LONG) as other:
            assert other.id != sandbox.id
    assert not runtime.alive
    assert len(runtime.specs) == len({spec.id for spec in runtime.specs})


def test_one_that_was_acquired_outlives_its_pool(runtime, managed):
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        sandbox = pool.acquire(LONG)
    assert runtime.alive == {sandbox.id}
    assert sandbox.exec("true").ok
    sandbox.close()
    assert not runtime.alive


def test_a_dead_one_is_never_handed_out(runtime, managed, events):
    with Pool(manager=managed(runtime), spec=SPEC, size=3) as pool:
        until(lambda: len(runtime.alive) == 3)
        dead = set(runtime.alive)
        runtime.alive.clear()
        with pool.acquire(LONG) as sandbox:
            assert sandbox.id not in dead
    assert any("had died" in event.message for event in events)
    assert not runtime.alive


def test_the_check_leaves_wrappers_out_and_needs_no_program(managed):
    class Refuses:
        @hookimpl(wrapper=True)
        def openrt_exec(self):
            yield
            raise AssertionError("a wrapper saw the check")

    def no_such_program(process):
        raise CommandNotStartedError("There is no /bin/true.")

    runtime = FakeRuntime(script=no_such_program)
    with Pool(manager=managed(runtime, Refuses()), spec=SPEC, size=1) as pool:
        pool.acquire(LONG).close()
    assert [command.argv for command in runtime.commands] == [("/bin/true",)]


def test_one_that_does_not_answer_is_replaced(managed, monkeypatch):
    monkeypatch.setattr(pool_health, "LIMIT", 0.2)
    runtime = FakeRuntime(script=hang)
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        until(lambda: runtime.alive)
        (silent,) = runtime.alive

        def answer_later():
            until(lambda: any(handle.id == silent for handle in runtime.torn_down))
            monkeypatch.setattr(pool_health, "LIMIT", LONG)
            runtime.script = FakeRuntime().script

        helper = threading.Thread(target=answer_later)
        helper.start()
        with pool.acquire(LONG) as sandbox:
            assert sandbox.id != silent
        helper.join(LONG)
    assert not runtime.alive


def test_a_check_that_hangs_in_the_runtime_is_given_up(managed, monkeypatch):
    monkeypatch.setattr(pool_health, "LIMIT", 0.2)
    go_on = threading.Event()

    class HangsOnce(Status):
        @hookimpl
        def openrt_status(self, handle):
            self.looked.append(handle.id)
            if len(self.looked) == 1:
                assert go_on.wait(LONG)
            monkeypatch.setattr(pool_health, "LIMIT", LONG)
            return SandboxStatus(state="running")

    runtime = HangsOnce()
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        with pool.acquire(LONG) as sandbox:
            assert sandbox.id != runtime.looked[0]
        go_on.set()
    assert not runtime.alive


def test_those_who_wait_are_served_in_order(managed):
    runtime = Gated()
    served = []
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        until(lambda: runtime.begun)
        keeper = pool._keeper
        assert keeper is not None

        def take(n):
            sandbox = pool.acquire(LONG)
            served.append(n)
            sandbox.close()

        threads = [threading.Thread(target=take, args=(n,)) for n in range(4)]
        for n, thread in enumerate(threads):
            thread.start()
            reached(lambda: len(keeper._waiting), n + 1)
        for n in range(4):
            runtime.gate.release()
            reached(lambda: len(served), n + 1)
        runtime.gate.release(2)
        for thread in threads:
            thread.join(LONG)
    assert served == [0, 1, 2, 3]
    assert not runtime.alive


def test_a_pool_of_many_takes_few_threads(managed):
    runtime = FakeRuntime()
    before = threading.active_count()
    with Pool(manager=managed(runtime), spec=SPEC, size=200) as pool:
        until(lambda: len(runtime.alive) == 200)
        assert threading.active_count() <= before + 9  # makers; the keeper is not counted
        pool.acquire(LONG).close()
    assert not runtime.alive


def test_one_that_is_too_old_is_replaced(managed):
    runtime = FakeRuntime()
    with Pool(manager=managed(runtime), spec=SPEC, size=2, max_age=0.05):
        until(lambda: len(runtime.torn_down) >= 6)
    assert not runtime.alive


def test_half_of_the_lifetime_is_the_age_when_nobody_said(managed):
    spec = attrs.evolve(SPEC, lifetime=0.1)
    runtime = FakeRuntime()
    with Pool(manager=managed(runtime), spec=spec, size=1):
        until(lambda: len(runtime.torn_down) >= 2)
    assert not runtime.alive


def test_a_provision_that_fails_is_tried_again(managed, events):
    runtime = Failing(errors=[ProvisionError("no room\nhere")])
    with Pool(manager=managed(runtime), spec=SPEC, size=3) as pool:
        until(lambda: runtime.attempts >= 4)
        runtime.errors.clear()
        pool.acquire(LONG).close()
    notes = [e.message for e in events if "No warm sandbox" in e.message]
    assert notes
    assert all("\n" not in note and "no room" in note for note in notes)
    assert not runtime.alive


def test_when_nothing_can_be_made_the_last_error_is_raised(managed):
    runtime = Failing(errors=[ProvisionError("first"), ProvisionError("last")])
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        until(lambda: runtime.attempts >= 2)
        for _ in range(2):
            with pytest.raises(ProvisionError, match="last"):
                pool.acquire(timeout=0.2)


def test_when_it_only_takes_long_that_is_said(managed):
    runtime = Gated()
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        with pytest.raises(StartTimeoutError, match=r"ready within 0\.1 s"):
            pool.acquire(timeout=0.1)
        runtime.gate.release(2)
        pool.acquire(LONG).close()
    assert not runtime.alive


def test_what_can_never_be_made_is_told_at_once(managed):
    runtime = FakeRuntime(features=frozenset())
    with Pool(manager=managed(runtime), spec=attrs.evolve(SPEC, gpu="all"), size=2) as pool:
        for _ in range(3):
            with pytest.raises(UnsupportedError, match="gpu"):
                pool.acquire(timeout=None)


def test_close_waits_for_those_that_are_being_made_and_leaves_nothing(managed):
    runtime = Gated()
    pool = Pool(manager=managed(runtime), spec=SPEC, size=3)
    pool.start()
    until(lambda: len(runtime.begun) == 3)
    closing = threading.Thread(target=pool.close)
    closing.start()
    until(lambda: pool.closed)
    with pytest.raises(SandboxGoneError, match="closed"):
        pool.acquire(LONG)
    runtime.gate.release(3)
    closing.join(LONG)
    assert not closing.is_alive()
    assert not runtime.alive
    assert len(runtime.torn_down) == 3
    pool.close()


def test_those_who_wait_are_told_when_it_is_closed(managed):
    runtime = Gated()
    pool = Pool(manager=managed(runtime), spec=SPEC, size=1)
    errors = []

    def take():
        try:
            pool.acquire(None)
        except SandboxGoneError as error:
            errors.append(error)

    waiting = threading.Thread(target=take)
    waiting.start()
    until(lambda: pool._keeper and pool._keeper._waiting)
    closing = threading.Thread(target=pool.close)
    closing.start()
    waiting.join(LONG)
    assert len(errors) == 1
    runtime.gate.release()
    closing.join(LONG)
    assert not closing.is_alive()


def test_a_pool_that_was_never_used_is_closed_as_well(managed):
    pool = Pool(manager=managed(FakeRuntime()), spec=SPEC, size=1)
    pool.close()
    with pytest.raises(SandboxGoneError):
        pool.start()


def test_a_removal_that_fails_is_told(managed, events):
    class Stuck(FakeRuntime):
        @hookimpl
        def openrt_teardown(self):
            raise ProvisionError("the engine does not answer")

    runtime = Stuck()
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        keeper = pool._keeper
        assert keeper is not None
        until(lambda: keeper._idle)
    exits.discard("fake", runtime.specs[0].id)
    assert "may be left behind: the engine does not answer" in events[-1].message


@pytest.mark.parametrize(
    "arguments",
    [{"size": 0}, {"size": True}, {"size": 1, "max_age": 0}, {"size": 1, "keep": True}],
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(SettingError):
        Pool(**arguments)


def test_a_limit_of_no_time_is_refused(managed):
    with pytest.raises(SettingError, match="timeout=0"):
        Pool(manager=managed(FakeRuntime()), spec=SPEC, size=1).acquire(timeout=0)


def test_settings_that_keep_sandboxes_do_not_keep_these(managed, monkeypatch):
    monkeypatch.setenv("SANDBOX_KEEP_RUNTIME_ALIVE", "true")
    runtime = FakeRuntime()
    with Pool(manager=managed(runtime), size=1, network="none") as pool:
        pool.acquire(LONG).close()
    assert {(spec.keep, spec.network) for spec in runtime.specs} == {(False, "none")}
    assert not runtime.alive


def test_making_keeps_to_the_limit_of_the_process(managed, monkeypatch):
    monkeypatch.setenv("OPENRT_MAX_PROVISIONING", "2")
    runtime = Gated()
    with Pool(manager=managed(runtime), spec=SPEC, size=6):
        until(lambda: len(runtime.begun) == 2)
        runtime.gate.release()
        until(lambda: len(runtime.begun) == 3)
        runtime.gate.release(5)
        until(lambda: len(runtime.alive) == 6)
    assert not runtime.alive


def test_a_pool_that_waits_for_its_turn_is_closed_at_once(managed, monkeypatch):
    monkeypatch.setenv("OPENRT_MAX_PROVISIONING", "1")
    runtime = FakeRuntime()
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with provisioning.place(1):
            entered.set()
            assert leave.wait(LONG)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(LONG)
    with Pool(manager=managed(runtime), spec=SPEC, size=3):
        reached(lambda: len(provisioning._waiting), 3)
    assert not provisioning._waiting
    leave.set()
    holder.join(LONG)
    assert not runtime.specs


def test_a_ctrl_c_while_waiting_leaves_the_queue(managed):
    runtime = Gated()
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        keeper = pool._keeper
        assert keeper is not None

        def interrupt():
            until(lambda: keeper._waiting)
            os.kill(os.getpid(), signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            pool.acquire(LONG)
        helper.join(LONG)
        until(lambda: not keeper._waiting)
        runtime.gate.release(2)
        pool.acquire(LONG).close()
    assert not runtime.alive


def test_async_code_has_the_same_pool(runtime, managed):
    async def main():
        async with AsyncPool(manager=managed(runtime), spec=SPEC, size=2) as pool:
            sandboxes = await asyncio.gather(*(pool.acquire(LONG) for _ in range(5)))
            assert len({sandbox.id for sandbox in sandboxes}) == 5
            for sandbox in sandboxes:
                async with sandbox:
                    assert (await sandbox.exec("true")).ok
        with pytest.raises(SandboxGoneError):
            await pool.acquire(LONG)
        await pool.close()

    asyncio.run(main())
    assert not runtime.alive


def test_an_acquire_that_is_cancelled_leaves_its_member_to_the_others(managed):
    runtime = FakeRuntime()

    async def main():
        async with AsyncPool(manager=managed(runtime), spec=SPEC, size=1) as pool:
            for turn in range(40):
                task = asyncio.create_task(pool.acquire(LONG))
                for _ in range(turn):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled():
                    await task.result().close()
            async with await pool.acquire(LONG):
                pass
            async with asyncio.timeout(LONG):
                while len(runtime.alive) != 1:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert not runtime.alive


def test_what_was_handed_out_at_the_moment_of_giving_up_comes_back(managed):
    runtime = FakeRuntime()
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        keeper = pool._keeper
        assert keeper is not None
        given = threading.Event()
        request = Request(given.set)
        keeper.ask(request)
        assert given.wait(LONG)
        until(lambda: len(runtime.alive) == 2)
        keeper.withdraw(request)
        until(lambda: len(runtime.alive) == 1)
        pool.acquire(LONG).close()
        late = Request(lambda: None)
        keeper.ask(late)
        until(lambda: late.member)
    assert late.member is not None
    assert runtime.alive == {late.member.handle.id}
    keeper.withdraw(late)
    until(lambda: not runtime.alive)


def test_async_acquire_has_its_time_limit(managed):
    async def main():
        runtime = Gated()
        async with AsyncPool(manager=managed(runtime), spec=SPEC, size=1) as pool:
            with pytest.raises(StartTimeoutError):
                await pool.acquire(timeout=0.1)
            runtime.gate.release()
        assert not runtime.alive

    asyncio.run(main())


# At the end of the process ------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, threading, time
from support.fake_runtime import SPEC, FakeRuntime
from openrt_core import Pool
from openrt_core.manager import Manager
from openrt_core.plugin import hookimpl

class Written(FakeRuntime):
    @hookimpl
    def openrt_provision(self, spec, attachments):
        os.write(1, f"made {spec.id}\\n".encode())
        return FakeRuntime.openrt_provision(self, spec, attachments)
    @hookimpl
    def openrt_teardown(self, handle):
        os.write(1, f"removed {handle.id}\\n".encode())
        return FakeRuntime.openrt_teardown(self, handle)

runtime = Written()
pool = Pool(manager=Manager("fake", runtime), spec=SPEC, size=4)
pool.start()
"""

ENDINGS = {
    "falls off the end": "while len(runtime.alive) < 4: time.sleep(0.01)",
    "at once": "",
    "raises": "pool.acquire(60); raise SystemExit(3)",
    "in use": "sandbox = pool.acquire(60)",
    "closed by an exit handler": "import atexit; pool.acquire(60); atexit.register(pool.close)",
    "ctrl-c": """
try:
    with pool:
        pool.acquire(60)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True: time.sleep(0.05)
except KeyboardInterrupt:
    assert not runtime.alive - {pool_id for pool_id in runtime.alive if pool_id in used}
""".replace("pool.acquire(60)", "used = {pool.acquire(60).id}"),
    "ctrl-c while it waits": """
try:
    with pool:
        for _ in range(50): pool.acquire(60)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True: pool.acquire(60).close()
except KeyboardInterrupt:
    pass
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_left_when_the_process_ends(ending):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM) + ENDINGS[ending]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(support.__path__[0])])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == (3 if ending == "raises" else 0), done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    made = {id for what, id in words if what == "made"}
    assert made or ending == "at once"
    assert made <= {id for what, id in words if what == "removed"}, done.stderr


def test_a_forked_child_cannot_use_it_and_does_not_hang(managed):
    runtime = FakeRuntime()
    with Pool(manager=managed(runtime), spec=SPEC, size=1) as pool:
        until(lambda: runtime.alive)
        pid = os.fork()
        if not pid:
            try:
                pool.acquire(LONG)
            except SettingError:
                pool.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        pool.acquire(LONG).close()


def test_back_off_grows_to_its_bound_with_jitter():
    lows, highs = Backoff(1.0, 8.0, lambda: 0.0), Backoff(1.0, 8.0, lambda: 1.0)
    for backoff, expected in ((lows, [0.5, 1, 2, 4, 4]), (highs, [1, 2, 4, 8, 8])):
        delays, now = [], 100.0
        for _ in expected:
            backoff.failed(now)
            backoff.failed(now)  # of the same round
            delays.append(backoff.until - now)
            now = backoff.until
        assert delays == expected
        backoff.succeeded()
        assert not backoff.failures
        backoff.failed(now)
        assert backoff.until - now == expected[0]
