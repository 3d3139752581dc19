"""Sandboxes that live on without a client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from support.leftovers import Watch

from openrt_core import AsyncSandbox, Sandbox
from openrt_core.errors import SandboxGoneError, TransportError

PATIENCE = 60.0


@pytest.fixture
def kept(runtime, offered):
    """``kept(**arguments)``: a sandbox with ``keep``, removed after the test."""
    offered("keep")
    made = []

    def create(**arguments):
        sandbox = runtime.create(keep=True, **arguments)
        made.append(sandbox)
        return sandbox

    watch = Watch(runtime)
    yield create
    for sandbox in made:
        sandbox.kill()
    if made:
        watch.expect_nothing(*[sandbox.id for sandbox in made])


def test_a_kept_sandbox_outlives_its_closing_and_can_be_joined_again(runtime, kept):
    first = kept()
    first.exec("echo here > /tmp/file", check=True)
    running = first.start("sleep 1000", timeout=None)
    assert running.stdout is not None
    first.close()
    with pytest.raises(TransportError, match="closed here"):
        running.wait(PATIENCE)
    with Sandbox.connect(first.id, runtime.name) as second:
        assert second.exec("cat /tmp/file", check=True).text == "here\n"
        assert "sleep 1000" not in second.exec("ps w 2>/dev/null || ps ax").text
    with Sandbox.connect(first.id, manager=first.manager) as third:
        assert third.exec("cat /tmp/file", check=True).text == "here\n"


def test_only_the_last_use_lets_the_connection_go(kept):
    first = kept()
    running = first.start("read line; echo $line", stdin=True)
    with Sandbox.connect(first.id, manager=first.manager) as second:
        second.exec("true", check=True)
    assert running.stdin is not None
    running.feed_input(b"still there\n")
    assert running.stdout.read() == b"still there\n"
    assert running.wait(PATIENCE).ok


def test_async_close_keeps_it_as_well(runtime, kept):
    made = kept()

    async def use():
        async with await AsyncSandbox.connect(made.id, runtime.name) as joined:
            made.close()
            await joined.exec("echo here > /tmp/file", check=True)

    asyncio.run(use())
    with Sandbox.connect(made.id, runtime.name) as again:
        assert again.exec("cat /tmp/file").text == "here\n"


def test_it_ends_when_nobody_came_for_its_idle_limit(runtime, kept, offered):
    offered("idle_limit")
    sandbox = kept(idle_limit=0.5)
    sandbox.close()
    end = time.monotonic() + PATIENCE
    while sandbox.status().state != "gone":
        assert time.monotonic() < end
        time.sleep(0.1)
    with pytest.raises(SandboxGoneError):
        Sandbox.connect(sandbox.id, runtime.name)


def test_it_outlives_the_process_that_made_it(runtime, kept, offered):
    offered("keep")
    program = (
        "import sys\n"
        "from openrt_core import Sandbox\n"
        "name, image, end = sys.argv[1:]\n"
        "sandbox = Sandbox.create(name, keep=True, **({'image': image} if image else {}))\n"
        "sandbox.exec('echo from the other > /tmp/file', check=True)\n"
        "print(sandbox.id, flush=True)\n"
        "sys.stdin.read() if end == 'killed' else sandbox.close()\n"
    )
    for end in ("closed", "killed"):
        child = subprocess.Popen(
            [sys.executable, "-c", program, runtime.name, runtime.image or "", end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        id = child.stdout.readline().strip()
        assert id
        if end == "killed":
            child.kill()
        child.communicate()
        with Sandbox.connect(id, runtime.name) as sandbox:
            try:
                assert sandbox.exec("cat /tmp/file").text == "from the other\n"
            finally:
                assert sandbox.kill()
        Watch(runtime).expect_nothing(id)
