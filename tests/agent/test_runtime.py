"""The base class of runtimes, over agents that are children of the test."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from support.agents import PATIENCE, linux, until

from openrt_agent import AgentRuntime, FdEndpoint, agent_path, linger_of
from openrt_core.errors import FileMissingError, TransportError, UnsupportedError
from openrt_core.models import Command, SandboxHandle, SandboxSpec
from openrt_core.plugin import RuntimeContext
from openrt_core.process import Process

pytestmark = linux


class Runtime(AgentRuntime):
    """Joins sandboxes whose id begins with g."""

    features: frozenset[str] = frozenset()

    def __init__(self, context):
        super().__init__(context)
        self.children = []

    def spawn(self):
        child = subprocess.Popen(
            [str(agent_path()), "serve", "--socket", "none"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.children.append(child)
        assert child.stdin is not None
        assert child.stdout is not None
        ends = os.dup(child.stdout.fileno()), os.dup(child.stdin.fileno())
        child.stdin.close()
        child.stdout.close()
        return FdEndpoint(*ends)

    def join(self, handle):
        return self.spawn() if handle.id.startswith("g") else super().join(handle)


@pytest.fixture
def runtime(tmp_path):
    context = RuntimeContext(name="test", emit=lambda event: None, state_folder=tmp_path)
    runtime = Runtime(context)
    yield runtime
    for id in ("own", "guest"):
        runtime.release(id)
    for child in runtime.children:
        try:
            child.wait(PATIENCE)
        finally:
            child.kill()
            child.wait()


def handle(id, folder, **arguments):
    return SandboxHandle(runtime="test", id=id, workdir=str(folder), **arguments)


def execute(runtime, handle, script, **arguments):
    command = Command(argv=["/bin/sh", "-c", script], **arguments)
    process = Process(command)
    assert runtime.openrt_exec(handle, command, process) is process
    return process.wait(PATIENCE)


def test_the_environment_of_the_sandbox_lies_below_the_commands(runtime, tmp_path):
    runtime.adopt("own", runtime.spawn(), timeout=PATIENCE, env={"A": "1", "TOKEN": "s3cret"})
    own = handle("own", tmp_path)
    assert execute(runtime, own, "echo $A $TOKEN", env={"A": "2"}).stdout == b"2 s3cret\n"
    assert "s3cret" not in repr(vars(runtime.client(own)))


def test_the_workdir_is_made(runtime, tmp_path):
    runtime.adopt("own", runtime.spawn(), timeout=PATIENCE)
    own = handle("own", tmp_path / "w")
    assert execute(runtime, own, "pwd").stdout == f"{tmp_path}/w\n".encode()
    assert execute(runtime, own, "pwd", cwd="/").stdout == b"/\n"


def test_files(runtime, tmp_path):
    runtime.adopt("own", runtime.spawn(), timeout=PATIENCE)
    own, path = handle("own", tmp_path), str(tmp_path / "d" / "f")
    assert runtime.openrt_make_directory(own, str(tmp_path / "d"), 0o700, True, True, None)
    assert runtime.openrt_write_file(own, path, b"abc", 0o600, None) == 3
    assert runtime.openrt_read_file(own, path, None) == b"abc"
    assert runtime.openrt_stat_file(own, path, True, None).mode == 0o600
    assert runtime.openrt_rename_file(own, path, path + "2", None)
    assert [e.name for e in runtime.openrt_list_files(own, str(tmp_path / "d"), None)] == ["f2"]
    assert runtime.openrt_remove_file(own, str(tmp_path / "d"), True, None)
    with pytest.raises(FileMissingError):
        runtime.openrt_read_file(own, path, None)


def test_a_guest_joins_once_and_again_after_its_connection_ended(runtime, tmp_path):
    guest = handle("guest", tmp_path)
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda _: runtime.client(guest), range(8)))
    assert len(set(clients)) == 1
    assert len(runtime.children) == 1
    runtime.children[0].kill()
    runtime.children[0].wait()
    until(lambda: clients[0].closed, "the end was not seen")
    assert execute(runtime, guest, "echo hi").stdout == b"hi\n"
    assert len(runtime.children) == 2


def test_an_owner_whose_connection_ended_says_so(runtime, tmp_path):
    client = runtime.adopt("own", runtime.spawn(), timeout=PATIENCE)
    runtime.children[0].kill()
    until(lambda: client.closed, "the end was not seen")
    with pytest.raises(TransportError):
        execute(runtime, handle("own", tmp_path), "true")


def test_no_connection_and_no_way_to_join(runtime, tmp_path):
    with pytest.raises(UnsupportedError):
        runtime.openrt_read_file(handle("other", tmp_path), "/etc/passwd", None)
    runtime.release("other")


def test_release_ends_the_sandbox(runtime, tmp_path):
    runtime.adopt("own", runtime.spawn(), timeout=PATIENCE)
    runtime.release("own")
    assert runtime.children[0].wait(PATIENCE) is not None
    with pytest.raises(UnsupportedError):
        runtime.client(handle("own", tmp_path))


def test_disconnect_closes_the_stream_and_a_later_call_joins_again(runtime, tmp_path):
    guest = handle("guest", tmp_path)
    assert execute(runtime, guest, "true").ok
    before = runtime.client(guest)
    assert runtime.openrt_disconnect(guest) is True
    assert before.closed
    assert runtime.openrt_disconnect(guest) is False
    assert execute(runtime, guest, "true").ok


def test_only_a_kept_sandbox_lingers():
    spec = SandboxSpec(id="own", idle_limit=5)
    assert linger_of(spec) == 0
    assert linger_of(attrs.evolve(spec, keep=True)) == 5
    assert linger_of(SandboxSpec(id="own", keep=True)) == 3600
