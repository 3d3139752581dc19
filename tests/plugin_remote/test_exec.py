"""Commands and files with the real agent server."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import signal
import threading
import time

import pytest

from openrt_core.errors import (
    CommandNotStartedError,
    CommandTimedOutError,
    FileIsDirectoryError,
    FileMissingError,
    SandboxGoneError,
    TransportError,
    UnsupportedError,
)
from openrt_core.models import OutputMode, SandboxHandle
from openrt_core.streams import STREAM_WINDOW

MIB = 1024 * 1024
WAIT = 120.0


def until(condition):
    """Polls until it holds."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def pattern(size):
    """Bytes in which nothing repeats."""
    block = b"".join(hashlib.sha256(i.to_bytes(8, "big")).digest() for i in range(-(-size // 32)))
    return block[:size]


@pytest.mark.parametrize("code", [0, 1, 125, 137, 255])
def test_exit_codes(real, code):
    result = real.run(real.handle, "sh", "-c", f"exit {code}")
    assert (result.exit_code, result.signal) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL, signal.SIGSEGV])
def test_signals_are_told_from_codes(real, number):
    result = real.run(real.handle, "sh", "-c", f"kill -{int(number)} $$", timeout=300)
    assert (result.exit_code, result.signal) == (128 + number, number)
    assert not result.timed_out


def test_streams_are_apart_and_bytes(real):
    script = "printf '\\377\\000\\342\\202'; head -c 100000 /dev/zero | tr '\\0' '\\342' >&2"
    result = real.run(real.handle, "sh", "-c", script)
    assert (result.stdout, result.stderr) == (b"\xff\0\xe2\x82", b"\xe2" * 100_000)


def test_the_environment_is_the_sandboxs_under_the_commands(real):
    script = 'printf "%s|%s|%s|%s" "$GREETING" "$TOKEN" "$LEVEL" "$SESSION_API_KEY"'
    result = real.run(real.handle, "sh", "-c", script, env={"LEVEL": "command"})
    assert result.stdout == b"a 'b' $c|hush-hush-7351|command|"
    assert real.run(real.handle, "pwd").stdout == b"/workspace/deep er\n"


def test_secrets_are_left_nowhere(real, real_plane):
    assert real.run(real.handle, "sh", "-c", "exit 0", env={"OTHER": "hush-hush-9412"}).ok
    needles = (b"hush-hush-7351", b"hush-hush-9412")

    def holds(path):
        try:
            return path.is_file() and any(needle in path.read_bytes() for needle in needles)
        except FileNotFoundError:
            return False

    def found():
        return [path for path in real_plane._state.rglob("*") if holds(path)]

    assert list(real_plane._state.rglob("*BashCommand*"))  # what the server keeps is there
    # What another test printed goes with the next sweep.
    until(lambda: found() == [])


def test_the_servers_own_files_are_not_in_the_workspace(real):
    assert real.run(real.handle, "ls", "-A", "/workspace").stdout == b"deep er\n"


def test_what_cannot_be_started_is_told(real):
    with pytest.raises(CommandNotStartedError, match="no-such-program"):
        real.run(real.handle, "no-such-program")
    with pytest.raises(CommandNotStartedError, match="/no/such"):
        real.run(real.handle, "pwd", cwd="/no/such")
    with pytest.raises(UnsupportedError):
        real.run(real.handle, "pwd", env={"a-b": "c"})


def test_three_mebibytes_go_in(real):
    data = pattern(3 * MIB)
    result = real.run(real.handle, "sha256sum", input=data)
    assert result.text.split()[0] == hashlib.sha256(data).hexdigest()
    assert real.run(real.handle, "cat", input=b"").stdout == b""


def test_a_dialogue(real):
    process = real.start(real.handle, "cat", stdin=True, output=OutputMode.STREAM)
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        assert process.stdout.read(100) == line
    process.stdin.close()
    assert process.wait(WAIT).ok


def test_ten_mebibytes_come_out(real):
    script = (
        "i=0; while [ $i -lt 10 ]; do head -c 1048576 /dev/zero | tr '\\0' $i; i=$((i+1)); done"
    )
    result = real.run(real.handle, "sh", "-c", script)
    assert result.stdout == b"".join(b"%d" % i * MIB for i in range(10))


def test_what_is_not_read_is_not_fetched(real):
    process = real.start(
        real.handle, "head", "-c", str(3 * MIB), "/dev/zero", output=OutputMode.STREAM
    )
    first = process.stdout.read(10)
    held = sum(len(chunk) for chunk in process.stdout._chunks)
    assert len(first) + held <= STREAM_WINDOW
    assert not process.done
    assert len(first) + len(process.stdout.read()) == 3 * MIB
    assert process.wait(WAIT).ok


def test_output_can_be_dropped(real):
    result = real.run(real.handle, "echo", "hi", output=OutputMode.DISCARD)
    assert (result.exit_code, result.stdout) == (0, b"")


def test_a_background_child_that_holds_stdout_stalls_nobody(real):
    result = real.run(real.handle, "sh", "-c", "sleep 1000 & echo done", timeout=60)
    assert (result.stdout, result.timed_out) == (b"done\n", False)


def test_a_time_limit_keeps_what_was_printed(real):
    with pytest.raises(CommandTimedOutError) as caught:
        real.run(real.handle, "sh", "-c", "echo before; sleep 1000; echo after", timeout=0.5)
    assert (caught.value.result.stdout, caught.value.result.signal) == (b"before\n", 9)
    script = "trap 'echo bye; exit 3' TERM; echo before; sleep 1000 & wait"
    with pytest.raises(CommandTimedOutError) as caught:
        real.run(real.handle, "sh", "-c", script, timeout=2, grace=60.0)
    assert (caught.value.result.stdout, caught.value.result.exit_code) == (b"before\nbye\n", 3)


def test_a_time_limit_ends_the_group_and_no_other(real):
    other = real.start(real.handle, "sleep", "887766")
    with pytest.raises(CommandTimedOutError):
        real.run(real.handle, "sh", "-c", "sleep 776655 & sleep 776655", timeout=1)
    listed = real.run(real.handle, "ps", "-eo", "args").stdout
    assert b"sleep 776655" not in listed
    assert b"sleep 887766" in listed
    other.kill()
    assert other.wait(WAIT).signal == signal.SIGKILL


def test_signals_are_sent(real):
    script = "trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.1; done"
    process = real.start(real.handle, "sh", "-c", script, output=OutputMode.STREAM)
    assert process.stdout.read(100) == b"ready\n"
    process.signal(signal.SIGUSR1)
    assert process.stdout.read() == b"got\n"
    assert process.wait(WAIT).exit_code == 4


def test_a_kill_before_the_start_counts(real):
    process = real.start(real.handle, "sleep", "1000")
    process.kill()
    assert process.wait(WAIT).signal == signal.SIGKILL


def test_twenty_at_once_need_no_thread_each(real):
    def loops():
        return sum(thread.name == "openrt-remote" for thread in threading.enumerate())

    assert real.run(real.handle, "true").ok
    before = loops()
    there = set(threading.enumerate())  # the loops of other tests have threads, too
    processes = [real.start(real.handle, "sh", "-c", f"sleep 1; echo {i}") for i in range(20)]
    added = set(threading.enumerate()) - there
    assert loops() == before == 1
    assert sum(thread.name.startswith("asyncio") for thread in added) < 20
    assert [p.wait(WAIT).stdout for p in processes] == [b"%d\n" % i for i in range(20)]


def test_what_commands_leave_is_removed(real):
    assert real.run(real.handle, "true").ok
    folder = f"/tmp/.openrt-{real.handle.id}"
    # The only folder that is left is that of the command which looks.
    script = f"ls {folder} | grep -vc sandbox.json"
    until(lambda: real.run(real.handle, "sh", "-c", script).stdout == b"1\n")


def test_the_servers_records_do_not_pile_up(real, real_plane):
    for _ in range(10):
        assert real.run(real.handle, "true").ok

    def records():
        found = real_plane._state.rglob(".openrt-server/bash_events/*")
        return [p for p in found if p.is_file()]

    # Those of the last sweep are still there.
    until(lambda: len(records()) < 10)


def test_a_command_that_the_server_forgot_is_lost(real, monkeypatch):
    async def nothing(self, command):
        return None

    monkeypatch.setattr("openrt_remote.command.LOOK_AFTER", 0.1)
    assert real.run(real.handle, "sleep", "2").ok
    monkeypatch.setattr("openrt_remote.server.Server.outcome", nothing)
    with pytest.raises(TransportError, match="lost sight") as caught:
        real.run(real.handle, "true")
    assert caught.value.started == "yes"


def test_files_go_in_and_come_back(real):
    plugin, handle = real.plugin, real.handle
    data = pattern(20 * MIB)
    assert plugin._files.stdin is False
    plugin._files.stdin = True  # as the core says it for its own
    assert plugin._files.openrt_write_file(handle, "/tmp/a/b/big", data, 0o640, None) == len(data)
    assert plugin.openrt_read_file(handle, "/tmp/a/b/big", None) == data
    assert plugin._files.openrt_stat_file(handle, "/tmp/a/b/big", True, None).mode == 0o640
    with pytest.raises(FileMissingError):
        plugin.openrt_read_file(handle, "/tmp/none", None)
    with pytest.raises(FileIsDirectoryError):
        plugin.openrt_read_file(handle, "/tmp", None)
    with pytest.raises(UnsupportedError):
        plugin.openrt_read_file(handle, "/tmp/a/b/big", 0)


def test_files_of_odd_names_and_of_proc_are_read(real):
    odd = os.fsdecode(b"/tmp/odd \n \xff %41+&?#")
    real.plugin._files.stdin = True
    real.plugin._files.openrt_write_file(real.handle, odd, b"x", None, None)
    assert real.plugin.openrt_read_file(real.handle, odd, None) == b"x"
    real.plugin._files.openrt_write_file(real.handle, "/tmp/%41+&?# ü", b"y", None, None)
    assert real.plugin.openrt_read_file(real.handle, "/tmp/%41+&?# ü", None) == b"y"
    assert b"model name" in real.plugin.openrt_read_file(real.handle, "/proc/cpuinfo", None)
    assert real.run(real.handle, "touch", "/tmp/empty").ok
    assert real.plugin.openrt_read_file(real.handle, "/tmp/empty", None) == b""


def test_a_guest_has_the_folder_and_the_environment_but_no_secrets(real, another_client):
    guest = another_client()
    handle = guest.plugin.openrt_connect(real.handle.id)
    assert handle.workdir == "/workspace/deep er"
    result = guest.run(handle, "sh", "-c", 'printf "%s|%s|" "$GREETING" "$TOKEN"; pwd')
    assert result.stdout == b"a 'b' $c||/workspace/deep er\n"


@pytest.fixture
def another_client(real, real_plane, tmp_path):
    """``another_client()``: what another process would have."""
    return lambda: type(real)(real_plane, tmp_path)


def test_a_paused_sandbox_is_resumed(real, real_plane):
    sandbox = real_plane.sandbox(real.handle.id)
    process = real.start(real.handle, "sh", "-c", "sleep 2; echo awake")
    real_plane.pause(sandbox)
    assert process.wait(WAIT).stdout == b"awake\n"
    real_plane.pause(sandbox)
    assert real.run(real.handle, "echo", "again").stdout == b"again\n"
    assert sandbox.status == "running"


def test_busy_and_faulty_answers_are_asked_for_again(real, real_plane):
    real_plane.journal.refuse("sandbox", 502, path="/api/bash/bash_events")
    real_plane.journal.refuse("sandbox", 503, path="/api/bash/start")
    assert real.run(real.handle, "echo", "hi").stdout == b"hi\n"


def test_a_start_of_unknown_fate_is_killed_and_told(real, real_plane):
    real_plane.journal.refuse("sandbox", 500, path="/api/bash/start", detail="boom")
    with pytest.raises(TransportError, match="boom") as caught:
        real.run(real.handle, "true")
    assert caught.value.started == "unknown"
    real_plane.journal.refuse("sandbox", 422, path="/api/bash/start", detail="no")
    with pytest.raises(TransportError) as caught:
        real.run(real.handle, "true")
    assert caught.value.started == "no"


def test_commands_end_with_their_sandbox(real_plane, another_client):
    remote = another_client()
    handles = [remote.provision() for _ in range(2)]
    processes = [remote.start(handle, "sleep", "1000") for handle in handles]
    until(lambda: all(process.pid for process in processes))
    real_plane.drop(real_plane.sandbox(handles[0].id), 502)
    with pytest.raises(SandboxGoneError):
        processes[0].wait(WAIT)
    with pytest.raises(SandboxGoneError):
        remote.run(handles[0], "true")
    assert remote.plugin.openrt_status(handles[0]).state == "gone"
    assert remote.plugin.openrt_teardown(handles[1]) is True
    with pytest.raises(SandboxGoneError):
        processes[1].wait(WAIT)
    with pytest.raises(SandboxGoneError):
        remote.run(SandboxHandle(runtime="remote", id=handles[1].id), "true")
    assert remote.plugin.openrt_teardown(handles[0]) is True


def test_no_key_went_to_the_wrong_plane(real, real_plane):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: real.run(real.handle, "echo", str(i)), range(4)))
    assert [result.stdout for result in results] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    assert real_plane.journal.leaks() == []
    health = real_plane.journal.requests("sandbox", "GET", "/health")
    assert health
    assert not [seen for seen in health if "x-api-key" in seen.headers]
