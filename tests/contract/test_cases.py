"""What every runtime promises, in the words of a user. A case that needs a feature names it."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from openrt_core import Sandbox
from openrt_core.errors import (
    CommandFailedError,
    CommandNotStartedError,
    CommandTimedOutError,
    FileIsDirectoryError,
    FileMissingError,
    SandboxGoneError,
)

MIB = 1024 * 1024


def pattern(size: int) -> bytes:
    """Bytes in which nothing repeats, so that a lost or doubled block shows."""
    block = b"".join(hashlib.sha256(i.to_bytes(8, "big")).digest() for i in range(-(-size // 32)))
    return block[:size]


def wait_until(condition, seconds=60.0):
    """Polls until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.02)


@pytest.mark.parametrize("code", [0, 1, 2, 42, 127, 255])
def test_exit_codes_are_exact(shared, code):
    result = shared.exec(f"exit {code}")
    assert (result.exit_code, result.signal) == (code, None)
    assert result.ok == (code == 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_by_signal_is_told_apart(shared, offered, number):
    offered("kill_tree")
    result = shared.exec(["sh", "-c", f"kill -{int(number)} $$"])
    assert (result.exit_code, result.signal) == (128 + number, number)


def test_check_raises_with_the_result(shared):
    with pytest.raises(CommandFailedError) as caught:
        shared.exec("echo out; exit 3", check=True)
    assert caught.value.result.exit_code == 3
    assert caught.value.result.stdout == b"out\n"


def test_streams_stay_apart(shared, offered):
    offered("streams")
    result = shared.exec("echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_stderr_joins_stdout_on_request(shared):
    result = shared.exec("echo a; echo b >&2; echo c", merge_stderr=True)
    assert (result.stdout, result.stderr) == (b"a\nb\nc\n", b"")


def test_output_is_bytes_as_written(shared):
    octal = "".join(f"\\{i:03o}" for i in range(256))
    assert shared.exec(["printf", octal.replace("\\045", "%%")]).stdout == bytes(range(256))


def test_arguments_arrive_exactly(shared):
    odd = ["", " ", "a b", "$HOME", "`id`", "new\nline", "'\"\\", "*", "-n", "\udce9\udcff"]
    result = shared.exec(["sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "sh", *odd])
    assert result.stdout == b"".join(os.fsencode(a) + b"\0" for a in odd)


def test_stdin_reaches_the_command_and_ends(shared, offered):
    offered("stdin")
    data = pattern(3 * MIB)
    result = shared.exec(["sha256sum"], input=data)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_without_input_stdin_is_empty(shared):
    assert shared.exec(["cat"]).stdout == b""


def test_environment_is_exact(shared):
    value = "a b\n$HOME `id` \"'\\ €"
    result = shared.exec(["sh", "-c", 'printf %s "$ODD"'], env={"ODD": value})
    assert result.stdout.decode() == value


def test_environment_of_the_sandbox_is_under_the_commands(runtime):
    with runtime.create(env={"A": "sandbox", "B": "sandbox"}) as sandbox:
        result = sandbox.exec('echo "$A $B"', env={"B": "command"})
    assert result.stdout == b"sandbox command\n"


def test_commands_run_in_the_workspace(shared):
    assert shared.exec(["pwd"]).stdout == b"/workspace\n"


def test_cwd_is_honoured_and_a_missing_one_told(shared):
    assert shared.exec(["pwd"], cwd="/tmp").stdout == b"/tmp\n"
    with pytest.raises(CommandNotStartedError):
        shared.exec(["pwd"], cwd="/no/such/folder")


def test_user_is_honoured(runtime, shared, offered):
    offered("user")
    if runtime.name == "local" and os.geteuid() != 0:
        pytest.skip("local without root has one user only")
    assert shared.exec(["id", "-u"], user=1234).stdout == b"1234\n"


def test_a_missing_program_is_told(shared, offered):
    offered("kill_tree")
    with pytest.raises(CommandNotStartedError) as caught:
        shared.exec(["no-such-program"])
    assert "no-such-program" in str(caught.value)


def test_fifty_commands_at_once(shared):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        results = list(pool.map(lambda i: shared.exec(f"echo {i}; exit {i}"), range(50)))
    assert [(r.exit_code, r.stdout) for r in results] == [(i, b"%d\n" % i) for i in range(50)]


def test_ten_mebibytes_come_out_whole(shared):
    script = (
        "i=0; while [ $i -lt 10 ]; do head -c 1048576 /dev/zero | tr '\\0' $i; i=$((i+1)); done"
    )
    result = shared.exec(script)
    assert not result.truncated
    expected = b"".join(b"%d" % i * MIB for i in range(10))
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(expected).digest()


def test_more_output_than_the_bound_keeps_head_and_tail(shared):
    result = shared.exec("echo first; head -c 20971520 /dev/zero; echo last")
    assert result.stdout.startswith(b"first\n")
    assert result.stdout.endswith(b"last\n")
    assert result.stdout_dropped == 20 * MIB + 11 - len(result.stdout) > 0


def test_twenty_mebibytes_go_in_and_come_back(shared):
    data = pattern(20 * MIB)
    shared.files.write("/tmp/big", data)
    assert (
        shared.exec(["sha256sum", "/tmp/big"]).text.split()[0] == hashlib.sha256(data).hexdigest()
    )
    assert shared.files.read("/tmp/big") == data
    shared.files.remove("/tmp/big")


def test_files_are_listed_renamed_and_removed(shared):
    folder = f"/tmp/{uuid.uuid4().hex}"
    shared.files.write(f"{folder}/odd \n name", b"x", mode=0o640)
    assert [(e.name, e.type, e.size) for e in shared.files.list(folder)] == [
        ("odd \n name", "file", 1)
    ]
    assert shared.files.stat(f"{folder}/odd \n name").mode == 0o640
    shared.files.rename(f"{folder}/odd \n name", f"{folder}/plain")
    assert shared.files.exists(f"{folder}/plain")
    shared.files.remove(folder, recursive=True)
    assert not shared.files.exists(folder)


def test_file_errors_are_typed(shared):
    with pytest.raises(FileMissingError) as caught:
        shared.files.read("/tmp/no/such/file")
    assert caught.value.filename == "/tmp/no/such/file"
    with pytest.raises(FileIsDirectoryError):
        shared.files.read("/tmp")


def test_a_time_limit_keeps_the_partial_output(shared):
    with pytest.raises(CommandTimedOutError) as caught:
        shared.exec("echo before; sleep 1000; echo after", timeout=2)
    assert caught.value.result.stdout == b"before\n"
    assert caught.value.result.timed_out


def test_a_time_limit_kills_the_whole_tree_and_spares_siblings(shared, offered):
    offered("kill_tree")
    sibling = shared.start(["sleep", "1000"])
    with pytest.raises(CommandTimedOutError):
        shared.exec("(setsid sh -c 'exec sleep 998877' &) ; sleep 998877", timeout=2)
    assert b"998877" not in processes(shared)
    assert sibling.poll() is None
    sibling.kill()
    assert sibling.wait(60).signal == signal.SIGKILL


def processes(sandbox):
    """The command lines of all processes in the sandbox."""
    return sandbox.exec("cat /proc/[0-9]*/cmdline 2>/dev/null; true").stdout


def test_output_streams_as_it_comes(shared, offered):
    offered("stdin")
    process = shared.start(["cat"], stdin=True)
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        assert process.stdout.read(100) == line
    process.stdin.close()
    assert process.wait(60).ok


def test_kill_ends_a_command(shared):
    process = shared.start(["sleep", "1000"])
    process.kill()
    assert process.wait(60).signal == signal.SIGKILL


def test_two_sandboxes_share_nothing(runtime, shared):
    mark = uuid.uuid4().hex
    shared.files.write("/tmp/mark", mark.encode())
    with runtime.create() as other:
        assert not other.files.exists("/tmp/mark")
    shared.files.remove("/tmp/mark")


def test_teardown_is_idempotent_and_final(runtime):
    sandbox = runtime.create()
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    with pytest.raises(SandboxGoneError):
        sandbox.exec(["true"])


def test_teardown_by_id_alone_from_another_process(runtime):
    sandbox = runtime.create()
    script = (
        "import sys; from openrt_core import SandboxHandle;"
        "from openrt_core.manager import Manager;"
        "m = Manager.open(sys.argv[1]);"
        "h = SandboxHandle(runtime=sys.argv[1], id=sys.argv[2]);"
        "print(m.teardown(h), m.teardown(h))"
    )
    command = [sys.executable, "-c", script, runtime.name, sandbox.id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.returncode) == ("True False\n", 0), done.stderr
    with pytest.raises(SandboxGoneError):
        sandbox.exec(["true"])
    assert sandbox.kill() is False


def test_another_client_connects(runtime, shared, offered):
    offered("connect")
    with Sandbox.connect(shared.id, runtime.name) as guest:
        assert guest.exec(["pwd"]).stdout == b"/workspace\n"
    assert shared.exec(["true"]).ok
