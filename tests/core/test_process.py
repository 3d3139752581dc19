from __future__ import annotations

import asyncio
import threading
import tracemalloc

import pytest
from support.fake_runtime import FakeControls

from openrt_core import process as process_module
from openrt_core.capture import CaptureBudget
from openrt_core.errors import CommandTimedOutError, TransportError, UnsupportedError
from openrt_core.models import Command, Exit, OutputMode, TerminalSize, Usage
from openrt_core.process import STDERR, STDOUT, UNLIMITED, Controls, Process
from openrt_core.streams import STREAM_WINDOW


def make(**fields):
    return Process(Command(argv=("x",), **fields))


def attached(**fields):
    process = make(**fields)
    controls = FakeControls(process)
    process.attach(controls)
    return process, controls


def test_captured_output_is_in_the_result_both_streams_apart():
    process = make()
    for stream, data in ((STDOUT, b"a"), (STDERR, b"x"), (STDOUT, b"b")):
        process.feed(stream, data)
    usage = Usage(user=1, system=2, max_rss=3)
    process.exited(Exit(code=5, duration=1.5, usage=usage))
    result = process.wait()
    assert (result.stdout, result.stderr, result.exit_code) == (b"ab", b"x", 5)
    assert (result.duration, result.usage, result.signal) == (1.5, usage, None)


def test_a_signal_is_128_and_its_number():
    process = make()
    process.exited(Exit(signal=15))
    assert (process.wait().exit_code, process.wait().signal) == (143, 15)


def test_a_runtime_that_knows_no_duration_gets_the_client_s():
    process = make()
    process.exited(Exit(code=0))
    assert process.wait().duration > 0


def test_the_first_end_counts():
    process = make()
    process.exited(Exit(code=1))
    process.exited(Exit(code=2))
    process.failed(TransportError("late"))
    process.feed(STDOUT, b"late")
    assert (process.wait().exit_code, process.wait().stdout) == (1, b"")


def test_a_loss_is_raised_by_whoever_asks():
    process = make()
    process.failed(TransportError("lost"))
    for ask in (process.wait, process.result, process.poll):
        with pytest.raises(TransportError):
            ask()
    assert process.done


def test_the_time_limit_is_an_error_with_the_partial_result():
    process = make(timeout=2)
    process.feed(STDOUT, b"part")
    process.exited(Exit(signal=9, timed_out=True))
    with pytest.raises(CommandTimedOutError, match="2 s") as caught:
        process.wait()
    assert caught.value.result.stdout == b"part"
    assert caught.value.result.timed_out
    assert process.poll() == 137


def test_waiting_no_longer_than_asked_leaves_the_command_alone():
    process, controls = attached()
    with pytest.raises(TimeoutError):
        process.wait(0.05)
    assert not process.join(0)
    assert not controls.killed.is_set()
    assert process.poll() is None
    with pytest.raises(RuntimeError):
        process.result()
    process.kill()
    assert process.join(60)


def test_a_kill_before_the_controls_are_there_is_made_up_for():
    process = make()
    process.kill()
    controls = FakeControls(process)
    process.attach(controls)
    assert controls.killed.is_set()
    assert process.wait().signal == 9


def test_after_the_end_controls_are_not_asked_for_anything():
    process, controls = attached()
    process.exited(Exit(code=0))
    process.kill()
    process.signal(15)
    process.resize(TerminalSize())
    assert not controls.killed.is_set()


def test_what_a_runtime_cannot_is_unsupported():
    process, _ = attached()
    with pytest.raises(UnsupportedError):
        process.signal(15)
    with pytest.raises(UnsupportedError):
        process.resize(TerminalSize())
    with pytest.raises(NotImplementedError):
        Controls().kill()


def test_done_callbacks_run_before_wait_returns_and_know_the_result():
    process = make()
    order: list[object] = []

    def slow(done):
        threading.Event().wait(0.1)
        order.append(("callback", done.result().exit_code, done.done))

    process.add_done_callback(slow)
    waiter = threading.Thread(target=lambda: order.append(("wait", process.wait(60).exit_code)))
    waiter.start()
    process.exited(Exit(code=3))
    waiter.join(60)
    assert order == [("callback", 3, True), ("wait", 3)]


def test_what_is_done_has_its_result():
    for _ in range(30):
        process = make()
        failures: list[Exception] = []
        for _ in range(4):
            process.feed(STDOUT, bytes(50_000))

        def look(process=process, failures=failures):
            while not process.done:
                pass
            try:
                process.result()
            except RuntimeError as error:
                failures.append(error)

        looker = threading.Thread(target=look)
        looker.start()
        process.exited(Exit(code=0))
        looker.join(60)
        assert not failures


def test_a_callback_after_the_end_is_called_at_once():
    process = make()
    called: list[Process] = []
    process.exited(Exit(code=0))
    process.add_done_callback(called.append)
    assert called == [process]


def test_a_callback_that_fails_is_logged_and_stops_nobody(caplog):
    process = make()
    called: list[Process] = []
    process.add_done_callback(lambda _: 1 / 0)
    process.add_done_callback(called.append)
    process.exited(Exit(code=0))
    assert process.wait().ok
    assert called == [process]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()]
)
def test_a_callback_cannot_end_the_thread_that_it_is_called_in(error, caplog):
    def fail(_):
        raise error

    process = make()
    called: list[object] = []
    process.add_done_callback(fail)
    process.add_done_callback(called.append)

    def read():
        process.exited(Exit(code=0))
        called.append("the thread goes on")

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(60)
    assert called == [process, "the thread goes on"]
    assert type(error).__name__ in caplog.text


def test_a_ctrl_c_in_a_callback_reaches_the_main_thread():
    def fail(_):
        raise KeyboardInterrupt

    process = make()
    process.add_done_callback(fail)
    with pytest.raises(KeyboardInterrupt):
        process.exited(Exit(code=0))
    assert process.wait(60).ok


def test_a_callback_may_wait_for_what_has_ended():
    process = make()
    got: list[object] = []
    process.add_done_callback(lambda done: got.extend((done.wait().exit_code, done.join(1))))
    thread = threading.Thread(target=lambda: process.exited(Exit(code=4)), daemon=True)
    thread.start()
    thread.join(60)
    assert got == [4, True]
    assert process.wait(60).exit_code == 4


def test_awaiting_with_a_limit_again_and_again_leaves_nothing_behind():
    process = make()

    async def wait():
        await process

    async def main():
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.01)
        assert process._callbacks == []

    asyncio.run(main())


def test_streamed_output_is_read_and_credited():
    process, controls = attached(output=OutputMode.STREAM)
    assert process.window == STREAM_WINDOW
    process.feed(STDOUT, b"out")
    process.feed(STDERR, b"err")
    assert (process.stdout.read(2), process.stderr.read(9)) == (b"ou", b"err")
    assert controls.credits == [(STDOUT, 2), (STDERR, 3)]
    process.exited(Exit(code=0))
    assert process.stdout.read() == b"t"
    assert controls.credits[2:] == []
    assert process.wait().stdout == b""


@pytest.mark.parametrize("mode", [OutputMode.CAPTURE, OutputMode.DISCARD])
def test_output_that_is_not_streamed_has_no_readers_and_is_never_held_up(mode):
    process = make(output=mode)
    assert process.window == UNLIMITED
    assert process.stdout is None
    assert process.stderr is None


def test_discarded_output_is_not_kept():
    process = make(output=OutputMode.DISCARD)
    process.feed(STDOUT, b"x")
    process.exited(Exit(code=0))
    assert process.wait().stdout == b""


def test_the_budget_is_given_back_at_the_end():
    budget = CaptureBudget(100)
    process = Process(Command(argv=("x",)), budget)
    process.feed(STDOUT, bytes(80))
    process.feed(STDERR, bytes(80))
    process.exited(Exit(code=0))
    result = process.wait()
    assert (len(result.stdout), len(result.stderr), result.stderr_dropped) == (80, 20, 60)
    assert budget.take(1000) == 100


def test_input_goes_to_the_controls_as_they_take_it():
    process, controls = attached(stdin=True)
    process.add_stdin_credit(2)
    process.feed_input(b"abc")
    assert (bytes(controls.written), controls.eof.is_set()) == (b"ab", False)
    process.add_stdin_credit(1)
    assert (bytes(controls.written), controls.eof.is_set()) == (b"abc", True)


def test_input_that_ends_before_the_controls_are_there_is_made_up_for():
    process = make(stdin=True)
    process.feed_input(b"")
    controls = FakeControls(process)
    process.attach(controls)
    assert controls.eof.is_set()


def test_input_for_a_command_without_stdin_is_an_error():
    process = make()
    assert process.stdin is None
    process.add_stdin_credit(5)
    with pytest.raises(ValueError, match="stdin=True"):
        process.feed_input(b"x")


@pytest.mark.parametrize(("pid", "told"), [(None, True), (7, True), (None, False)])
def test_a_sandbox_that_does_not_answer_is_given_up_after_the_limit(monkeypatch, pid, told):
    monkeypatch.setattr(process_module, "CLIENT_GRACE", 0.01)

    class Deaf(Controls):
        killed = False

        def kill(self):
            self.killed = True

    process, controls = make(timeout=0.01), Deaf()
    process.attach(controls)
    if told:
        process.started(pid)
    process.arm()
    with pytest.raises(TransportError, match="did not answer") as caught:
        process.wait(60)
    assert caught.value.started == ("yes" if told else "unknown")
    assert controls.killed


def test_without_a_limit_there_is_no_guard():
    process = make()
    process.arm()
    assert process._deadline is None


def test_awaiting_a_process():
    async def main():
        process = make()
        threading.Timer(0.05, process.exited, (Exit(code=4),)).start()
        assert (await process).exit_code == 4
        assert (await process).exit_code == 4
        lost = make()
        threading.Timer(0.05, lost.failed, (TransportError("lost"),)).start()
        with pytest.raises(TransportError):
            await lost

    asyncio.run(main())


def test_many_can_wait_for_one_process():
    process, results = make(), []
    waiters = [threading.Thread(target=lambda: results.append(process.wait(60))) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    process.exited(Exit(code=4))
    for waiter in waiters:
        waiter.join(60)
    assert [r.exit_code for r in results] == [4] * 5


def test_a_thousand_waiting_processes_take_less_than_100_kb_each():
    async def main():
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            processes = [attached(timeout=1000)[0] for _ in range(1000)]
            for process in processes:
                process.arm()
                process.feed(STDOUT, b"a line\n")
            waiting = [asyncio.ensure_future(_result(process)) for process in processes]
            await asyncio.sleep(0)
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (now - before) / 1000 < 100_000
        for process in processes:
            process.kill()
        await asyncio.gather(*waiting)

    asyncio.run(main())


async def _result(process):
    return await process
