"""A reader that reads nothing holds up nobody else, and its output is not kept in memory."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import uuid

import pytest
from support import killers, leftovers, runtimes, undefended
from support.killers import holds
from support.polling import until

MIB = 1024 * 1024
MOST_UNREAD = 4 * MIB
MOST_GROWTH = 64 * MIB
# More than what may be kept anywhere on the way, and little enough for a client that keeps it all.
WRITTEN = 96 * MIB


def resident() -> int:
    """Bytes of memory of this process."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def unread_output_harms_nobody(sandbox):
    """What waits for the reader is watched until it grows no more."""
    with holds():
        before = resident()
        # Characters, not zeros: what is kept takes memory.
        unread = sandbox.start(f"yes 'not read' | head -c {WRITTEN}", timeout=None)
        before_that, waiting = -1, 0
        try:
            while waiting == 0 or waiting > before_that:
                before_that, waiting = waiting, buffered(unread)
                assert waiting <= MOST_UNREAD, "what nobody reads is kept in memory"
                for number in range(20):
                    result = sandbox.exec(f"echo {number}", timeout=killers.PATIENCE)
                    assert result.stdout == b"%d\n" % number
            assert resident() - before < MOST_GROWTH
            assert unread.poll() is None
            assert sum(len(chunk) for chunk in unread.stdout) == WRITTEN
            assert unread.wait(killers.PATIENCE).exit_code == 0
        finally:
            unread.kill()


def buffered(process) -> int:
    """Bytes that came and were not read."""
    return sum(len(chunk) for chunk in list(process.stdout._chunks))


def test_an_unread_command_holds_up_nobody(shared, offered):
    offered("kill_tree")
    unread_output_harms_nobody(shared)


def test_without_credit_unread_output_fills_the_memory(tmp_path, monkeypatch):
    everything = property(lambda process: 1 << 40)
    monkeypatch.setattr("openrt_core.process.Process.window", everything)
    with (
        runtimes.opened("local", tmp_path) as runtime,
        runtime.create() as sandbox,
        pytest.raises(AssertionError, match="kept in memory"),
    ):
        unread_output_harms_nobody(sandbox)


# A client that is stopped -------------------------------------------------------------------------


def the_engine_goes_on(runtime, watch, seconds, *agent):
    """A client is stopped while a lot comes; what the engine is asked, it answers in time."""
    import docker

    mark = f"mark-{uuid.uuid4().hex}"
    with (
        killers.Client("reader", runtime.name, runtime.image, mark, *agent) as client,
        contextlib.closing(docker.from_env(timeout=seconds)) as engine,
    ):
        id = client.expect("id")[0]
        client.expect("flowing")
        client.process.send_signal(signal.SIGSTOP)
        name = f"openrt-{id}"
        try:
            wait_until_nothing_moves(mark)
            for _ in range(5):
                assert in_time(lambda: engine.api.inspect_container(name))["State"]["Running"]
            in_time(lambda: engine.api.remove_container(name, force=True))
        finally:
            client.process.kill()
            client.process.wait()
            watch.expect_nothing(id)


def in_time(call):
    """What the engine answers; no answer within its time is a failed check."""
    import requests.exceptions

    try:
        return call()
    except requests.exceptions.Timeout as error:
        raise AssertionError("the engine hangs") from error


def wait_until_nothing_moves(mark: str) -> None:
    """Until the writers are stuck: all that can be under way is. Seen only on the engine's own
    machine."""
    writers = leftovers.host_processes(mark)
    counts: list[int] = []

    def stuck() -> bool:
        counts.append(sum(written(pid) for pid in writers))
        return len(counts) > 50 and len(set(counts[-50:])) == 1

    until(stuck)


def written(pid: int) -> int:
    """Bytes that a process has written; 0 when that is not ours to know."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("wchar"):
                return int(line.split()[1])
    return 0


@pytest.fixture
def docker_runtime(tmp_path):
    with runtimes.opened("docker", tmp_path) as runtime:
        yield runtime


def test_a_stopped_client_does_not_stop_the_engine(docker_runtime):
    the_engine_goes_on(docker_runtime, leftovers.Watch(docker_runtime), 60)


def test_without_credit_a_stopped_client_stops_the_engine(docker_runtime, tmp_path):
    import docker

    program = undefended.build("undefended_credit", tmp_path)
    try:
        with pytest.raises(AssertionError, match="the engine hangs"):
            the_engine_goes_on(docker_runtime, leftovers.Watch(docker_runtime), 5, str(program))
    finally:
        with contextlib.closing(docker.from_env(timeout=60)) as engine:
            engine.volumes.get(f"openrt-agent-{undefended.digest(program)[:20]}").remove()
