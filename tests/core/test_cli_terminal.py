"""``openrt run -it`` on a real terminal of ours, with a scripted runtime."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from support.command_line import DEADLINE, Program
from support.polling import until
from support.terminals import OnTerminal

OPENRT = (sys.executable, "-m", "openrt_core.cli")


@pytest.fixture
def openrt(tmp_path):
    return Program(tmp_path)


def on_terminal(openrt, *arguments, environ=None, **options):
    env = {**openrt.environ, **(environ or {})}
    return OnTerminal([*OPENRT, *arguments], env=env, cwd=openrt.folder, **options)


def test_bytes_go_both_ways_as_they_are(openrt):
    keys = bytes(b for b in range(1, 256) if b != ord("q"))
    with on_terminal(openrt, "run", "-it", "--", "terminal") as terminal:
        terminal.expect(b"started 31 97\n")  # no carriage return was added
        assert terminal.raw
        terminal.send(keys)
        assert terminal.expect(keys) == b""
        terminal.send(b"q")
        assert terminal.ended() == 7
        assert terminal.modes() == terminal.before
    assert openrt.left() == 0


def test_the_size_and_its_changes_reach_the_command(openrt):
    with on_terminal(openrt, "run", "-it", "--", "terminal") as terminal:
        terminal.expect(b"started 31 97\n")
        terminal.resize(40, 120)
        terminal.expect(b"size 40 120\n")
        terminal.send(b"q")
        assert terminal.ended() == 7


def test_a_terminal_that_knows_no_size(openrt):
    with on_terminal(openrt, "run", "-it", "--", "terminal", rows=0, columns=0) as terminal:
        terminal.expect(b"started 24 80\n")
        terminal.send(b"q")
        assert terminal.ended() == 7


def test_term_is_passed_on_unless_it_is_given(openrt):
    environ = {"TERM": "vt220"}
    with on_terminal(openrt, "run", "-it", "--", "ends", "well", environ=environ) as terminal:
        assert terminal.ended() == 3
    assert "('TERM', 'vt220')" in openrt.logged()
    given = ["-e", "TERM=dumb"]
    with on_terminal(openrt, "run", *given, "-it", "ends", "well", environ=environ) as terminal:
        assert terminal.ended() == 3
    assert "('TERM', 'dumb')" in openrt.logged()
    assert openrt("run", "--", "exit", "0", environ=environ)[0] == 0
    assert openrt.logged().count("'TERM'") == 2


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("well", 3, b""),
        ("late", 124, b"openrt: The command was killed at its time limit"),
        ("lost", 125, b"openrt: The sandbox is gone."),
    ],
)
def test_the_terminal_is_given_back_however_the_command_ends(openrt, how, code, told):
    arguments = ["run", "--timeout", "9", "-it", "--", "ends", how]
    with on_terminal(openrt, *arguments) as terminal:
        assert terminal.ended() == code
        assert told in terminal.output
        assert terminal.modes() == terminal.before
    assert openrt.left() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_the_terminal_is_given_back_after_a_signal(openrt, number, code):
    with on_terminal(openrt, "run", "-it", "--", "terminal") as terminal:
        terminal.expect(b"started")
        assert terminal.raw
        terminal.signal(number)
        assert terminal.ended() == code
        assert terminal.modes() == terminal.before
    assert openrt.left() == 0


def test_the_terminal_is_given_back_after_a_bug_of_ours(openrt):
    with on_terminal(openrt, "run", "-it", "--", "terminal", "crash") as terminal:
        terminal.expect(b"started")
        terminal.resize(40, 120)
        assert terminal.ended() == 125
        assert b"\nopenrt: ZeroDivisionError: a bug in resize." in terminal.output
        assert terminal.modes() == terminal.before
    assert openrt.left() == 0


def test_ctrl_c_while_the_sandbox_is_made(openrt):
    with on_terminal(openrt, "run", "--image", "slow", "-it", "--", "terminal") as terminal:
        openrt.wait_for("provision")
        terminal.send(b"\x03")
        assert terminal.ended() == 130
        assert terminal.modes() == terminal.before
    assert openrt.left() == 0


def test_ctrl_c_while_the_sandbox_is_removed(openrt, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    environ = {"FAKE_HOLD": str(hold)}
    with on_terminal(openrt, "run", "-it", "--", "terminal", environ=environ) as terminal:
        terminal.expect(b"started")
        terminal.send(b"q")
        openrt.wait_for("teardown began")
        assert terminal.modes() == terminal.before
        terminal.send(b"\x03")
        terminal.expect(b"^C")
        hold.unlink()
        assert terminal.ended() in (7, 130)
    assert openrt.left() == 0


def test_a_terminal_that_is_closed_ends_the_command(openrt):
    with on_terminal(openrt, "run", "-it", "--", "terminal") as terminal:
        terminal.expect(b"started")
        terminal.hang_up()
        assert terminal.ended() == 129
    assert openrt.left() == 0


def test_what_is_typed_after_the_end_is_left_for_the_shell(openrt, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    environ = {"FAKE_HOLD": str(hold)}
    script = f'{sys.executable} -m openrt_core.cli run -it -- terminal; read line; echo "<$line>"'
    env = {**openrt.environ, **environ}
    with OnTerminal(["/bin/sh", "-c", script], env=env, cwd=openrt.folder) as terminal:
        terminal.expect(b"started")
        terminal.send(b"q")
        openrt.wait_for("teardown began")
        terminal.send(b"next\r")
        terminal.expect(b"next\r\n")  # the echo of a terminal that was given back
        hold.unlink()
        terminal.expect(b"<next>")
        assert terminal.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_stopped_from_outside_and_going_on(openrt, number):
    with on_terminal(openrt, "run", "-it", "--", "terminal") as terminal:
        terminal.expect(b"started")
        terminal.signal(number)
        assert terminal.stopped() == number
        if number == signal.SIGTSTP:
            assert terminal.modes() == terminal.before
        else:  # nobody can give anything back then: shells do it themselves
            assert terminal.raw
        terminal.resize(50, 150)
        terminal.go_on()
        terminal.expect(b"size 50 150\n")
        until(lambda: terminal.raw)
        terminal.send(b"q")
        assert terminal.ended() == 7
        assert terminal.modes() == terminal.before


def test_in_the_background_it_is_stopped(openrt):
    with on_terminal(openrt, "run", "-it", "--", "terminal", foreground=False) as terminal:
        assert terminal.stopped() == signal.SIGTTOU
        assert terminal.modes() == terminal.before
        terminal.go_on(foreground=False)
        assert terminal.stopped() == signal.SIGTTOU
        terminal.go_on()
        until(lambda: terminal.raw)
        terminal.send(b"q")
        assert terminal.ended() == 7
        assert terminal.modes() == terminal.before


def test_a_stopped_one_can_be_ended(openrt):
    with on_terminal(openrt, "run", "-it", "--", "terminal") as terminal:
        terminal.expect(b"started")
        terminal.signal(signal.SIGTSTP)
        assert terminal.stopped() == signal.SIGTSTP
        terminal.send(b"for the shell\r")  # reading it in the background would stop it again
        terminal.signal(signal.SIGTERM)
        terminal.go_on(foreground=False)
        assert terminal.ended() == 143
        assert terminal.modes() == terminal.before
    assert openrt.left() == 0


def test_without_i_the_keys_stay_ours(openrt):
    with on_terminal(openrt, "run", "-t", "--", "terminal") as terminal:
        terminal.expect(b"started 31 97\r\n")
        assert terminal.modes() == terminal.before
        terminal.resize(40, 120)
        terminal.expect(b"size 40 120\r\n")
        terminal.send(b"\x03")
        assert terminal.ended() == 130
    assert openrt.left() == 0


def test_a_terminal_is_needed_for_one(openrt):
    code, out, err = openrt("run", "-it", "--", "terminal")
    assert (code, out) == (125, b"")
    assert err == (
        "openrt: -t needs a terminal, and the stdin of openrt is none. "
        "Leave -t out: -i alone passes on what comes on stdin.\n"
    )
    assert openrt.logged() == ""


def test_a_runtime_without_terminals_refuses_before_a_sandbox_is_made(openrt):
    environ = {"FAKE_FEATURES": "stdin"}
    with on_terminal(openrt, "run", "-it", "--", "terminal", environ=environ) as terminal:
        assert terminal.ended() == 125
        assert b"cannot do a terminal for a command" in terminal.output
    assert openrt.logged() == ""


def test_a_shell_has_the_terminal(openrt):
    with on_terminal(openrt, "shell") as terminal:
        assert terminal.ended() == 0
    assert "/bin/sh timeout=None stdin=True tty=TerminalSize(rows=31, columns=97)" in (
        openrt.logged()
    )


def test_a_shell_without_a_terminal_reads_stdin(openrt):
    assert openrt("shell", input=b"true\n")[0] == 0
    assert "/bin/sh timeout=None stdin=True tty=None" in openrt.logged()


def test_closed_streams_are_no_files_of_ours(openrt):
    script = f"exec {sys.executable} -m openrt_core.cli run -i -- cat <&-"
    code = subprocess.run(
        ["/bin/sh", "-c", script], env=openrt.environ, cwd=openrt.folder, timeout=DEADLINE
    ).returncode
    assert code == 0
