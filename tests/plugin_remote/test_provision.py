"""Starting, finding and stopping sandboxes, with all that the control plane may answer."""

from __future__ import annotations

import hashlib
import socket

import pytest

from openrt_core.errors import (
    AuthenticationError,
    EngineUnreachableError,
    ImageNotFoundError,
    ProvisionError,
    QuotaError,
    SandboxGoneError,
    SettingError,
    StartTimeoutError,
    UnsupportedError,
    VolumeError,
)
from openrt_core.events import Event
from openrt_core.models import Mount, SandboxHandle, SandboxSpec
from openrt_core.plugin import RuntimeContext
from openrt_remote.plugin import create
from openrt_remote.settings import Settings


@pytest.fixture
def make(fake, tmp_path):
    """``make(**fields)``: a sandbox of the fake, its working folder in the test's own."""

    def provision(**fields):
        return fake.provision(workdir=str(tmp_path / "work"), **fields)

    return provision


@pytest.fixture
def another(fake_plane, tmp_path):
    """``another(**settings)``: a runtime of another process, so to speak."""

    def runtime(**settings):
        values = {"api_url": fake_plane.url, "api_key": fake_plane.api_key, **settings}
        return create(
            RuntimeContext(
                name="remote",
                settings=Settings(**values),
                emit=lambda event: None,
                state_folder=tmp_path,
            )
        )

    return runtime


def bodies(plane, path):
    """The bodies of the calls of one kind."""
    return [seen.body for seen in plane.journal.requests("control", "POST", path)]


def test_a_sandbox_is_started_and_stopped(fake, fake_plane, make):
    handle = make(image="acme/image:1", secrets={"TOKEN": "hush"}, env={"A": "b"})
    assert handle.runtime == "remote"
    assert fake.plugin.openrt_status(handle).state == "running"
    (body,) = bodies(fake_plane, "/start")
    assert (body["session_id"], body["image"]) == (handle.id, "acme/image:1")
    assert body["command"] == "/usr/local/bin/openhands-agent-server --port 60000"
    assert body["runtime_class"] == "sysbox-runc"
    assert "resource_factor" not in body
    assert sorted(body["environment"]) == ["OH_BASH_EVENTS_DIR", "OH_CONVERSATIONS_PATH"]
    assert fake.plugin.openrt_teardown(handle) is True
    assert fake.plugin.openrt_teardown(handle) is False
    assert fake.plugin.openrt_status(handle).state == "gone"
    assert fake_plane.live() == []


def test_the_keys_stay_on_their_planes_and_out_of_the_handle(fake, fake_plane, make):
    handle = make()
    fake.plugin.openrt_status(handle)
    assert fake_plane.journal.leaks() == []
    assert fake_plane.journal.requests("sandbox")
    key = fake_plane.sandbox(handle.id).backend.session_key
    assert key not in repr(handle) + repr(dict(handle.native))
    assert fake_plane.api_key not in repr(fake.plugin._settings) + repr(fake.plugin._control())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"runtime_class": "none", "resource_factor": 4}, (None, 4)),
        ({"runtime_class": "gvisor"}, (None, None)),
        ({"runtime_class": "sysbox", "resource_factor": 1}, ("sysbox-runc", None)),
    ],
)
def test_class_and_size_are_asked_for(fake_plane, another, tmp_path, settings, expected):
    plugin = another(**settings)
    handle = plugin.openrt_provision(SandboxSpec(workdir=str(tmp_path / "work")), ())
    (body,) = bodies(fake_plane, "/start")
    assert (body.get("runtime_class"), body.get("resource_factor")) == expected
    plugin.openrt_teardown(handle)


def test_progress_is_told(fake, fake_plane, make):
    fake_plane.pod_status = "pending"
    with pytest.raises(StartTimeoutError, match="pending"):
        make(start_timeout=1.0)
    assert all(isinstance(event, Event) for event in fake.events)
    assert "the remote sandbox is pending" in [event.message for event in fake.events]
    assert fake_plane.live() == []


@pytest.mark.parametrize("state", ["CrashLoopBackOff", "failed", "unknown"])
def test_a_fatal_state_ends_it_with_the_reasons(fake_plane, make, state):
    fake_plane.pod_status = state
    fake_plane.restart_reasons = ["OOMKilled", "bad\x1b[31m"]
    with pytest.raises(ProvisionError) as caught:
        make()
    assert state.lower() in str(caught.value)
    assert "OOMKilled; bad?[31m" in str(caught.value)
    assert fake_plane.live() == []


def test_a_missing_image_is_told(fake_plane, make):
    fake_plane.images = frozenset({"there"})
    with pytest.raises(ImageNotFoundError, match="acme/none"):
        make(image="acme/none")
    assert fake_plane.live() == []


def test_a_wrong_key_is_told(fake_plane, another):
    with pytest.raises(AuthenticationError) as caught:
        another(api_key="wrong-key").openrt_provision(SandboxSpec(), ())
    assert "SANDBOX_API_KEY" in caught.value.hint
    assert "wrong-key" not in str(caught.value)
    assert len(fake_plane.journal.requests("control")) == 1


def test_a_session_key_that_is_not_taken_ends_it(fake_plane, make):
    fake_plane.wrong_session_key = True
    with pytest.raises(AuthenticationError):
        make()
    assert fake_plane.live() == []


def test_too_many_requests_are_repeated_a_few_times(fake_plane, make):
    fake_plane.journal.refuse("control", 429, path="/start", times=2, headers={"Retry-After": "0"})
    make()
    assert len(bodies(fake_plane, "/start")) == 3


def test_no_room_is_told(fake_plane, make):
    fake_plane.journal.refuse(
        "control", 429, path="/start", times=None, headers={"Retry-After": "0"}
    )
    with pytest.raises(QuotaError):
        make()
    assert len(bodies(fake_plane, "/start")) == 3


def test_a_quota_is_told_at_once(fake_plane, make):
    fake_plane.journal.refuse("control", 403, path="/start", detail="Quota exceeded")
    with pytest.raises(QuotaError, match="Quota exceeded"):
        make()


def test_a_start_whose_answer_is_lost_is_looked_up_before_it_is_repeated(fake_plane, make):
    fake_plane.journal.refuse("control", 502, path="/start")
    make()
    paths = [seen.path.split("/")[1] for seen in fake_plane.journal.requests("control")]
    assert paths[:3] == ["start", "sessions", "start"]


def test_a_session_that_is_taken_is_told_by_its_code_and_lives_on(fake, make):
    first = make(id="taken")
    with pytest.raises(ProvisionError) as caught:
        make(id="taken")
    assert caught.value.code == "provision.id_taken"
    assert fake.plugin.openrt_status(first).state == "running"


def test_a_session_that_an_earlier_attempt_may_have_taken_is_ours_to_clean_up(fake_plane, make):
    fake_plane.journal.refuse("control", 502, path="/start", times=2)
    fake_plane.journal.refuse("control", 409, path="/start")
    with pytest.raises(ProvisionError, match="409") as caught:
        make()
    assert caught.value.code == "provision"


def test_a_faulty_answer_is_asked_for_again(fake_plane, make):
    fake_plane.journal.refuse("control", 503, path="/sessions", times=2)
    make()


def test_without_retries_it_is_not(fake_plane, another):
    fake_plane.journal.refuse("control", 503, path="/sessions")
    with pytest.raises(EngineUnreachableError):
        another(enable_retries=False).openrt_status(SandboxHandle(runtime="remote", id="a"))


def test_nobody_there_is_told(another):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(EngineUnreachableError, match="cannot be reached"):
            another(api_url=url).openrt_provision(SandboxSpec(), ())


def test_teardown_works_with_the_id_alone(fake_plane, make, another):
    handle = SandboxHandle(runtime="remote", id=make().id)
    assert another().openrt_teardown(handle) is True
    assert another().openrt_teardown(handle) is False
    assert fake_plane.live() == []


def test_teardown_of_what_never_was(another):
    assert another().openrt_teardown(SandboxHandle(runtime="remote", id="never")) is False


def test_teardown_when_provision_never_returned(fake_plane, make, another, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    spec = SandboxSpec()
    plugin = another()
    monkeypatch.setattr("openrt_remote.plugin.wait_until_ready", interrupted)
    monkeypatch.setattr(plugin, "_stop_after", lambda *arguments: None)
    with pytest.raises(KeyboardInterrupt):
        plugin.openrt_provision(spec, ())
    assert [sandbox.session_id for sandbox in fake_plane.live()] == [spec.id]
    assert another().openrt_teardown(SandboxHandle(runtime="remote", id=spec.id)) is True
    assert fake_plane.live() == []


def test_states(fake, fake_plane, make):
    handle = make()
    sandbox = fake_plane.sandbox(handle.id)
    fake_plane.pause(sandbox)
    assert fake.plugin.openrt_status(handle).state == "paused"
    fake_plane.resume(sandbox)
    fake_plane.pod_status = "pending"
    assert fake.plugin.openrt_status(handle).state == "starting"
    fake_plane.pod_status = None
    fake_plane.drop(sandbox)
    status = fake.plugin.openrt_status(handle)
    assert (status.state, status.post_mortem.reason) == ("gone", "it is not found.")


def test_connect_resumes_and_refuses_what_is_gone(fake_plane, make, another):
    id = make().id
    fake_plane.pause(fake_plane.sandbox(id))
    assert another().openrt_connect(id).id == id
    assert fake_plane.sandbox(id).status == "running"
    fake_plane.stop(fake_plane.sandbox(id))
    for gone in (id, "never"):
        with pytest.raises(SandboxGoneError):
            another().openrt_connect(gone)


def test_a_spoilt_record_is_refused(fake_plane, make, another):
    id = make().id
    record = fake_plane.sandbox(id).backend.root / f"tmp/.openrt-{id}/sandbox.json"
    record.write_text('{"workdir": "nowhere", "env": {}}')
    with pytest.raises(Exception, match="names no working folder"):
        another().openrt_connect(id)


def test_preflight_names_what_to_set(another):
    with pytest.raises(SettingError) as caught:
        another(api_key=None).openrt_preflight(SandboxSpec())
    assert "SANDBOX_API_KEY" in str(caught.value)
    assert "https://runtime.app.all-hands.dev" in caught.value.hint
    assert another(api_url=None)._control().url == "https://runtime.app.all-hands.dev"
    assert another().openrt_preflight(SandboxSpec(env={"A": "b"})) is True


def test_variables_that_no_shell_passes_on_are_refused(another):
    for name in ("a-b", "UID", "1a"):
        with pytest.raises(UnsupportedError, match=name):
            another().openrt_preflight(SandboxSpec(secrets={name: "hush"}))


def test_mounts_are_refused(another):
    with pytest.raises(VolumeError) as caught:
        another().openrt_mount(Mount(source="/src", target="/data"), SandboxSpec())
    assert "sandbox.files" in caught.value.hint


def test_secrets_do_not_reach_the_record(fake_plane, make):
    id = make(secrets={"TOKEN": "hush-hush"}, env={"A": "b"}).id
    record = fake_plane.sandbox(id).backend.root / f"tmp/.openrt-{id}/sandbox.json"
    assert '"A": "b"' in record.read_text()
    assert "hush-hush" not in record.read_text()
    digest = hashlib.sha256(b"hush-hush").hexdigest()[:16]
    assert digest not in str(bodies(fake_plane, "/start"))
