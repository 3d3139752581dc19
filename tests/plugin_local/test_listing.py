"""Local sandboxes, listed."""

from __future__ import annotations

import pathlib

import pytest

from openrt_core import Sandbox
from openrt_core.errors import UnsupportedError


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """A state folder of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "openrt" / "local" / "sandboxes"


def listed(runtime, labels=None):
    return [h.id for h in Sandbox.list(labels, runtime.name)]


def test_those_that_live_are_listed_by_their_labels(runtime):
    assert listed(runtime) == []
    with runtime.create(labels={"a": "1"}) as one, runtime.create() as two:
        assert listed(runtime) == sorted([one.id, two.id])
        assert listed(runtime, {"a": "1"}) == [one.id]
        assert listed(runtime, {"a": "2"}) == []
        (handle,) = Sandbox.list({"a": "1"}, runtime.name)
        assert handle == Sandbox.connect(one.id, runtime.name).handle
        assert handle.labels == one.handle.labels == {"a": "1"}
    assert listed(runtime) == []


def test_what_is_no_sandbox_is_not_listed(runtime, own_state):
    with runtime.create() as sandbox:
        (own_state / "Stray Folder").mkdir()
        (own_state / "stray").write_text("")
        (own_state / "ended").mkdir()
        assert listed(runtime) == [sandbox.id]
    assert pathlib.Path(own_state, "stray").exists()


def test_a_sandbox_of_bubblewrap_cannot_be_paused_or_kept_as_an_image(runtime):
    with runtime.create() as sandbox:
        for call in (sandbox.pause, sandbox.resume, lambda: sandbox.snapshot("x")):
            with pytest.raises(UnsupportedError):
                call()
