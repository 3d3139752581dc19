"""``openrt run`` as a program of its own, on a scripted runtime that is found by its metadata."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest
from support.command_line import DEADLINE, Program
from support.terminals import OnTerminal


@pytest.fixture
def openrt(tmp_path):
    return Program(tmp_path)


def test_output_is_passed_byte_for_byte(openrt):
    process = openrt.start("run", "--", "print", b"\xff\r\n\x1b", b"err\xfe")
    assert process.communicate(timeout=DEADLINE) == (b"\xff\r\n\x1b", b"err\xfe")
    assert process.returncode == 0
    assert openrt.left() == 0


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["exit", "0"], 0),
        (["exit", "3"], 3),
        (["exit", "255"], 255),
        (["signal", "9"], 137),
        (["missing", "not_found"], 127),
        (["missing", "permission"], 126),
        (["missing", "format"], 126),
        (["missing", "cwd"], 125),
        (["missing", "user"], 125),
        (["bug"], 125),
    ],
)
def test_exit_codes(openrt, argv, code):
    assert openrt("run", "--", *argv)[0] == code
    assert openrt.left() == 0


def test_no_sandbox_is_made_for_wrong_arguments(openrt):
    for arguments in (
        [],
        ["--nope", "--", "exit", "0"],
        ["--timeout", "0", "--", "exit", "0"],
        ["--timeout", "nan", "--", "exit", "0"],
        ["-v", "/a", "--", "exit", "0"],
        ["-e", "=x", "--", "exit", "0"],
        ["-e", "NOT_SET_HERE", "--", "exit", "0"],
        ["--user", "me", "--", "exit", "0"],
        ["--workdir", "relative", "--", "exit", "0"],
        ["--runtime", "nope", "--", "exit", "0"],
    ):
        code, out, err = openrt("run", *arguments)
        assert (code, out) == (125, b""), arguments
        assert err.startswith("openrt: ")
        assert err.count("\n") == 1
    assert openrt.logged() == ""


def test_arguments_reach_the_sandbox(openrt):
    arguments = ["--image", "img:1", "-v", "/a:/a,/b:/b:ro", "-v", "cache:/c", "-e", "A=1=2"]
    arguments += ["-e", "B", "--network", "none", "--user", "12", "--workdir", "/w"]
    code, *_ = openrt("run", *arguments, "exit", "0", "--keep", environ={"B": " b "})
    assert code == 0
    assert (
        "[('A', '1=2'), ('B', ' b ')] none 12 img:1 [('/a', '/a', 'rw'), ('/b', '/b', 'ro'),"
        " ('cache', '/c', 'rw')] /w False" in openrt.logged()
    )


def test_settings_hold_unless_an_argument_says_otherwise(openrt):
    environ = {"SANDBOX_VOLUMES": "/a:/a", "SANDBOX_ENV_X": "1", "SANDBOX_USER_ID": "5"}
    openrt("run", "-e", "X=2", "--", "exit", "0", environ=environ)
    assert "[('X', '2')] default 5 None [('/a', '/a', 'rw')]" in openrt.logged()


@pytest.mark.parametrize(
    ("arguments", "environ", "timeout"),
    [
        ([], {}, None),
        ([], {"SANDBOX_TIMEOUT": "7"}, 7.0),
        (["--timeout", "0.5"], {"SANDBOX_TIMEOUT": "7"}, 0.5),
    ],
)
def test_no_time_limit_unless_one_is_set(openrt, arguments, environ, timeout):
    openrt("run", *arguments, "--", "exit", "0", environ=environ)
    assert f"exit timeout={timeout} stdin=False" in openrt.logged()


def test_a_time_limit_gives_124_and_what_was_printed(openrt):
    code, out, err = openrt("run", "--timeout", "5", "--", "late")
    assert (code, out) == (124, b"partial")
    assert err == "openrt: The command was killed at its time limit of 5 s.\n"


def test_stdin_is_forwarded_only_when_asked_for(openrt):
    data = bytes(range(256)) * 5000
    assert openrt("run", "-i", "--", "cat", input=data) == (0, data, "")
    assert openrt("run", "--", "exit", "0", input=b"x")[0] == 0
    assert "exit timeout=None stdin=False" in openrt.logged()


def test_keep_tells_the_id_and_removes_nothing(openrt):
    code, _, err = openrt("run", "--keep", "--", "exit", "0")
    (line,) = [line for line in openrt.logged().splitlines() if line.startswith("provision")]
    assert code == 0
    assert f"The sandbox {line.split()[1]} is kept." in err
    assert "teardown" not in openrt.logged()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_removes_the_sandbox(openrt, number, code):
    process = openrt.start("run", "--", "hang")
    assert process.stdout.readline() == b"started\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (code, b"")
    assert openrt.left() == 0


def test_a_signal_while_the_sandbox_is_made(openrt):
    process = openrt.start("run", "--image", "slow", "--", "hang")
    openrt.wait_for("provision")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (130, b"")
    assert openrt.left() == 0


def test_a_second_signal_does_not_cut_the_removal_short(openrt, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    process = openrt.start("run", "--", "hang", environ={"FAKE_HOLD": str(hold)})
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    openrt.wait_for("teardown began")
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == b"openrt: The sandbox is being removed.\n"
    hold.unlink()
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert openrt.left() == 0


def test_a_signal_that_was_ignored_stays_ignored(openrt):
    process = openrt.start(
        "run", "--", "hang", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 143


def test_a_reader_that_goes_away_ends_the_command_quietly(openrt):
    process = openrt.start("run", "--", "flood")
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(DEADLINE) == 141
    assert process.stderr.read() == b""
    assert openrt.left() == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_an_error(openrt):
    with open("/dev/full", "wb") as full:
        process = openrt.start("run", "--", "flood", stdout=full)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 125
    assert b"The output cannot be written" in err
    assert openrt.left() == 0


def test_a_descriptor_that_does_not_block(openrt):
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = openrt.start("run", "--", "flood", stdout=write)
    os.close(write)
    with open(read, "rb") as pipe:
        assert len(pipe.read(1_000_000)) == 1_000_000
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 143


def test_a_sandbox_that_is_lost_gives_what_it_had_said(openrt):
    code, out, err = openrt("run", "--", "lost")
    assert (code, out) == (125, b"partial")
    assert err.startswith("openrt: The sandbox is gone. ")


def test_errors_are_one_paragraph_and_steer_no_terminal(openrt):
    code, out, err = openrt("run", "--image", "broken", "--", "exit", "0")
    assert (code, out) == (125, b"")
    assert err == "openrt: no \\x1b[2J luck at all. Try again.\n"
    assert openrt.left() == 0


HOSTILE = "hostile:\x1b]0;title\x07\x1b[2J\r\x9b1m\u202e"


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_nothing_that_a_back_end_says_steers_a_terminal(openrt, debug):
    code, out, err = openrt(*debug, "run", "--image", HOSTILE, "--", "exit", "0")
    assert (code, out) == (125, b"")
    for told in ("failed: ValueError", "logged", "warned", "noted", "refused", "try", "also"):
        assert told in err
    assert ("Traceback" in err) == bool(debug)
    assert all(c.isprintable() or c == "\n" for c in err), ascii(err)
    # On a terminal there is the line of progress, and it is ours alone.
    arguments = [*debug, "run", "--image", HOSTILE, "--", "exit", "0"]
    command = [sys.executable, "-m", "openrt_core.cli", *arguments]
    with OnTerminal(command, env=openrt.environ, cwd=openrt.folder) as terminal:
        assert terminal.ended() == 125
        said = terminal.output.decode()
        assert "went on hostile" in said
        said = said.replace("\r\x1b[K", "").replace("\r\n", "")
        assert said.isprintable(), ascii(said)


def test_tracebacks_are_for_debug_only(openrt):
    _, _, err = openrt("run", "--", "bug")
    assert "Traceback" not in err
    assert "ZeroDivisionError: bug\\x1b[31m" in err
    _, _, err = openrt("--debug", "run", "--", "bug")
    assert "Traceback" in err


def test_progress_is_for_terminals_only(openrt):
    assert openrt("run", "--", "exit", "0")[2] == ""
    primary, secondary = os.openpty()
    process = openrt.start("run", "--", "exit", "0", stderr=secondary)
    assert process.wait(DEADLINE) == 0
    assert os.read(primary, 4096) == b"\r\x1b[Kpulling 1/2 layers\r\x1b[K"
    os.close(primary)
    os.close(secondary)


def test_deprecations_and_unknown_settings_are_told(openrt):
    environ = {"SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE": "false", "SANDBOX_TIMEOUTS": "1"}
    code, _, err = openrt("run", "--", "exit", "0", environ=environ)
    assert code == 0
    assert "openrt: note: SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE is deprecated" in err
    assert err.count("SANDBOX_TIMEOUTS is no setting") == 1
    assert "Did you mean SANDBOX_TIMEOUT?" in err


def test_a_setting_that_nobody_honours(openrt):
    code, _, err = openrt("run", "--", "exit", "0", environ={"SANDBOX_RUNTIME_EXTRA_DEPS": "x"})
    assert code == 125
    assert "SANDBOX_RUNTIME_EXTRA_DEPS (environment) is not honoured by this version" in err
    assert openrt.logged() == ""


def test_the_list_of_runtimes(openrt):
    code, out, _ = openrt("runtimes", "--json", "fake")
    (entry,) = json.loads(out)
    assert code == 0
    assert (entry["name"], entry["distribution"], entry["version"]) == (
        "fake",
        "fake-runtime-for-cli",
        "1.0",
    )
    assert "kill_tree" in entry["features"]
    assert entry["error"] is None
    code, out, _ = openrt("runtimes", "fake")
    assert out.decode().startswith("fake (fake-runtime-for-cli 1.0)\n")
    assert openrt("runtimes", "nope")[0] == 125
