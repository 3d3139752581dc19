# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import attrs
import pytest
from support.fake_runtime import SPEC, FakeRuntime, echo_input, hang, manage
from support.fake_wrappers import Denied, FailsBeforeTeardown
from support.polling import until

from openrt_core import AsyncSandbox, Sandbox, executors
from openrt_core.errors import CommandFailedError, CommandTimedOutError, SandboxGoneError
from openrt_core.models import Exit, OutputMode, SandboxHandle, SandboxStatus
from openrt_core.plugin import hookimpl
from openrt_core.process import STDOUT, Process

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def create(runtime, **fields):
    return AsyncSandbox.create(manager=manage(runtime), spec=attrs.evolve(SPEC, **fields))


async def soon(condition):
    """Waits until ``condition()`` is true."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_names_are_those_of_sandbox():
    def public(cls):
        return {n for n in dir(cls) if not n.startswith("_")}

    assert public(AsyncSandbox) == public(Sandbox)
    files = [
        type(cls(manage(), SandboxHandle(runtime="fake", id="x")).files)
        for cls in (Sandbox, AsyncSandbox)
    ]
    assert public(files[0]) == public(files[1])


def test_a_sandbox_from_start_to_end():
    async def main():
        runtime = FakeRuntime()
        async with await create(runtime) as sandbox:
            result = await sandbox.exec("true")
            assert runtime.alive == {"box"}
        assert result.stdout == b"out"
        assert not runtime.alive
        with pytest.raises(SandboxGoneError):
            await sandbox.exec("true")

    asyncio.run(main())


def test_a_kept_sandbox_lives_on_until_it_is_killed():
    async def main():
        runtime = FakeRuntime()
        async with await create(runtime, keep=True) as sandbox:
            pass
        assert runtime.alive
        assert await sandbox.kill()
        assert not await sandbox.kill()

    asyncio.run(main())


class Connectable(FakeRuntime):
    @hookimpl
    def openrt_connect(self, id):
        return SandboxHandle(runtime="fake", id=id)

    @hookimpl
    def openrt_status(self, handle):
        return SandboxStatus(state="running")


def test_joining_and_status():
    async def main():
        runtime = Connectable(alive={"old"})
        async with await AsyncSandbox.connect("old", manager=manage(runtime)) as sandbox:
            assert (await sandbox.status()).state == "running"
        assert runtime.alive == {"old"}

    asyncio.run(main())


def test_what_went_wrong_inside_is_seen_when_closing_fails_too():
    async def main():
        runtime = FakeRuntime()
        manager = manage(runtime, w=FailsBeforeTeardown())
        with pytest.raises(ZeroDivisionError) as caught:
            async with await AsyncSandbox.create(manager=manager, spec=SPEC):
                1 / 0  # noqa: B018
        assert "no teardown" in caught.value.__notes__[0]
        with pytest.raises(Denied):
            await (await AsyncSandbox.create(manager=manager, spec=SPEC)).close()
        assert not runtime.alive

    asyncio.run(main())


@attrs.define(eq=False)
class Remembers(FakeRuntime):
    seen: list[tuple[str, str, str]] = attrs.field(factory=list)

    @hookimpl
    def openrt_provision(self, spec):
        self._remember("provision")
        return SandboxHandle(runtime="fake", id=spec.id)

    @hookimpl
    def openrt_exec(self, process):
        self._remember("exec")
        process.exited(Exit(code=0))
        return process

    @hookimpl
    def openrt_teardown(self):
        self._remember("teardown")
        return True

    def _remember(self, hook):
        thread = threading.current_thread()
        self.seen.append((hook, VARIABLE.get(), thread.name.rpartition("_")[0]))


def test_hooks_run_on_executors_with_the_context_variables_and_teardown_has_one_of_its_own():
    async def main():
        VARIABLE.set("set")
        runtime = Remembers()
        async with await create(runtime) as sandbox:
            await sandbox.exec("true")
        assert runtime.seen == [
            ("provision", "set", "openrt-provision"),
            ("exec", "set", "openrt-call"),
            ("teardown", "set", "openrt-teardown"),
        ]

    asyncio.run(main())


@attrs.define(eq=False)
class SlowProvision(FakeRuntime):
    begun: threading.Event = attrs.field(factory=threading.Event)
    go_on: threading.Event = attrs.field(factory=threading.Event)

    @hookimpl
    def openrt_provision(self, spec):
        self.begun.set()
        assert self.go_on.wait(60)
        self.alive.add(spec.id)
        return SandboxHandle(runtime="fake", id=spec.id)


@pytest.mark.parametrize("keep", [False, True])
def test_a_create_that_returns_after_it_was_cancelled_is_torn_down(keep):
    async def main():
        runtime = SlowProvision()
        task = asyncio.create_task(create(runtime, keep=keep))
        await soon(runtime.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        runtime.go_on.set()
        await soon(lambda: runtime.torn_down)
        assert not runtime.alive

    asyncio.run(main())


def test_a_create_that_is_cancelled_before_it_begins_makes_nothing():
    async def main():
        runtime = SlowProvision()
        tasks = [asyncio.create_task(create(runtime, id=f"n{n}")) for n in range(100)]
        await soon(runtime.begun.is_set)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        runtime.go_on.set()
        await soon(lambda: runtime.torn_down and not runtime.alive)
        assert len(runtime.torn_down) < 100

    asyncio.run(main())


def test_a_create_that_returns_after_its_loop_was_closed_is_torn_down():
    runtime = SlowProvision()

    async def main():
        task = asyncio.create_task(create(runtime))
        await soon(runtime.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    runtime.go_on.set()
    until(lambda: runtime.torn_down)
    assert not runtime.alive


@attrs.define(eq=False)
class SlowCalls(FakeRuntime):
    """Each of these hooks waits; what began is written down."""

    begun: list[str] = attrs.field(factory=list)
    go_on: threading.Event = attrs.field(factory=threading.Event)
    error: Exception | None = None

    @hookimpl
    def openrt_connect(self, id):
        self._wait("connect")
        return SandboxHandle(runtime="fake", id=id)

    @hookimpl
    def openrt_disconnect(self):
        self.log.append("disconnect")
        return True

    @hookimpl
    def openrt_write_file(self, path, data):
        self._wait(path)
        return len(data)

    def _wait(self, what):
        self.begun.append(what)
        assert self.go_on.wait(60)
        if self.error is not None:
            raise self.error


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_connect_that_returns_after_it_was_cancelled_is_let_go():
    async def main():
        runtime = SlowCalls()
        task = asyncio.create_task(AsyncSandbox.connect("box", manager=manage(runtime)))
        await soon(lambda: runtime.begun)
        await cancelled(task)
        runtime.go_on.set()
        await soon(lambda: runtime.log)
        assert runtime.log == ["disconnect"]

    asyncio.run(main())


def test_a_call_that_is_cancelled_before_it_begins_does_not_begin():
    async def main():
        runtime = SlowCalls()
        async with await create(runtime) as sandbox:
            # One more than there are threads.
            busy = [asyncio.create_task(sandbox.files.write(f"/{n}", b"x")) for n in range(32)]
            await soon(lambda: len(runtime.begun) == 32)
            last = asyncio.create_task(sandbox.files.write("/last", b"x"))
            await asyncio.sleep(0)  # it is queued now
            await cancelled(last)
            runtime.go_on.set()
            await asyncio.gather(*busy)
            await sandbox.files.write("/after", b"x")
            assert "/last" not in runtime.begun

    asyncio.run(main())


def test_nobody_complains_of_the_error_of_a_call_that_was_cancelled():
    complaints: list[object] = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        runtime = SlowCalls(error=ValueError("late"))
        async with await create(runtime) as sandbox:
            task = asyncio.create_task(sandbox.files.write("/x", b"x"))
            await soon(lambda: runtime.begun)
            await cancelled(task)
            runtime.go_on.set()
        del task
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert complaints == []


def test_a_cancelled_exec_kills_the_command():
    async def main():
        runtime = FakeRuntime(script=hang)
        async with await create(runtime) as sandbox:
            task = asyncio.create_task(sandbox.exec("sleep 1000", timeout=None))
            await soon(lambda: runtime.controls)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # Cancelled before the loop has heard of the start, it is killed a moment later.
            (controls,) = runtime.controls
            await soon(controls.killed.is_set)
            await soon(lambda: controls.process.done)

    asyncio.run(main())


def test_an_exec_whose_coroutine_is_closed_kills_the_command():
    async def main():
        runtime = FakeRuntime(script=hang)
        sandbox = await create(runtime)
        coroutine = sandbox.exec("sleep 1000", timeout=None)
        started = coroutine.send(None)
        await soon(started.done)
        coroutine.send(None)
        coroutine.close()
        assert runtime.controls[0].killed.is_set()
        await sandbox.close()

    asyncio.run(main())


@attrs.define(eq=False)
class SlowExec(FakeRuntime):
    begun: threading.Event = attrs.field(factory=threading.Event)
    go_on: threading.Event = attrs.field(factory=threading.Event)

    @hookimpl
    def openrt_exec(self, handle, command, process):
        self.begun.set()
        assert self.go_on.wait(60)
        return FakeRuntime.openrt_exec(self, handle, command, process)


def test_an_exec_that_is_cancelled_while_it_starts_is_killed_once_it_has_started():
    async def main():
        runtime = SlowExec(script=hang)
        async with await create(runtime) as sandbox:
            task = asyncio.create_task(sandbox.exec("sleep 1000"))
            await soon(runtime.begun.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            runtime.go_on.set()
            await soon(lambda: runtime.controls and runtime.controls[0].killed.is_set())

    asyncio.run(main())


@attrs.define(eq=False)
class SlowTeardown(FakeRuntime):
    begun: threading.Event = attrs.field(factory=threading.Event)
    go_on: threading.Event = attrs.field(factory=threading.Event)

    @hookimpl
    def openrt_teardown(self, handle):
        self.begun.set()
        assert self.go_on.wait(60)
        self.alive.discard(handle.id)
        return True


def test_a_cancelled_close_goes_on_to_its_end():
    async def main():
        runtime = SlowTeardown()
        sandbox = await create(runtime)
        task = asyncio.create_task(sandbox.close())
        await soon(runtime.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        runtime.go_on.set()
        await soon(lambda: not runtime.alive)

    asyncio.run(main())


def test_slow_hooks_do_not_hold_up_teardown():
    async def main():
        slow, quick = SlowProvision(), FakeRuntime()
        sandbox = await create(quick)
        waiting = [asyncio.create_task(create(slow, id=f"n{n}")) for n in range(100)]
        await soon(slow.begun.is_set)
        async with asyncio.timeout(60):
            await sandbox.close()
        assert not quick.alive
        slow.go_on.set()
        for made in await asyncio.gather(*waiting):
            await made.kill()

    asyncio.run(main())


def test_errors_of_commands_are_those_of_sandbox():
    async def main():
        runtime = FakeRuntime(script=lambda p: p.exited(Exit(code=2)))
        async with await create(runtime) as sandbox:
            with pytest.raises(CommandFailedError):
                await sandbox.exec("false", check=True)
            runtime.script = lambda p: p.exited(Exit(signal=9, timed_out=True))
            with pytest.raises(CommandTimedOutError):
                await sandbox.exec("sleep 9")

    asyncio.run(main())


def test_input_is_sent_with_its_end():
    async def main():
        runtime = FakeRuntime(script=echo_input)
        async with await create(runtime) as sandbox:
            task = asyncio.create_task(sandbox.exec("cat", input="héllo"))
            await soon(lambda: runtime.controls and runtime.controls[0].eof.is_set())
            runtime.controls[0].process.exited(Exit(code=0))
            assert (await task).ok
            assert runtime.controls[0].written == "héllo".encode()

    asyncio.run(main())


def test_a_started_process_is_read_written_and_awaited():
    async def main():
        runtime = FakeRuntime(script=echo_input)
        async with await create(runtime) as sandbox:
            process = await sandbox.start("cat", stdin=True)
            await process.stdin.write_async(b"in")
            threading.Timer(0.05, process.feed, (STDOUT, b"x")).start()
            assert await process.stdout.read_async(10) == b"x"
            threading.Timer(0.05, process.exited, (Exit(code=4),)).start()
            assert (await process).exit_code == 4
            assert await process.stdout.read_async() == b""

    asyncio.run(main())


def test_a_thousand_processes_are_awaited_without_a_thread():
    async def main():
        runtime = FakeRuntime(script=hang)
        async with await create(runtime) as sandbox:
            processes = [
                await sandbox.start("sleep", output=OutputMode.CAPTURE) for _ in range(1000)
            ]
            before = threading.active_count()
            waiting = [asyncio.ensure_future(_result(p)) for p in processes]
            await asyncio.sleep(0)
            assert threading.active_count() <= before
            for process in processes:
                process.kill()
            assert {r.signal for r in await asyncio.gather(*waiting)} == {9}

    asyncio.run(main())


async def _result(process: Process):
    return await process


def test_files_are_awaited():
    class Files(FakeRuntime):
        @hookimpl
        def openrt_read_file(self, path):
            return path.encode()

    async def main():
        async with await create(Files(), workdir="/w") as sandbox:
            assert await sandbox.files.read_text("a") == "/w/a"

    asyncio.run(main())


def test_when_executors_take_nothing_more_the_hook_is_called_all_the_same(monkeypatch):
    def refuse(kind, function):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    async def main():
        runtime = FakeRuntime()
        sandbox = await create(runtime)
        monkeypatch.setattr(executors, "submit", refuse)
        await sandbox.close()
        assert not runtime.alive

    asyncio.run(main())
