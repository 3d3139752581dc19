# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
"""The optional hooks about sandboxes as wholes, through both façades."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from support.fake_runtime import SPEC, FakeRuntime, manage

from openrt_core import AsyncSandbox, Sandbox
from openrt_core.errors import PluginError, SandboxGoneError, SettingError, UnsupportedError
from openrt_core.models import SandboxHandle
from openrt_core.plugin import hookimpl


@attrs.define(eq=False)
class Whole(FakeRuntime):
    """Has every hook; ``paused`` and ``built`` say what was asked of it."""

    paused: set[str] = attrs.field(factory=set)
    built: list[tuple[object, ...]] = attrs.field(factory=list)

    @hookimpl
    def openrt_list(self, labels):
        found = [SandboxHandle(runtime=self.name, id=id, labels={"team": "a"}) for id in self.alive]
        return [h for h in found if labels.items() <= h.labels.items()]

    @hookimpl
    def openrt_pause(self, handle):
        ran = handle.id not in self.paused
        self.paused.add(handle.id)
        return ran

    @hookimpl
    def openrt_resume(self, handle):
        was = handle.id in self.paused
        self.paused.discard(handle.id)
        return was

    @hookimpl
    def openrt_snapshot(self, handle, name):
        return f"{name}:{handle.id}"

    @hookimpl
    def openrt_expose(self, handle, port):
        return f"http://{handle.id}:{port}"

    @hookimpl
    def openrt_build_image(self, base, commands, platform, rebuild):
        self.built.append((base, commands, platform, rebuild))
        return "built"


class AroundAll:
    """A wrapper that writes down which of the hooks ran."""

    def __init__(self):
        self.ran = []

    @hookimpl(wrapper=True)
    def openrt_list(self):
        self.ran.append("list")
        return (yield)

    @hookimpl(wrapper=True)
    def openrt_pause(self):
        self.ran.append("pause")
        return (yield)

    @hookimpl(wrapper=True)
    def openrt_build_image(self):
        self.ran.append("build_image")
        return (yield)


def test_all_of_them_blocking():
    manager = manage(Whole())
    with Sandbox.create(manager=manager, spec=SPEC) as sandbox:
        assert [h.id for h in Sandbox.list(manager=manager)] == ["box"]
        assert Sandbox.list({"team": "b"}, manager=manager) == []
        assert (sandbox.pause(), sandbox.pause()) == (True, False)
        assert (sandbox.resume(), sandbox.resume()) == (True, False)
        assert sandbox.snapshot("kept") == "kept:box"
        assert sandbox.expose(80) == "http://box:80"


def test_all_of_them_async():
    async def main():
        manager = manage(Whole())
        async with await AsyncSandbox.create(manager=manager, spec=SPEC) as sandbox:
            assert [h.id for h in await AsyncSandbox.list(manager=manager)] == ["box"]
            assert (await sandbox.pause(), await sandbox.resume()) == (True, True)
            assert await sandbox.snapshot("kept") == "kept:box"
            assert await sandbox.expose(80) == "http://box:80"

    asyncio.run(main())


def test_without_the_hook_each_is_unsupported_before_any_wrapper_runs():
    wrapper = AroundAll()
    manager = manage(FakeRuntime(), w=wrapper)
    sandbox = Sandbox.create(manager=manager, spec=SPEC)
    for call, what in (
        (lambda: Sandbox.list(manager=manager), "list"),
        (sandbox.pause, "pause"),
        (sandbox.resume, "resume"),
        (lambda: sandbox.snapshot("x"), "snapshot"),
        (lambda: sandbox.expose(80), "expose"),
    ):
        with pytest.raises(UnsupportedError, match=f"'fake' has no {what}"):
            call()
    assert wrapper.ran == []


def test_closed_here_means_gone():
    sandbox = Sandbox.create(manager=manage(Whole()), spec=SPEC)
    sandbox.close()
    for call in (sandbox.pause, sandbox.resume, lambda: sandbox.expose(1)):
        with pytest.raises(SandboxGoneError, match="closed here"):
            call()


@pytest.mark.parametrize("port", [0, 65536, True, "80"])
def test_what_is_no_port_is_refused(port):
    sandbox = Sandbox.create(manager=manage(Whole()), spec=SPEC)
    with pytest.raises(SettingError, match="no port"):
        sandbox.expose(port)


@pytest.mark.parametrize("labels", [{"a": 1}, {1: "a"}])
def test_labels_are_texts(labels):
    with pytest.raises(SettingError, match="labels="):
        Sandbox.list(labels, manager=manage(Whole()))


class ListsOthers(FakeRuntime):
    listed: object = None

    @hookimpl
    def openrt_list(self):
        return self.listed


@pytest.mark.parametrize("listed", [None, ["box"], [SandboxHandle(runtime="other", id="box")]])
def test_what_is_listed_must_be_handles_of_the_runtime(listed):
    runtime = ListsOthers()
    runtime.listed = listed
    with pytest.raises(PluginError, match="openrt_list of the runtime 'fake'"):
        manage(runtime).list()


def test_image_commands_make_the_image_that_is_provisioned():
    runtime = Whole()
    wrapper = AroundAll()
    spec = attrs.evolve(SPEC, image="base", image_commands=("a", "b"), image_rebuild=True)
    manage(runtime, w=wrapper).create(spec)
    assert runtime.built == [("base", ("a", "b"), None, True)]
    assert (runtime.specs[0].image, runtime.specs[0].image_commands) == ("built", ())
    assert wrapper.ran == ["build_image"]


def test_image_commands_are_refused_where_no_image_can_be_built():
    runtime = FakeRuntime()
    with pytest.raises(UnsupportedError, match="image_commands"):
        manage(runtime).create(attrs.evolve(SPEC, image_commands=("a",)))
    assert runtime.log == []


@pytest.mark.parametrize("commands", [("",), (" \n",), ("a\0",), (1,)])
def test_image_commands_are_texts(commands):
    with pytest.raises(SettingError, match="image_commands"):
        attrs.evolve(SPEC, image_commands=commands)


def test_a_mount_that_cannot_be_is_refused_with_the_way_to_copy():
    runtime = FakeRuntime(features=frozenset())
    with pytest.raises(UnsupportedError) as caught:
        Sandbox.create(manager=manage(runtime), volumes="/src:/workspace")
    assert "sandbox.files" in caught.value.hint
