"""Nothing is left of a sandbox whose user fails, is interrupted, or is killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import uuid

import pytest
from support import killers, runtimes
from support.fake_wrappers import FailsAfterExec, FailsAfterProvision
from support.leftovers import PATIENCE, Watch, host_processes
from support.polling import until

from openrt_core import AsyncSandbox, Sandbox
from openrt_core.hook_calls import Wrapper
from openrt_core.manager import Manager
from openrt_core.plugin import hookimpl


class Boom(Exception):
    """What a wrapper fails with."""


class Noticing:
    """A wrapper that keeps the ids of what is made, and tells when that began and was over."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.begun = threading.Event()
        self.over = threading.Event()

    @hookimpl(wrapper=True)
    def openrt_provision(self, spec):
        self.ids.append(spec.id)
        self.begun.set()
        try:
            return (yield)
        finally:
            self.over.set()


@pytest.fixture
def watch(runtime):
    """What was there before the test."""
    return Watch(runtime)


@pytest.fixture
def noticing():
    """Sees what the test makes."""
    return Noticing()


def managed(runtime, *wrappers) -> Manager:
    """A manager with these wrappers, the first outermost."""
    named = [Wrapper(f"wrapper{i}", wrapper) for i, wrapper in enumerate(wrappers)]
    return Manager.open(runtime.name, wrappers=named)


def create(runtime, manager) -> Sandbox:
    return Sandbox.create(manager=manager, **runtime.defaults({}))


def failing_wrapper_leaves_nothing(runtime, watch, noticing):
    manager = managed(runtime, FailsAfterProvision(Boom()), noticing)
    with pytest.raises(Boom):
        create(runtime, manager)
    watch.expect_nothing(*noticing.ids)


def test_a_wrapper_fails_after_provision(runtime, watch, noticing):
    failing_wrapper_leaves_nothing(runtime, watch, noticing)


def test_without_the_bare_teardown_a_failing_wrapper_leaks(tmp_path, noticing, monkeypatch):
    with runtimes.opened("local", tmp_path) as runtime:
        watch = Watch(runtime)
        monkeypatch.setattr(Manager, "_clean_up", lambda self, handle, error: None)
        monkeypatch.setattr("support.leftovers.PATIENCE", 3.0)
        with pytest.raises(AssertionError, match="left behind"):
            failing_wrapper_leaves_nothing(runtime, watch, noticing)
        manager = managed(runtime)
        manager.teardown(manager.connect(noticing.ids[0]))
        assert watch.left(noticing.ids) == []


def test_a_wrapper_fails_after_exec(runtime, watch, noticing):
    manager = managed(runtime, FailsAfterExec(Boom()), noticing)
    with create(runtime, manager) as sandbox:
        plain = Sandbox(Manager(runtime.name, manager.plugin), sandbox.handle, keep=True)
        mark = unlikely_seconds()
        with pytest.raises(Boom):
            sandbox.exec(["sleep", mark], timeout=None)
        until(lambda: not runs(plain, mark), killers.PATIENCE)
    watch.expect_nothing(*noticing.ids)


def unlikely_seconds() -> str:
    """For `sleep`: long, and different each time."""
    return str(10**9 + uuid.uuid4().int % 10**9)


def runs(sandbox, mark) -> bool:
    """Whether a process inside has the mark in its command line."""
    listed = sandbox.exec("cat /proc/[0-9]*/cmdline 2>/dev/null; true").stdout
    return mark.encode() in listed


# Ctrl-C and cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["id", "greeting", "started"])
def test_ctrl_c_leaves_nothing(runtime, watch, offered, moment):
    """At the beginning of create, near its end, and inside exec."""
    if moment == "greeting":
        offered("kill_tree")  # it is the agent that is greeted
    with sleeper(runtime) as client:
        id = client.expect("id")[0]
        client.expect(moment)
        client.process.send_signal(signal.SIGINT)
        assert client.process.wait(killers.PATIENCE) == -signal.SIGINT
    watch.expect_nothing(id)


def sleeper(runtime, *lease) -> killers.Client:
    """A client that makes a sandbox and sleeps in it."""
    return killers.Client("sleeper", runtime.name, runtime.image or "", unlikely_seconds(), *lease)


def test_a_cancelled_create_leaves_nothing(runtime, watch, noticing):
    manager = managed(runtime, noticing)

    async def main():
        making = asyncio.create_task(AsyncSandbox.create(manager=manager, **runtime.defaults({})))
        await asyncio.to_thread(noticing.begun.wait, killers.PATIENCE)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(main())
    # It goes on by itself; before that, nothing being there would mean nothing.
    assert noticing.over.wait(killers.PATIENCE)
    watch.expect_nothing(*noticing.ids)


def test_a_cancelled_exec_leaves_nothing(runtime, watch, noticing):
    manager = managed(runtime, noticing)
    mark = unlikely_seconds()

    async def main():
        async with await AsyncSandbox.create(manager=manager, **runtime.defaults({})) as sandbox:
            plain = Sandbox(manager, sandbox.handle, keep=True)
            running = asyncio.create_task(sandbox.exec(["sleep", mark], timeout=None))
            await asyncio.to_thread(until, lambda: runs(plain, mark), killers.PATIENCE)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.to_thread(until, lambda: not runs(plain, mark), killers.PATIENCE)

    asyncio.run(main())
    watch.expect_nothing(*noticing.ids)


# SIGKILL ------------------------------------------------------------------------------------------


MOMENTS = {
    # When it says "id" it has not yet made anything, or is about to: each time another moment.
    "local": ("id", "greeting", "created", "started") * 5,
    # Between the engine's create and start nothing ends a container but a prune.
    "docker": ("greeting", "created", "started", "started") * 5,
    "modal": ("created", "started", "started"),
}
AT_ONCE = 5


def test_killed_clients_leave_nothing(runtime, watch, offered):
    offered("kill_tree")
    moments = MOMENTS[runtime.name]
    # Modal does not end an exec whose client is gone: there the agent must miss its client.
    lease = ["15"] if runtime.name == "modal" else []
    ids = []
    for first in range(0, len(moments), AT_ONCE):
        group = moments[first : first + AT_ONCE]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(sleeper(runtime, *lease)) for _ in group]
            for client, moment in zip(clients, group, strict=True):
                ids += client.expect("id")
                client.expect(moment)
                client.process.kill()
    assert len(ids) == len(moments)
    if runtime.name == "local":
        until(lambda: not any(host_processes(id) for id in ids), PATIENCE)
        # The folders that hold their logs go when the runtime is used again.
        create(runtime, managed(runtime)).close()
    watch.expect_nothing(*ids)
