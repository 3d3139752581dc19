"""Sandboxes as wholes, on each runtime: listed, paused, kept as an image, on an image with more."""

from __future__ import annotations

import uuid

import pytest

from openrt_core import Sandbox
from openrt_core.errors import SandboxGoneError, UnsupportedError
from openrt_core.models import OutputMode


def ids(runtime, labels=None):
    return {handle.id for handle in Sandbox.list(labels, runtime.name)}


def test_a_sandbox_is_listed_as_long_as_it_is_there(runtime, offered):
    offered("list")
    with runtime.create() as sandbox:
        assert sandbox.id in ids(runtime)
    assert sandbox.id not in ids(runtime)


def test_labels_choose_what_is_listed(runtime, offered):
    offered("list")
    offered("labels")
    team = {"team": uuid.uuid4().hex}
    with runtime.create(labels={**team, "more": "1"}) as one, runtime.create() as other:
        assert ids(runtime, team) == {one.id}
        assert {one.id, other.id} <= ids(runtime)
        (handle,) = Sandbox.list(team, runtime.name)
        assert handle.labels == {**team, "more": "1"}


def test_a_paused_sandbox_says_so_and_goes_on(runtime, offered):
    offered("pause")
    offered("resume")
    with runtime.create() as sandbox:
        assert (sandbox.pause(), sandbox.pause()) == (True, False)
        assert sandbox.status().state == "paused"
        waiting = sandbox.start("echo done", output=OutputMode.CAPTURE, timeout=None)
        # A runtime may wake it for the command.
        assert sandbox.resume() in (True, False)
        assert waiting.wait().stdout == b"done\n"
        assert sandbox.resume() is False
        assert sandbox.status().state == "running"


def test_a_paused_sandbox_can_be_removed(runtime, offered):
    offered("pause")
    sandbox = runtime.create()
    sandbox.pause()
    assert sandbox.kill() is True
    assert sandbox.status().state == "gone"


@pytest.mark.parametrize("call", ["pause", "resume"])
def test_what_was_removed_can_be_neither_paused_nor_resumed(runtime, offered, call):
    offered(call)
    with runtime.create() as sandbox:
        manager, handle = sandbox.manager, sandbox.handle
    with pytest.raises(SandboxGoneError):
        getattr(manager, call)(handle)


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("pause", lambda sandbox: sandbox.pause()),
        ("resume", lambda sandbox: sandbox.resume()),
        ("snapshot", lambda sandbox: sandbox.snapshot("x")),
        ("expose", lambda sandbox: sandbox.expose(80)),
        ("list", lambda sandbox: Sandbox.list(manager=sandbox.manager)),
        (
            "build_image",
            lambda sandbox: Sandbox.create(manager=sandbox.manager, image_commands=["true"]),
        ),
    ],
)
def test_what_is_no_capability_is_unsupported(shared, capability, call):
    if capability in shared.capabilities:
        pytest.skip("it is offered")
    with pytest.raises(UnsupportedError):
        call(shared)
