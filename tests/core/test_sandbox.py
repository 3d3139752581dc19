# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import attrs
import pytest
from support.fake_runtime import SPEC, FakeRuntime, echo_input, hang, manage
from support.fake_wrappers import Denied, FailsBeforeTeardown

from openrt_core import Sandbox
from openrt_core.errors import (
    CommandFailedError,
    CommandTimedOutError,
    SandboxGoneError,
    SettingError,
    UnsupportedError,
)
from openrt_core.models import Exit, Mount, OutputMode, SandboxHandle, SandboxStatus, TerminalSize
from openrt_core.plugin import hookimpl
from openrt_core.process import STDERR, STDOUT


def create(runtime, **fields):
    return Sandbox.create(manager=manage(runtime), spec=attrs.evolve(SPEC, **fields))


def exits_with(**exit):
    def script(process):
        process.feed(STDOUT, b"some ")
        process.feed(STDERR, b"trouble")
        process.exited(Exit(**exit))

    return script


def test_leaving_the_context_tears_down():
    runtime = FakeRuntime()
    with create(runtime) as sandbox:
        assert runtime.alive == {sandbox.id}
    assert not runtime.alive
    assert sandbox.closed


def test_leaving_the_context_of_a_kept_sandbox_lets_it_live():
    runtime = FakeRuntime()
    with create(runtime, keep=True) as sandbox:
        pass
    assert runtime.alive == {"box"}
    assert sandbox.kill()
    assert not runtime.alive


def test_close_is_idempotent():
    runtime = FakeRuntime()
    sandbox = create(runtime)
    sandbox.close()
    sandbox.close()
    assert runtime.log.count("teardown") == 1


def test_kill_says_whether_it_was_there():
    sandbox = create(FakeRuntime())
    assert [sandbox.kill(), sandbox.kill()] == [True, False]


def test_a_closed_sandbox_runs_nothing_more():
    sandbox = create(FakeRuntime())
    sandbox.close()
    with pytest.raises(SandboxGoneError, match="closed here"):
        sandbox.exec("true")
    with pytest.raises(SandboxGoneError, match="closed here"):
        sandbox.files.read("/a")


def test_what_went_wrong_inside_is_seen_when_closing_fails_too():
    runtime = FakeRuntime()
    sandbox = Sandbox.create(manager=manage(runtime, w=FailsBeforeTeardown()), spec=SPEC)
    with pytest.raises(ZeroDivisionError) as caught, sandbox:
        1 / 0  # noqa: B018
    assert "no teardown" in caught.value.__notes__[0]
    assert not runtime.alive


def test_when_only_closing_fails_that_is_seen():
    sandbox = Sandbox.create(manager=manage(w=FailsBeforeTeardown()), spec=SPEC)
    with pytest.raises(Denied), sandbox:
        pass


# Arguments ----------------------------------------------------------------------------------------


def test_arguments_go_over_settings(monkeypatch):
    monkeypatch.setenv("SANDBOX_VOLUMES", "/from/settings:/a")
    monkeypatch.setenv("SANDBOX_ENV_A", "settings")
    runtime = FakeRuntime()
    Sandbox.create(manager=manage(runtime)).close()
    Sandbox.create(
        manager=manage(runtime), volumes="/from/argument:/b:ro", env={"A": "argument"}, network=None
    ).close()
    first, second = runtime.specs
    assert first.mounts == (Mount("/from/settings", "/a"),)
    assert second.mounts == (Mount("/from/argument", "/b", "ro"),)
    assert (first.env["A"], second.env["A"]) == ("settings", "argument")


def test_a_spec_leaves_no_room_for_arguments():
    with pytest.raises(SettingError, match="image, network"):
        Sandbox.create(manager=manage(), spec=SPEC, network="none", image="i")


def test_each_sandbox_has_an_id_of_its_own():
    manager = manage()
    ids = set()
    for _ in range(3):
        with Sandbox.create(manager=manager) as sandbox:
            ids.add(sandbox.id)
    assert len(ids) == 3


def test_a_text_is_for_the_shell_and_a_sequence_is_the_argv():
    runtime = FakeRuntime()
    with create(runtime) as sandbox:
        sandbox.exec("echo $A")
        sandbox.exec(["echo", "$A"])
    assert [c.argv for c in runtime.commands] == [("/bin/sh", "-c", "echo $A"), ("echo", "$A")]


@pytest.mark.parametrize("command", [b"true", None, {"a": 1}, 3])
def test_what_is_neither_is_refused(command):
    with create(FakeRuntime()) as sandbox, pytest.raises(SettingError):
        sandbox.exec(command)


def test_an_unknown_argument_is_a_type_error():
    with create(FakeRuntime()) as sandbox, pytest.raises(TypeError, match="tiemout"):
        sandbox.exec("true", tiemout=3)


@pytest.mark.parametrize(
    ("cwd", "full"), [(None, "/w"), ("sub", "/w/sub"), ("/abs/", "/abs"), ("/", "/"), ("", "/w")]
)
def test_a_folder_is_absolute_or_relative_to_the_working_folder(cwd, full):
    runtime = FakeRuntime()
    with create(runtime, workdir="/w") as sandbox:
        sandbox.exec("true", cwd=cwd)
    assert runtime.commands[0].cwd == full


def test_the_time_limit_is_that_of_the_settings_unless_it_is_given(monkeypatch):
    runtime = FakeRuntime()
    with create(runtime) as sandbox:
        sandbox.exec("true")
        sandbox.exec("true", timeout=3)
        sandbox.exec("true", timeout=None)
    monkeypatch.setenv("SANDBOX_TIMEOUT", "7")
    with create(runtime) as sandbox:
        sandbox.start("true", grace=2.0)
    assert [c.timeout for c in runtime.commands] == [120, 3, None, 7]
    assert runtime.commands[-1].grace == 2


def test_start_streams_by_default_and_exec_captures():
    runtime = FakeRuntime()
    with create(runtime) as sandbox:
        assert sandbox.start("true", tty=TerminalSize(3, 4)).stdout.read() == b"out"
        sandbox.exec("true", merge_stderr=True)
    first, second = runtime.commands
    assert (first.output, first.tty) == (OutputMode.STREAM, TerminalSize(3, 4))
    assert (second.output, second.merge_stderr) == (OutputMode.CAPTURE, True)


# Running ------------------------------------------------------------------------------------------


def test_exec_gives_status_and_both_streams():
    with create(FakeRuntime(script=exits_with(code=3))) as sandbox:
        result = sandbox.exec("false")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"some ", b"trouble")
    assert not result.ok


def test_check_makes_another_status_than_0_an_error_with_the_result():
    with (
        create(FakeRuntime(script=exits_with(code=3))) as sandbox,
        pytest.raises(CommandFailedError, match="with status 3") as caught,
    ):
        sandbox.exec("false", check=True)
    assert caught.value.result.stderr == b"trouble"


def test_check_tells_the_signal():
    with (
        create(FakeRuntime(script=exits_with(signal=11))) as sandbox,
        pytest.raises(CommandFailedError, match="by signal 11"),
    ):
        sandbox.exec("false", check=True)


def test_the_time_limit_is_an_error_with_what_was_printed():
    with (
        create(FakeRuntime(script=exits_with(signal=9, timed_out=True))) as sandbox,
        pytest.raises(CommandTimedOutError) as caught,
    ):
        sandbox.exec("sleep 9", timeout=1)
    assert caught.value.result.stdout == b"some "
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("given", ["héllo", "héllo".encode(), ""])
def test_input_is_sent_with_its_end_without_a_thread(given):
    def script(process):
        echo_input(process)
        threads.append(threading.active_count())
        process.add_stdin_credit(1)
        ending = threading.Timer(0.05, lambda: process.exited(Exit(code=0)))
        ending.start()

    threads = [threading.active_count() + 1]  # one guards time limits
    runtime = FakeRuntime(script=script)
    with create(runtime) as sandbox:
        sandbox.exec("cat", input=given)
    assert threads[1] <= threads[0]
    (controls,) = runtime.controls
    assert bytes(controls.written) == (given if isinstance(given, bytes) else given.encode())
    assert controls.eof.is_set()


def test_a_command_that_ends_without_reading_its_input_is_no_error():
    with create(FakeRuntime()) as sandbox:
        assert sandbox.exec("true", input="much").ok


def test_ctrl_c_in_exec_kills_the_command():
    def script(process):
        hang(process)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    runtime = FakeRuntime(script=script)
    with create(runtime) as sandbox:
        with pytest.raises(KeyboardInterrupt):
            sandbox.exec("sleep 1000", timeout=None)
        (controls,) = runtime.controls
        assert controls.killed.is_set()
        assert controls.process.done


# The rest of the façade ---------------------------------------------------------------------------


class Connectable(FakeRuntime):
    @hookimpl
    def openrt_connect(self, id):
        if id not in self.alive:
            raise SandboxGoneError("none")
        return SandboxHandle(runtime="fake", id=id, workdir="/there")

    @hookimpl
    def openrt_status(self, handle):
        return SandboxStatus(state="running" if handle.id in self.alive else "gone")


def test_a_sandbox_that_was_joined_lives_on_when_it_is_closed_and_not_when_it_is_killed():
    runtime = Connectable(alive={"old"})
    with Sandbox.connect("old", manager=manage(runtime)) as sandbox:
        assert (sandbox.id, sandbox.workdir) == ("old", "/there")
        assert sandbox.status().state == "running"
    assert runtime.alive == {"old"}
    sandbox.kill()
    assert sandbox.status().state == "gone"


def test_joining_what_is_gone_tears_nothing_down():
    runtime = Connectable()
    with pytest.raises(SandboxGoneError):
        Sandbox.connect("old", manager=manage(runtime))
    assert runtime.log == []


def test_joining_is_unsupported_where_the_runtime_cannot():
    with pytest.raises(UnsupportedError, match="no connect"):
        Sandbox.connect("old", manager=manage())


def test_a_sandbox_shows_itself_without_its_secrets():
    sandbox = create(FakeRuntime(), secrets={"TOKEN": "hunter2"})
    assert repr(sandbox) == "<Sandbox fake:box>"
    sandbox.close()
    assert repr(sandbox) == "<Sandbox fake:box closed>"


def test_captured_output_of_one_sandbox_is_bounded_together():
    def script(process):
        hang(process)
        for _ in range(2):
            process.feed(STDOUT, b"x" * (5 << 20))

    with create(FakeRuntime(script=script)) as sandbox:
        running = [sandbox.start("yes", output=OutputMode.CAPTURE) for _ in range(8)]
        for process in running:
            process.kill()
        kept = sum(len(process.wait(60).stdout) for process in running)
    assert kept <= 64 << 20


# The end of the interpreter -----------------------------------------------------------------------

PROGRAM = """
import os, sys, asyncio
sys.path.insert(0, {tests!r})
from support.fake_runtime import SPEC, FakeRuntime, manage
from openrt_core import Sandbox, AsyncSandbox
from openrt_core.plugin import hookimpl
import attrs

class Tells(FakeRuntime):
    @hookimpl
    def openrt_teardown(self, handle):
        print("removed", handle.id, dict(handle.native), flush=True)
        return True

class Wrapper:
    @hookimpl(wrapper=True)
    def openrt_teardown(self):
        print("wrapped", flush=True)
        return (yield)

class Broken(FakeRuntime):
    @hookimpl
    def openrt_teardown(self, handle):
        raise RuntimeError("engine gone")

def spec(id, **fields):
    return attrs.evolve(SPEC, id=id, **fields)

manager = manage(Tells(), w=Wrapper())
"""


def run_program(text):
    program = PROGRAM.format(tests=os.path.dirname(os.path.dirname(__file__))) + text
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )


def test_at_exit_an_open_sandbox_is_removed_by_the_bare_hook():
    done = run_program("box = Sandbox.create(manager=manager, spec=spec('forgotten'))")
    assert done.stdout == "removed forgotten {'full': True}\n", done.stderr


def test_at_exit_kept_and_closed_sandboxes_are_left_alone():
    done = run_program(
        "Sandbox.create(manager=manager, spec=spec('kept', keep=True))\n"
        "Sandbox.create(manager=manager, spec=spec('closed')).close()\n"
        "print('end')"
    )
    assert done.stdout.splitlines() == ["wrapped", "removed closed {'full': True}", "end"]


def test_at_exit_one_removal_that_fails_is_told_and_does_not_stop_the_others():
    done = run_program(
        "Sandbox.create(manager=manager, spec=spec('first'))\n"
        "Sandbox.create(manager=manage(Broken()), spec=spec('second'))"
    )
    assert "removed first" in done.stdout
    assert "sandbox second of the runtime fake may be left behind: engine gone" in done.stderr


def test_at_exit_after_an_error_an_open_sandbox_is_removed():
    done = run_program("Sandbox.create(manager=manager, spec=spec('open'))\nraise SystemExit(3)")
    assert (done.returncode, done.stdout) == (3, "removed open {'full': True}\n")


def test_at_exit_a_forked_child_does_not_remove_what_its_parent_has_open():
    done = run_program(
        "Sandbox.create(manager=manager, spec=spec('parents'))\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0); print('child ended', flush=True)\n"
    )
    assert done.stdout.splitlines() == ["child ended", "removed parents {'full': True}"]


def test_at_exit_an_async_sandbox_that_nobody_closed_is_removed():
    done = run_program(
        "async def main():\n"
        "    await AsyncSandbox.create(manager=manager, spec=spec('async'))\n"
        "asyncio.run(main())"
    )
    assert done.stdout == "removed async {'full': True}\n", done.stderr
