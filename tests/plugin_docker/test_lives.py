"""Sandboxes as wholes: listed, paused, resumed, kept as an image."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from support.polling import until

from openrt_core import AsyncSandbox, Sandbox
from openrt_core.errors import ProvisionError, SandboxGoneError, SettingError
from openrt_core.models import OutputMode


@pytest.fixture
def team():
    """A label of this test's own."""
    return {"openrt-test-team": uuid.uuid4().hex}


@pytest.fixture
def listed(runtime):
    """The ids of the sandboxes with these labels."""
    return lambda labels=None: [h.id for h in Sandbox.list(labels, runtime.name)]


def test_those_that_run_are_listed_by_their_labels(runtime, listed, team):
    other = {"openrt-test-team": "another"}
    with runtime.create(labels=team) as one, runtime.create(labels={**team, "n": "2"}) as two:
        assert listed(team) == sorted([one.id, two.id])
        assert listed({**team, "n": "2"}) == [two.id]
        assert {one.id, two.id} <= set(listed())
        assert listed(other) == []
        asked = asyncio.run(AsyncSandbox.list(team, runtime.name))
        assert [h.id for h in asked] == listed(team)
    assert listed(team) == []


def test_a_listed_handle_is_that_of_connect(runtime, team):
    with runtime.create(labels=team, workdir="/tmp/here", user=4321) as sandbox:
        (handle,) = Sandbox.list(team, runtime.name)
        assert handle == Sandbox.connect(sandbox.id, runtime.name).handle
        assert (handle.workdir, handle.user, handle.labels) == ("/tmp/here", 4321, team)


def test_labels_of_the_image_are_not_the_sandboxs(runtime, engine):
    with runtime.create() as sandbox:
        ours = engine.images.get(runtime.image).labels
        assert ours, "the test image has labels"
        assert Sandbox.connect(sandbox.id, runtime.name).handle.labels == {}
        assert sandbox.id not in [h.id for h in Sandbox.list(ours, runtime.name)]


def test_a_container_with_our_label_but_not_our_name_is_not_listed(runtime, engine, listed):
    id = uuid.uuid4().hex
    foreign = engine.containers.create(runtime.image, ["none"], labels={"openrt.id": id})
    try:
        assert id not in listed()
    finally:
        foreign.remove()


def test_what_nobody_of_us_would_write_is_not_listed(runtime, engine, listed):
    id = uuid.uuid4().hex
    foreign = engine.containers.create(
        runtime.image,
        ["none"],
        name=f"openrt-{id}",
        labels={"openrt.id": id, "openrt.workdir": "not absolute", "openrt.labels": "[[]]"},
    )
    try:
        assert id not in listed()
    finally:
        foreign.remove()


def test_a_paused_sandbox_stands_still_and_goes_on(runtime, listed, team):
    with runtime.create(labels=team) as sandbox:
        ticking = sandbox.start("while :; do :; done", output=OutputMode.DISCARD, timeout=None)
        try:
            assert sandbox.pause() is True
            assert sandbox.pause() is False
            assert sandbox.status().state == "paused"
            assert listed(team) == [sandbox.id]
            assert sandbox.resume() is True
            assert sandbox.resume() is False
            assert sandbox.status().state == "running"
            assert sandbox.exec("echo on").stdout == b"on\n"
        finally:
            ticking.kill()


def test_a_command_for_a_paused_sandbox_runs_once_it_is_resumed(runtime):
    with runtime.create() as sandbox:
        sandbox.pause()
        waiting = sandbox.start("echo done", output=OutputMode.CAPTURE, timeout=None)
        sandbox.resume()
        assert waiting.wait().stdout == b"done\n"


def test_a_paused_sandbox_can_be_removed(runtime, engine):
    sandbox = runtime.create()
    sandbox.pause()
    assert sandbox.kill() is True
    assert not engine.api.containers(all=True, filters={"name": f"openrt-{sandbox.id}"})


def test_a_paused_sandbox_can_be_connected_to_and_resumed(runtime):
    with runtime.create() as sandbox:
        sandbox.pause()
        with Sandbox.connect(sandbox.id, runtime.name) as guest:
            with pytest.raises(ProvisionError, match="paused") as caught:
                guest.exec("true")
            assert "resume" in caught.value.hint
            assert guest.resume() is True
            assert guest.exec("echo on").stdout == b"on\n"


def test_what_has_ended_can_be_neither_paused_nor_resumed(runtime, engine):
    sandbox = runtime.create()
    container = engine.containers.get(f"openrt-{sandbox.id}")
    container.kill()
    until(lambda: sandbox.status().state == "gone")
    for call in (sandbox.pause, sandbox.resume):
        with pytest.raises(SandboxGoneError):
            call()
    sandbox.kill()


# Snapshots ----------------------------------------------------------------------------------------


@pytest.fixture
def name(engine):
    """A name for an image, which is removed afterwards."""
    name = f"openrt-test/snapshot-{uuid.uuid4().hex}"
    yield name
    for image in engine.images.list(name):
        engine.images.remove(image.id, force=True)


def test_a_snapshot_has_the_files_and_nothing_else_of_the_sandbox(
    runtime, engine, name, team, listed, tmp_path
):
    tmp_path.chmod(0o755)
    (tmp_path / "mounted").write_text("not part of it")
    with runtime.create(
        labels=team,
        env={"PLAIN": "plain-value"},
        secrets={"KEY": "secret-value"},
        volumes=f"{tmp_path}:/data:ro",
        workdir="/home/here",
        user=1234,
    ) as sandbox:
        sandbox.exec("echo kept > /file", user=0, check=True)
        assert sandbox.snapshot(name) == f"{name}:latest"
        assert sandbox.exec("true").ok
        image = engine.images.get(name)
        with runtime.create(image=f"{name}:latest") as again:
            assert listed(team) == [sandbox.id]
            assert again.handle.labels == Sandbox.connect(again.id, runtime.name).handle.labels
            seen = again.exec("cat /file; ls /data; echo $PLAIN$KEY", user=0).stdout
    assert seen == b"kept\n\n"
    for secret in ("plain-value", "secret-value"):
        assert secret not in str(image.attrs)
    base = engine.images.get(runtime.image).attrs["Config"]
    config = image.attrs["Config"]
    for ours in (sandbox.id, team["openrt-test-team"], "openrt-agent"):
        assert ours not in str(config)
    assert (config["Cmd"], config["Entrypoint"] or None) == (base["Cmd"], base["Entrypoint"])
    assert {k: v for k, v in config["Labels"].items() if v} == base["Labels"]


def test_a_container_of_a_snapshot_is_no_sandbox(runtime, engine, name, listed, team):
    with runtime.create(labels=team) as sandbox:
        reference = sandbox.snapshot(f"{name}:v1")
        foreign = engine.containers.create(reference, ["none"])
        try:
            assert listed(team) == [sandbox.id]
            # Others use the engine, too: no more can be said of all that it has.
            assert not {"", foreign.id, foreign.name} & set(listed())
        finally:
            foreign.remove()
    assert reference == f"{name}:v1"


def test_a_paused_sandbox_can_be_kept_and_stays_paused(runtime, name):
    with runtime.create() as sandbox:
        sandbox.pause()
        sandbox.snapshot(name)
        assert sandbox.status().state == "paused"


def test_a_snapshot_has_a_name_that_an_image_can_have(runtime):
    with runtime.create() as sandbox, pytest.raises(SettingError, match="called 'Upper'"):
        sandbox.snapshot("Upper")


def test_what_has_ended_cannot_be_kept(runtime, engine, name):
    sandbox = runtime.create()
    engine.containers.get(f"openrt-{sandbox.id}").kill()
    until(lambda: sandbox.status().state == "gone")
    with pytest.raises(SandboxGoneError):
        sandbox.snapshot(name)
    sandbox.kill()
