"""Commands that belong to the sandbox and not to whoever started them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from openrt_core import AsyncSandbox, OutputMode, Sandbox
from openrt_core.errors import CommandError, CommandTimedOutError, SettingError

PATIENCE = 60.0
WAIT_FOR = "while ! test -e {0}; do sleep 0.05; done; "

pytestmark = pytest.mark.usefixtures("background")


@pytest.fixture
def background(offered):
    """Only where the runtime has such commands."""
    offered("background")


@pytest.fixture
def kept(runtime, offered):
    """A kept sandbox, removed after the test."""
    offered("keep")
    sandbox = runtime.create(keep=True)
    yield sandbox
    sandbox.kill()


def read(process, wanted):
    """Reads until there are so many bytes."""
    data = b""
    while len(data) < wanted:
        chunk = process.stdout.read(wanted - len(data))
        assert chunk, data
        data += chunk
    return data


def listed(sandbox, id):
    """The command of this id, or None."""
    return next((command for command in sandbox.commands() if command.id == id), None)


# Another process, which reads on from an offset until the command ends.
READ_ON = """
import json, sys
from openrt_core import Sandbox
name, sandbox_id, id, offset = sys.argv[1:]
with Sandbox.connect(sandbox_id, name) as sandbox:
    print("attached", *[c.running for c in sandbox.commands() if c.id == id], flush=True)
    process = sandbox.attach(id, stdout_offset=int(offset))
    sandbox.exec("touch /tmp/go", check=True)
    out = process.stdout.read().decode()
    result = process.wait(60)
    print(json.dumps([out, process.stderr.read().decode(), result.exit_code]))
"""


def read_on(runtime, sandbox_id, id, offset):
    done = subprocess.run(
        [sys.executable, "-c", READ_ON, runtime.name, sandbox_id, id, str(offset)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    first, last = done.stdout.splitlines()
    assert first == "attached True"
    return json.loads(last)


SCRIPT = "echo first; echo problem >&2; " + WAIT_FOR.format("/tmp/go") + "echo second; exit 7"


def test_another_process_reads_on_while_the_first_is_there(runtime, shared):
    shared.exec("rm -f /tmp/go")
    process = shared.start(SCRIPT, background=True)
    assert read(process, 6) == b"first\n"
    out, err, code = read_on(runtime, shared.id, process.background_id, 6)
    assert (out, err, code) == ("second\n", "problem\n", 7)
    assert process.wait(PATIENCE).exit_code == 7
    assert process.stdout.read() == b"second\n"
    assert shared.forget(process.background_id)


def test_another_process_reads_on_after_the_first_has_gone(runtime, kept):
    process = kept.start(SCRIPT, background=True)
    assert read(process, 3) == b"fir"
    kept.close()
    out, err, code = read_on(runtime, kept.id, process.background_id, 3)
    assert (out, err, code) == ("st\nsecond\n", "problem\n", 7)
    with Sandbox.connect(kept.id, runtime.name) as again:  # and after its end
        late = again.attach(process.background_id, output=OutputMode.CAPTURE)
        result = late.wait(PATIENCE)
        assert (result.stdout, result.stderr) == (b"first\nsecond\n", b"problem\n")
        assert again.forget(process.background_id)
        assert again.commands() == []


def test_the_list_says_what_runs_and_what_has_ended(shared):
    running = shared.start(["sleep", "1000"], background=True)
    ended = shared.start("printf 12345; exit 3", background=True, output=OutputMode.DISCARD)
    assert ended.wait(PATIENCE).exit_code == 3
    assert listed(shared, running.background_id).running  # at once
    end = time.monotonic() + PATIENCE
    while running.pid is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    one = listed(shared, running.background_id)
    assert (one.running, one.command, one.pid) == (True, "sleep 1000", running.pid)
    two = listed(shared, ended.background_id)
    assert (two.running, two.exit.code, two.stdout_kept, two.stderr_kept) == (
        False, 3, (0, 5), (0, 0),
    )  # fmt: skip
    with pytest.raises(CommandError) as caught:
        shared.forget(running.background_id)
    assert caught.value.code == "command.running"
    shared.attach(running.background_id).kill()
    assert running.wait(PATIENCE).signal == signal.SIGKILL
    for process in (running, ended):
        assert shared.forget(process.background_id)
        assert not shared.forget(process.background_id)


def test_a_command_in_the_background_has_a_limit_only_when_it_is_given_one(shared):
    process = shared.start("sleep 1000", background=True, timeout=0.3)
    with pytest.raises(CommandTimedOutError):
        process.wait(PATIENCE)
    assert listed(shared, process.background_id).exit.timed_out
    unlimited = shared.start("sleep 1000", background=True)
    assert unlimited.command.timeout is None
    unlimited.kill()
    assert unlimited.wait(PATIENCE).signal == signal.SIGKILL


def test_what_nobody_read_is_lost_from_its_beginning_and_counted(shared):
    mib = 1 << 20
    process = shared.start(
        "head -c 3145728 /dev/zero | tr '\\0' x; echo end", background=True,
        output=OutputMode.DISCARD,
    )  # fmt: skip
    process.wait(PATIENCE)
    late = shared.attach(process.background_id, stdout_offset=mib)
    out = late.stdout.read()
    assert out == b"x" * (mib - 4) + b"end\n"
    assert late.stdout.dropped == mib + 4
    captured = shared.attach(process.background_id, output=OutputMode.CAPTURE).wait(PATIENCE)
    assert captured.stdout == out
    assert captured.stdout_dropped == 2 * mib + 4
    # Without any reader the end is found all the same.
    assert shared.attach(process.background_id).wait(PATIENCE).ok
    assert shared.forget(process.background_id)


def test_what_is_not_there_or_cannot_be(shared):
    for id in ("none", "no/name", "n" * 65):
        with pytest.raises(CommandError) as caught:
            shared.attach(id).wait(PATIENCE)
        assert caught.value.code == "command.unknown"
        assert not shared.forget(id)
    with pytest.raises(SettingError):
        shared.attach("none", stdout_offset=-1)
    with pytest.raises(SettingError):
        shared.start("cat", background=True, stdin=True)
    with pytest.raises(CommandError) as caught:
        shared.start(["no-such-program"], background=True).wait(PATIENCE)
    assert caught.value.code == "command.not_found"


def test_async(runtime, shared):
    async def use():
        joined: Any = await AsyncSandbox.connect(shared.id, runtime.name)
        async with joined:
            process = await joined.start("echo hello", background=True)
            assert await process.stdout.read_async() == b"hello\n"
            assert (await process).ok
            again = await joined.attach(process.background_id, 2)
            assert await again.stdout.read_async() == b"llo\n"
            assert process.background_id in [c.id for c in await joined.commands()]
            assert await joined.forget(process.background_id)

    asyncio.run(use())


def test_nothing_of_it_outlives_its_sandbox(runtime, offered):
    sandbox = runtime.create()
    process = sandbox.start("sleep 1000", background=True)
    end = time.monotonic() + PATIENCE
    while process.pid is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    sandbox.close()
    with pytest.raises(Exception, match="closed here"):
        process.wait(PATIENCE)
