"""The command line as a program of its own, on each runtime, with a real terminal where it has
one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.terminals import DEADLINE, OnTerminal

OPENRT = (sys.executable, "-m", "openrt_core.cli")


@pytest.fixture
def openrt(runtime, tmp_path):
    """``openrt(word, …)``: its exit code, output and messages."""

    def call(*arguments, input=b""):
        done = subprocess.run(
            [*OPENRT, *arguments],
            input=input,
            capture_output=True,
            env=environ(runtime),
            cwd=tmp_path,
            timeout=DEADLINE * 2,
        )
        return done.returncode, done.stdout, done.stderr.decode()

    return call


def environ(runtime):
    image = {"SANDBOX_RUNTIME_CONTAINER_IMAGE": runtime.image} if runtime.image else {}
    return {**os.environ, "RUNTIME": runtime.name, "TERM": "vt220", **image}


@pytest.fixture
def on_terminal(runtime, offered, tmp_path):
    offered("tty")

    def start(*arguments, **size):
        return OnTerminal([*OPENRT, *arguments], env=environ(runtime), cwd=tmp_path, **size)

    return start


def test_run_gives_output_and_exit_code(openrt):
    code, out, err = openrt("run", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, out.splitlines()[0]) == (3, b"out")
    assert "err" in (out.decode() + err)


def test_run_has_a_terminal_like_ours(on_terminal):
    with on_terminal("run", "-it", "--", "sh", "-c", "tty; stty size; echo $TERM") as terminal:
        terminal.expect(b"/dev/pts/")
        terminal.expect(b"31 97\r\n")
        terminal.expect(b"vt220\r\n")
        assert terminal.ended() == 0
        assert terminal.modes() == terminal.before


def test_a_change_of_the_size_reaches_the_command(on_terminal):
    script = 'echo ready; until [ "$(stty size)" = "40 120" ]; do sleep 1; done; echo resized'
    with on_terminal("run", "-it", "--", "sh", "-c", script) as terminal:
        terminal.expect(b"ready\r\n")
        terminal.resize(40, 120)
        terminal.expect(b"resized\r\n")
        assert terminal.ended() == 0


def test_ctrl_c_is_for_the_command(on_terminal):
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 1; done"
    with on_terminal("run", "-it", "--", "sh", "-c", script) as terminal:
        terminal.expect(b"ready\r\n")
        terminal.send(b"\x03")
        terminal.expect(b"caught\r\n")
        assert terminal.ended() == 9
        assert terminal.modes() == terminal.before


def test_a_shell_has_job_control(on_terminal):
    with on_terminal("shell") as terminal:
        # The quotes keep the echo of what is typed from being taken for the answer.
        terminal.send(b"case $- in *m*) echo mon''itor;; esac\r")
        said = terminal.expect(b"monitor\r\n")
        terminal.send(b"sh -c 'echo star\"\"ted; exec sleep 1000'\r")
        said += terminal.expect(b"started\r\n")
        terminal.send(b"\x1a")
        said += terminal.expect(b"Stopped")
        terminal.send(b"kill -9 %1; fg\rexit 4\r")
        assert terminal.ended() == 4
        assert terminal.modes() == terminal.before
        said += terminal.output
        assert b"job control" not in said
        assert b"tty" not in said


def test_the_end_of_input_ends_a_shell(on_terminal):
    with on_terminal("shell") as terminal:
        terminal.send(b"echo rea''dy\r")
        terminal.expect(b"ready\r\n")
        terminal.send(b"\x04")
        assert terminal.ended() == 0


def test_a_shell_reads_commands_from_stdin(openrt, offered):
    offered("stdin")
    code, out, _ = openrt("shell", input=b"echo one\necho $((1 + 1))\nexit 5\n")
    assert (code, out) == (5, b"one\n2\n")


def test_exec_runs_in_a_sandbox_of_another_process(openrt, shared):
    shared.files.write("/tmp/known", b"to both")
    code, out, err = openrt("exec", shared.id, "--", "sh", "-c", "cat /tmp/known; exit 6")
    assert (code, out, err) == (6, b"to both", "")
    assert shared.exec(["true"]).ok


def test_exec_has_a_terminal(on_terminal, shared):
    with on_terminal("exec", "-it", shared.id, "--", "sh", "-c", "stty size; read x") as terminal:
        terminal.expect(b"31 97\r\n")
        terminal.send(b"\r")
        assert terminal.ended() == 0


def test_exec_in_a_sandbox_that_is_not_there(openrt):
    code, out, err = openrt("exec", "nobody-made-this", "--", "true")
    assert (code, out) == (125, b"")
    assert err.startswith("openrt: ")
    assert "nobody-made-this" in err
    assert err.count("\n") == 1


def test_rm_removes_the_sandbox_of_another_process(openrt, runtime):
    with runtime.create() as sandbox:
        assert openrt("rm", sandbox.id) == (0, sandbox.id.encode() + b"\n", "")
        code, out, err = openrt("rm", sandbox.id)
        assert (code, out) == (1, b"")
        assert f"has no sandbox {sandbox.id}." in err


def test_doctor_finds_nothing_wrong(openrt, runtime):
    code, out, _ = openrt("doctor", "--json", runtime.name)
    (report,) = json.loads(out)
    assert (code, report["ok"], report["selected"]) == (0, True, True), report
    steps = [step["name"] for step in report["steps"]]
    assert steps == ["load", "preflight", "provision", "command", "teardown"]
