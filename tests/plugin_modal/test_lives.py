"""Sandboxes on Modal, listed by their tags."""

from __future__ import annotations

import uuid

from openrt_core import Sandbox


def listed(runtime, labels=None):
    return [handle.id for handle in Sandbox.list(labels, runtime.name)]


def test_those_that_run_are_listed_by_their_labels(runtime):
    team = {"team": uuid.uuid4().hex}
    with (
        runtime.create(labels=team, workdir="/tmp/here", user=4321) as one,
        runtime.create() as two,
    ):
        assert listed(runtime, team) == [one.id]
        assert {one.id, two.id} <= set(listed(runtime))
        assert listed(runtime, {"team": "another"}) == []
        (handle,) = Sandbox.list(team, runtime.name)
        assert handle == Sandbox.connect(one.id, runtime.name).handle
        assert (handle.workdir, handle.user, handle.labels) == ("/tmp/here", 4321, team)
    assert listed(runtime, team) == []
    assert two.id not in listed(runtime)


def test_a_sandbox_in_our_app_that_openrt_did_not_make_is_not_listed(runtime):
    import modal

    before = listed(runtime)
    client = modal.Client.from_credentials("ak-test", "as-test")
    app = modal.App.lookup("openrt", create_if_missing=True, client=client)
    image = modal.Image.from_registry(runtime.image).build(app)
    foreign = modal.Sandbox.create("sleep", "600", app=app, image=image, client=client)
    try:
        assert listed(runtime) == before
    finally:
        foreign.terminate()
