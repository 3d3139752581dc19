"""The client and the real agent, which runs as a child of the test."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import threading
import warnings

import pytest
from support.agents import PATIENCE, RealAgent, linux, real_agent, start, threads_named, until

from openrt_agent.requests import user_of
from openrt_core.errors import CommandNotStartedError, CommandTimedOutError, TransportError
from openrt_core.models import OutputMode, TerminalSize

pytestmark = linux
MIB = 1 << 20


@pytest.fixture(scope="module")
def client():
    with real_agent() as agent:
        yield agent.client


def shell(client, script, **arguments):
    return start(client, "/bin/sh", "-c", script, **arguments)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_and_exit_code(client):
    result = shell(client, "echo out; echo err >&2; exit 3").wait(PATIENCE)
    assert (result.exit_code, result.signal) == (3, None)
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert result.duration > 0
    assert result.usage.max_rss > 0


def test_a_signal(client):
    result = shell(client, "kill -9 $$").wait(PATIENCE)
    assert (result.exit_code, result.signal) == (137, 9)


def test_streams_as_they_come(client):
    process = shell(
        client,
        "echo one; read line; echo two $line; echo err >&2",
        stdin=True,
        output=OutputMode.STREAM,
    )
    assert process.stdout.read(100) == b"one\n"
    process.stdin.write(b"x\n")
    assert process.stdout.read() == b"two x\n"
    assert process.stderr.read() == b"err\n"
    assert process.wait(PATIENCE).ok


def test_merged_streams(client):
    result = shell(client, "echo a; echo b >&2; echo c", merge_stderr=True).wait(PATIENCE)
    assert (result.stdout, result.stderr) == (b"a\nb\nc\n", b"")


def test_ten_mebibytes_out(client):
    process = start(client, "head", "-c", str(10 * MIB), "/dev/zero")
    assert process.wait(PATIENCE).stdout == bytes(10 * MIB)


def test_a_slow_reader_gets_all_and_holds_nobody_up(client):
    slow = start(client, "head", "-c", str(20 * MIB), "/dev/zero", output=OutputMode.STREAM)
    first = slow.stdout.read(1)
    assert shell(client, "echo hi").wait(PATIENCE).stdout == b"hi\n"
    fast = start(client, "head", "-c", str(20 * MIB), "/dev/zero", output=OutputMode.DISCARD)
    assert fast.wait(PATIENCE).ok
    assert not slow.done
    assert len(first + slow.stdout.read()) == 20 * MIB
    assert slow.wait(PATIENCE).ok


def test_five_mebibytes_through_cat(client):
    data = os.urandom(MIB) * 5
    assert start(client, "cat", input=data).wait(PATIENCE).stdout == data


def test_input_that_nobody_reads(client):
    process = start(client, "true", stdin=True)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(bytes(5 * MIB))
    assert process.wait(PATIENCE).ok


def test_bytes_travel_exactly(client):
    odd = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    result = start(client, "/bin/sh", "-c", 'printf %s "$0$ODD"', odd, env={"ODD": odd}).wait(
        PATIENCE
    )
    assert result.stdout == bytes(range(1, 256)) * 2


def test_environment_and_folder(client, tmp_path):
    below = {"A": "sandbox", "B": "sandbox"}
    result = shell(
        client, "echo $A $B; pwd", env={"A": "command"}, cwd=str(tmp_path), request={"env": below}
    ).wait(PATIENCE)
    assert result.stdout == f"command sandbox\n{tmp_path}\n".encode()


def test_a_folder_is_made_when_asked_for(client, tmp_path):
    folder = str(tmp_path / "a" / "b")
    with pytest.raises(CommandNotStartedError) as caught:
        shell(client, "pwd", cwd=folder).wait(PATIENCE)
    assert caught.value.code == "command.cwd"
    process = shell(client, "pwd", cwd=folder, request={"make_cwd": True})
    assert process.wait(PATIENCE).text.strip() == folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_users(client):
    alone = shell(client, "id -u; id -g", request={"user": {"uid": 54321}}).wait(PATIENCE)
    assert alone.stdout == b"54321\n54321\n"
    named = shell(client, "id -un", request={"user": user_of("nobody")}).wait(PATIENCE)
    assert named.stdout == b"nobody\n"
    uid, gid = (os.stat("/").st_uid, os.stat("/").st_gid)
    known = shell(client, "id -u; id -g", request={"user": {"uid": uid}}).wait(PATIENCE)
    assert known.stdout == f"{uid}\n{gid}\n".encode()


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["/nope"], "not_found"), (["nope-nope"], "not_found"), (["/etc"], "permission")],
)
def test_what_cannot_run(client, argv, code):
    with pytest.raises(CommandNotStartedError) as caught:
        start(client, *argv).wait(PATIENCE)
    assert caught.value.code == f"command.{code}"


def test_a_time_limit_kills_the_tree_and_keeps_the_output(client):
    process = shell(client, "echo $$; sleep 1000 & echo $!; wait", timeout=1.0)
    with pytest.raises(CommandTimedOutError) as caught:
        process.wait(PATIENCE)
    result = caught.value.result
    assert result.timed_out
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) == 2
    until(lambda: not any(map(alive, pids)), "the tree lives on")


def test_kill(client):
    process = shell(client, "setsid sleep 1000 & echo $!; wait", output=OutputMode.STREAM)
    pid = int(process.stdout.read(100))
    process.kill()
    assert process.wait(PATIENCE).signal == 9
    until(lambda: not alive(pid), "the tree lives on")


def test_kill_at_once(client):
    for _ in range(20):
        process = start(client, "sleep", "1000")
        process.kill()
        assert process.wait(PATIENCE).signal == 9


def test_signals(client):
    process = shell(
        client,
        "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.01; done",
        output=OutputMode.STREAM,
    )
    assert process.stdout.read(100) == b"ready\n"
    process.signal(signal.SIGTERM)
    assert process.stdout.read() == b"got\n"
    assert process.wait(PATIENCE).exit_code == 5


def test_a_terminal(client):
    process = shell(
        client,
        "trap 'stty size; exit' WINCH; tty; stty size; while :; do sleep 0.01; done",
        output=OutputMode.STREAM,
        tty=TerminalSize(30, 100),
    )
    seen = b""
    while b"30 100" not in seen:
        seen += process.stdout.read(1000)
    assert seen.startswith(b"/dev/pts/")
    process.resize(TerminalSize(40, 120))
    rest = process.stdout.read()
    assert b"40 120" in rest
    assert process.wait(PATIENCE).ok


def test_two_hundred_at_once(client):
    processes = [shell(client, f"echo {n}; exit {n % 7}") for n in range(200)]
    for n, process in enumerate(processes):
        result = process.wait(PATIENCE)
        assert (result.stdout, result.exit_code) == (f"{n}\n".encode(), n % 7)


def test_many_threads_at_once(client):
    wrong = []

    def work(n):
        for i in range(20):
            text = f"{n} {i}".encode()
            if start(client, "cat", input=text).wait(PATIENCE).stdout != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_awaited(client):
    async def main():
        return await asyncio.gather(*[shell(client, f"echo {n}") for n in range(20)])

    results = asyncio.run(main())
    assert [r.stdout for r in results] == [f"{n}\n".encode() for n in range(20)]


def test_a_thousand_waiting_commands_need_no_thread():
    with real_agent() as agent:
        before = threading.active_count()
        first, *others = [start(agent.client, "cat", stdin=True) for _ in range(1000)]
        until(lambda: all(p.pid is not None for p in [first, *others]), "not all started")
        assert threading.active_count() == before
        first.stdin.close()
        assert first.wait(PATIENCE).ok
        assert not any(p.done for p in others)
        agent.client.close()
        for process in others:
            with pytest.raises(TransportError):
                process.wait(PATIENCE)


def test_many_connections_share_one_thread():
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(real_agent()) for _ in range(5)]
        processes = [shell(agent.client, "echo $PPID") for agent in agents]
        assert len({p.wait(PATIENCE).stdout for p in processes}) == 5
        assert threads_named("openrt-io") == 1


def test_the_end_does_not_wait_for_a_reader_of_the_output(client):
    killed = start(client, "yes", output=OutputMode.STREAM)
    assert killed.stdout.read(2) == b"y\n"
    killed.kill()
    assert killed.wait(PATIENCE).signal == signal.SIGKILL
    ended = start(client, "head", "-c", "1100000", "/dev/zero", output=OutputMode.STREAM)
    assert ended.wait(PATIENCE).ok
    assert len(ended.stdout.read()) == 1_100_000


def test_a_killed_agent_fails_its_own_commands_only(client):
    sibling = start(client, "sleep", "1000")
    agent = RealAgent()
    processes = [start(agent.client, "sleep", "1000") for _ in range(3)]
    until(lambda: all(p.pid is not None for p in processes), "not started")
    agent.process.kill()
    for process in processes:
        with pytest.raises(TransportError) as caught:
            process.wait(PATIENCE)
        assert caught.value.started == "yes"
        # Nothing is left to do so: this agent was not the first process of a sandbox.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TransportError) as caught:
        start(agent.client, "true")
    assert caught.value.started == "no"
    agent.end()
    assert not sibling.done
    sibling.kill()
    assert sibling.wait(PATIENCE).signal == 9


def test_close_ends_the_agent_and_what_it_runs():
    agent = RealAgent()
    process = shell(agent.client, "setsid sleep 1000 & echo $!; wait", output=OutputMode.STREAM)
    pid = int(process.stdout.read(100))
    agent.end()
    assert not alive(pid)


def test_descriptors_are_given_back():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    with real_agent():
        pass
    before = descriptors()
    for _ in range(5):
        with real_agent() as agent:
            assert start(agent.client, "true").wait(PATIENCE).ok
    assert descriptors() == before


def test_interrupts_leave_the_connection_whole(tmp_path):
    """Ctrl-C at any moment of a start: what follows on the connection is still right."""

    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    with real_agent() as agent:
        client = agent.client
        sibling = start(client, "cat", stdin=True, output=OutputMode.STREAM)
        before = signal.signal(signal.SIGALRM, interrupt)
        struck = 0
        gc.collect()
        gc.disable()  # an interrupt inside a finalizer would be lost, and complained about
        try:
            for n in range(300):
                started = []
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + (n % 100) * 1e-5)
                    while True:
                        started.append(start(client, "true", input=b"x" * 100))
                        if n % 2:
                            client.files.write(str(path), client.files.read(str(path)))
                except KeyboardInterrupt:
                    struck += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                for process in started:
                    process.wait(PATIENCE)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()
        assert struck > 0
        assert client.files.read(str(path)) == b"x" * 100_000
        sibling.stdin.write(b"still here")
        sibling.stdin.close()
        assert sibling.stdout.read() == b"still here"
        assert shell(client, "echo hi").wait(PATIENCE).stdout == b"hi\n"


def test_a_child_after_fork_has_its_own_loop_and_not_its_parents_connections():
    with real_agent() as agent:
        running = start(agent.client, "cat", stdin=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            code = 1
            try:
                with contextlib.suppress(TransportError):
                    start(agent.client, "true")
                    os._exit(2)
                agent.client.close()
                with real_agent() as own:
                    code = shell(own.client, "exit 42").wait(PATIENCE).exit_code
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 42
        running.stdin.close()
        assert running.wait(PATIENCE).ok


def test_memory_of_a_large_discarded_output_is_bounded(client):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = start(client, "head", "-c", str(300 * MIB), "/dev/zero", output=OutputMode.DISCARD)
    assert process.wait(PATIENCE).ok
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # KiB
