"""The script that becomes a command, in the shells that are here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from openrt_core.models import Command
from openrt_remote import wrapper

SHELLS = [s for s in ("dash", "bash --posix", "busybox sh") if shutil.which(s.split()[0])]
ODD = [
    "",
    " ",
    "a b",
    "$HOME",
    "`id`",
    "new\nline",
    "'\"\\",
    "*",
    "-n",
    os.fsdecode(bytes(range(1, 256))),
]


class Shell:
    """Starts scripts in one shell, as the server does."""

    def __init__(self, shell, folder):
        self.shell = shell.split()
        self.folder = folder
        self.count = 0

    def start(self, *argv, env=None, cwd="/", **fields):
        """The process of a command; what it prints is in ``out`` and ``err`` of its folder."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        text = wrapper.script(Command(argv=argv, **fields), str(folder), env or {}, cwd)
        (folder / "run").write_bytes(text)
        return folder, subprocess.Popen(
            [*self.shell, "-c", wrapper.invocation(str(folder))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "SESSION_API_KEY": "hush"},
        )

    def run(self, *argv, **fields):
        """Exit code as subprocess has it, stdout, stderr."""
        folder, process = self.start(*argv, **fields)
        assert process.communicate(timeout=60) == (b"", b"")
        errors = b"" if fields.get("merge_stderr") else (folder / "err").read_bytes()
        return process.returncode, (folder / "out").read_bytes(), errors


@pytest.fixture(params=SHELLS)
def shell(request, tmp_path):
    """Each shell in turn."""
    return Shell(request.param, tmp_path)


def until(condition):
    """Polls until it holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 1, 125, 127, 137, 255])
def test_exit_codes(shell, code):
    assert shell.run("sh", "-c", f"exit {code}") == (code, b"", b"")


def test_signals(shell):
    assert shell.run("sh", "-c", "kill -TERM $$")[0] == -signal.SIGTERM


def test_arguments_and_environment_are_bytes(shell):
    text = ODD[-1]
    script = 'for a; do printf "%s\\0" "$a"; done; printf %s "$VALUE" >&2'
    code, out, err = shell.run("sh", "-c", script, "sh", *ODD, env={"VALUE": text})
    assert code == 0
    assert out == b"".join(os.fsencode(word) + b"\0" for word in ODD)
    assert err == os.fsencode(text)


def test_the_environment_holds_nothing_else(shell):
    names = [line.split(b"=")[0] for line in shell.run("env", env={"A": "b"})[1].splitlines()]
    assert sorted(set(names) - {b"PWD", b"SHLVL", b"_", b"OLDPWD"}) == [b"A", b"PATH"]


def test_streams_join_on_request(shell):
    script = "echo a; echo b >&2; echo c"
    assert shell.run("sh", "-c", script, merge_stderr=True) == (0, b"a\nb\nc\n", b"")


def test_the_script_is_removed_when_it_starts_and_runs_once(shell):
    folder, process = shell.start("sleep", "1000", env={"TOKEN": "hush"})
    text = (folder / "run").read_bytes() if (folder / "run").exists() else None
    until(lambda: (folder / "err").exists() and not (folder / "run").exists())
    process.kill()
    process.communicate(timeout=60)
    if text is not None:
        (folder / "run").write_bytes(text)
        again = subprocess.run(
            [*shell.shell, "-c", wrapper.invocation(str(folder))], check=False, timeout=60
        )
        assert again.returncode == wrapper.NOT_STARTED


@pytest.mark.parametrize(
    ("argv", "cwd", "reason"),
    [
        (["true"], "/no/such", "cwd"),
        (["no-such-program"], "/", "program"),
        (["/etc/passwd"], "/", "program"),
        (["/tmp"], "/", "program"),
    ],
)
def test_what_cannot_be_started_is_told(shell, argv, cwd, reason):
    folder, process = shell.start(*argv, cwd=cwd)
    process.communicate(timeout=60)
    assert process.returncode == wrapper.NOT_STARTED
    told = (folder / "fail").read_text()
    assert told.strip() == reason
    text = wrapper.failure(told, Command(argv=argv), cwd)
    assert repr(cwd if reason == "cwd" else argv[0]) in text


def test_a_program_is_looked_for_on_its_own_path(shell, tmp_path):
    program = tmp_path / "own"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert shell.run("own", env={"PATH": f"/none:{tmp_path}"})[1] == b"found\n"
    folder, process = shell.start("ls", env={"PATH": "/none"})
    process.communicate(timeout=60)
    assert (folder / "fail").read_text() == "program\n"


def test_input_comes_in_parts_and_ends(shell):
    folder, process = shell.start("cat", stdin=True)
    (folder / "in.1.4").write_bytes(b"two\n")
    (folder / "in.0.4").write_bytes(b"on")  # not all there yet
    (folder / "in.0.4").write_bytes(b"one\n")
    until(lambda: (folder / "out").exists() and (folder / "out").read_bytes() == b"one\ntwo\n")
    assert process.poll() is None
    (folder / "in.2.0").write_bytes(b"")
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_feeder_ends_with_the_command(shell):
    folder, process = shell.start("sleep", "0.2", stdin=True)
    process.communicate(timeout=60)
    needle = str(folder).encode()

    def gone():
        lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
        return needle not in lines

    until(gone)


def test_a_signal_reaches_the_group(shell):
    folder, process = shell.start("sh", "-c", "sleep 1000 & wait")
    script = wrapper.signal_script(str(folder), signal.SIGKILL, group=True)
    subprocess.run([*shell.shell, "-c", script], check=True, timeout=60)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    until(lambda: not _members(process.pid))


def test_a_command_that_is_there_is_told_from_one_that_is_not(shell):
    folder, process = shell.start("sleep", "1000")
    until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    look = [*shell.shell, "-c", wrapper.alive_script(str(folder))]
    assert subprocess.run(look, check=False, timeout=60).returncode == 0
    process.kill()
    process.communicate(timeout=60)
    assert subprocess.run(look, check=False, timeout=60).returncode != 0


def _members(group):
    listed = subprocess.run(
        ["ps", "-eo", "pgid,stat"], capture_output=True, check=True, text=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()[1:]]
    return [row for row in rows if row[0] == str(group) and not row[1].startswith("Z")]
