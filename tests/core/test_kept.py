# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
"""What lives on without a client: kept sandboxes and background commands."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from support.fake_runtime import SPEC, FakeControls, FakeRuntime, manage

from openrt_core import AsyncSandbox, Sandbox
from openrt_core.errors import PluginError, SettingError, TransportError, UnsupportedError
from openrt_core.models import BackgroundCommand, Command, Exit, OutputMode, SandboxHandle
from openrt_core.plugin import FEATURES, hookimpl
from openrt_core.process import STDERR, STDOUT, Process

KEPT = attrs.evolve(SPEC, keep=True)


class Letting(FakeRuntime):
    """A runtime that can let connections go."""

    @hookimpl
    def openrt_connect(self, id):
        return SandboxHandle(runtime=self.name, id=id)

    @hookimpl
    def openrt_disconnect(self, handle):
        self.log.append("disconnect")
        return True


def test_a_kept_sandbox_is_let_go_once_and_not_removed():
    runtime = Letting()
    sandbox = Sandbox.create(manager=manage(runtime), spec=KEPT)
    sandbox.close()
    sandbox.close()
    assert runtime.log == ["provision", "disconnect"]


def test_async_close_lets_it_go_as_well():
    runtime = Letting()

    async def use():
        async with await AsyncSandbox.create(manager=manage(runtime), spec=KEPT):
            pass

    asyncio.run(use())
    assert runtime.log == ["provision", "disconnect"]


def test_the_connection_goes_with_the_last_of_those_who_share_it():
    runtime = Letting()
    manager = manage(runtime)
    with Sandbox.create(manager=manager, spec=SPEC) as owner:
        for _ in range(2):
            Sandbox.connect(owner.id, manager=manager).close()
        assert "disconnect" not in runtime.log
    assert runtime.log[-1] == "teardown"
    Sandbox.connect("box", manager=manager).close()
    assert runtime.log[-1] == "disconnect"


class RefusesConnect:
    """Fails after the hook of the runtime."""

    def __init__(self, error):
        self.error = error

    @hookimpl(wrapper=True)
    def openrt_connect(self):
        yield
        raise self.error


@pytest.mark.parametrize("error", [PermissionError("policy"), KeyboardInterrupt()])
def test_a_connection_that_nobody_gets_is_let_go(error):
    runtime = Letting()
    with pytest.raises(type(error)) as caught:
        Sandbox.connect("box", manager=manage(runtime, w=RefusesConnect(error)))
    assert caught.value is error
    assert runtime.log == ["disconnect"]


def test_a_connection_that_others_use_stays_when_one_more_fails():
    runtime = Letting()
    manager = manage(runtime, w=RefusesConnect(PermissionError("policy")))
    with Sandbox.create(manager=manager, spec=SPEC):
        with pytest.raises(PermissionError):
            Sandbox.connect("box", manager=manager)
        assert "disconnect" not in runtime.log


class Decides:
    """Whether sandboxes are kept is its own to say."""

    def __init__(self, keep):
        self.keep = keep

    @hookimpl(wrapper=True)
    def openrt_prepare(self):
        return attrs.evolve((yield), keep=self.keep)


@pytest.mark.parametrize("keep", [True, False])
def test_closing_goes_by_what_a_wrapper_made_of_keep(keep):
    asked = attrs.evolve(SPEC, keep=not keep)
    runtime = Letting()
    with Sandbox.create(manager=manage(runtime, w=Decides(keep)), spec=asked) as sandbox:
        assert sandbox.keep is keep
    assert runtime.alive == ({"box"} if keep else set())

    async def use():
        manager = manage(runtime, w=Decides(keep))
        async with await AsyncSandbox.create(manager=manager, spec=asked) as sandbox:
            assert sandbox.keep is keep

    runtime.alive.clear()
    asyncio.run(use())
    assert runtime.alive == ({"box"} if keep else set())


def test_a_runtime_without_the_hook_keeps_its_connection():
    runtime = FakeRuntime()
    sandbox = Sandbox.create(manager=manage(runtime), spec=KEPT)
    sandbox.close()
    assert runtime.log == ["provision"]
    assert sandbox.manager.disconnect(sandbox.handle) is False


# Background commands ------------------------------------------------------------------------------


def listed(id):
    return BackgroundCommand(
        id=id, command="x", pid=1, exit=None, stdout_kept=(0, 1), stderr_kept=(0, 0)
    )


class Remembering(FakeRuntime):
    """A runtime with background commands."""

    answer: object = None

    @hookimpl
    def openrt_list_commands(self, handle):
        return [listed("b"), listed("a")] if self.answer is None else self.answer

    @hookimpl
    def openrt_attach(self, handle, command_id, offsets, process):
        self.log.append(f"attach {command_id} {offsets}")
        controls = FakeControls(process)
        self.controls.append(controls)
        process.attach(controls)
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is not None:
            return self.answer
        process.lost(STDOUT, 5)
        process.feed(STDOUT, b"out")
        process.lost(STDERR, 1)
        process.exited(Exit(code=3))
        return process

    @hookimpl
    def openrt_forget_command(self, handle, command_id):
        return command_id == "a"


def test_background_commands():
    runtime = Remembering()
    with Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox:
        assert [command.id for command in sandbox.commands()] == ["a", "b"]
        process: Any = sandbox.attach("a", 1, 2)
        assert runtime.log[-1] == "attach a (1, 2)"
        assert (process.stdout.read(), process.stdout.dropped) == (b"out", 5)
        assert process.stderr.dropped == 1
        result = sandbox.attach("a", output=OutputMode.CAPTURE).wait()
        assert (result.stdout_dropped, result.stderr_dropped, result.exit_code) == (5, 1, 3)
        assert (sandbox.forget("a"), sandbox.forget("b")) == (True, False)


def test_background_commands_of_async_code():
    async def use():
        async with await AsyncSandbox.create(manager=manage(Remembering()), spec=SPEC) as sandbox:
            assert [command.id for command in await sandbox.commands()] == ["a", "b"]
            assert (await (await sandbox.attach("a"))).exit_code == 3
            assert await sandbox.forget("a")
            await (await sandbox.start("x", background=True))

    asyncio.run(use())


def test_a_command_in_the_background_has_no_limit_unless_it_is_given_one():
    runtime = FakeRuntime()
    with Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox:
        sandbox.start("x")
        sandbox.start("x", background=True)
        sandbox.start("x", background=True, timeout=5)
    assert [(c.background, c.timeout) for c in runtime.commands] == [
        (False, 120),
        (True, None),
        (True, 5),
    ]


def test_a_runtime_without_background_commands():
    runtime = FakeRuntime(features=frozenset(FEATURES) - {"background"})
    with Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox:
        with pytest.raises(UnsupportedError, match="background"):
            sandbox.start("x", background=True)
        for call in (sandbox.commands, lambda: sandbox.attach("a"), lambda: sandbox.forget("a")):
            with pytest.raises(UnsupportedError):
                call()
    assert "exec" not in runtime.log


@pytest.mark.parametrize("offsets", [(-1, 0), (0, 1 << 63), (0.5, 0), (True, 0)])
def test_an_offset_that_is_none(offsets):
    runtime = Remembering()
    with (
        Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox,
        pytest.raises(SettingError, match="offset"),
    ):
        sandbox.attach("a", *offsets)


def test_attaching_that_fails_does_not_kill_the_command():
    runtime = Remembering()
    with Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox:
        runtime.answer = TransportError("broke")
        with pytest.raises(TransportError, match="broke"):
            sandbox.attach("a")
        runtime.answer = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            sandbox.attach("a")
        runtime.answer = Process(Command(argv=("y",)))
        with pytest.raises(PluginError, match="foreign"):
            sandbox.attach("a")
        runtime.answer = ["a"]
        with pytest.raises(PluginError, match="BackgroundCommand"):
            sandbox.commands()
    assert not any(controls.killed.is_set() for controls in runtime.controls)
    assert all(controls.process.done for controls in runtime.controls)
