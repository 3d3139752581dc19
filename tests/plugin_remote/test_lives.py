"""Sandboxes as wholes: listed, paused, resumed, and left behind on purpose."""

from __future__ import annotations

import uuid

import pytest

from openrt_core.errors import ProvisionError, SandboxGoneError
from openrt_core.models import SandboxHandle
from openrt_remote import answers


@pytest.fixture
def make(fake, tmp_path):
    """``make(**fields)``: a sandbox of the fake, its working folder in the test's own."""

    def provision(**fields):
        return fake.provision(workdir=str(tmp_path / "work"), **fields)

    return provision


def calls(plane, path):
    """How often one call of the control plane was made."""
    return len(plane.journal.requests("control", "POST", path))


def listed(remote, **labels):
    return sorted(handle.id for handle in remote.plugin.openrt_list(labels))


def test_those_that_are_there_are_listed_paused_ones_too(fake, make):
    assert listed(fake) == []
    one, two = make(), make()
    fake.plugin.openrt_pause(two)
    assert listed(fake) == sorted([one.id, two.id])
    assert listed(fake, team="a") == []
    fake.plugin.openrt_teardown(one)
    assert listed(fake) == [two.id]


def test_those_of_other_clients_with_ids_that_ours_never_have_are_passed_over(fake, fake_plane):
    fake_plane.start("Not One Of Ours", "image", fake_plane.spare)
    assert listed(fake) == []


@pytest.mark.parametrize(
    "value",
    [{}, {"runtimes": {}}, {"runtimes": [1]}, {"runtimes": [{"session_id": "a"}]}],
    ids=str,
)
def test_a_list_that_is_none_is_refused(value):
    with pytest.raises(answers.InvalidAnswer):
        answers.sessions(value)


def test_a_foreign_answer_to_a_list_is_told(fake, fake_plane, monkeypatch):
    monkeypatch.setattr(answers, "JSON_LIMIT", 4)
    with pytest.raises(ProvisionError):
        fake.plugin.openrt_list({})


def test_pause_and_resume_say_whether_they_did(fake, make, fake_plane):
    handle = make()
    assert fake.plugin.openrt_pause(handle) is True
    assert fake.plugin.openrt_pause(handle) is False
    assert fake.plugin.openrt_status(handle).state == "paused"
    assert fake.plugin.openrt_resume(handle) is True
    assert fake.plugin.openrt_resume(handle) is False
    assert fake.plugin.openrt_status(handle).state == "running"
    assert (calls(fake_plane, "/pause"), calls(fake_plane, "/resume")) == (1, 1)


def test_a_command_wakes_a_paused_sandbox(real):
    real.plugin.openrt_pause(real.handle)
    assert real.run(real.handle, "echo", "on").stdout == b"on\n"
    assert real.plugin.openrt_status(real.handle).state == "running"


@pytest.mark.parametrize("hook", ["openrt_pause", "openrt_resume"])
def test_what_is_not_there_can_be_neither(fake, make, hook):
    handle = make()
    fake.plugin.openrt_teardown(handle)
    nobody = SandboxHandle(runtime="remote", id=uuid.uuid4().hex)
    for gone in (handle, nobody):
        with pytest.raises(SandboxGoneError):
            getattr(fake.plugin, hook)(gone)


def test_one_that_is_kept_is_paused_when_it_is_closed(fake, make, fake_plane):
    handle = make(keep=True)
    assert fake.plugin.openrt_disconnect(handle) is True
    assert fake.plugin.openrt_status(handle).state == "paused"
    assert fake.plugin.openrt_disconnect(handle) is False
    assert calls(fake_plane, "/pause") == 1
    # Whoever connects wakes it.
    assert fake.plugin.openrt_connect(handle.id).id == handle.id
    assert fake.plugin.openrt_status(handle).state == "running"


def test_it_is_left_running_when_the_setting_says_so(fake, fake_plane, tmp_path):
    remote = type(fake)(fake_plane, tmp_path, pause_closed=False)
    handle = remote.provision(workdir=str(tmp_path / "work"), keep=True)
    remote.plugin.openrt_disconnect(handle)
    assert remote.plugin.openrt_status(handle).state == "running"


def test_one_that_was_only_joined_is_left_running(fake, make, fake_plane, tmp_path):
    handle = make(keep=True)
    guest = type(fake)(fake_plane, tmp_path)
    guest.plugin.openrt_connect(handle.id)
    assert guest.plugin.openrt_disconnect(handle) is True
    assert fake.plugin.openrt_status(handle).state == "running"


def test_one_that_ended_meanwhile_is_no_error_at_closing(fake, make, fake_plane):
    handle = make(keep=True)
    fake_plane.stop(fake_plane.sandbox(handle.id))
    fake.plugin.openrt_disconnect(handle)
    assert calls(fake_plane, "/pause") == 0
