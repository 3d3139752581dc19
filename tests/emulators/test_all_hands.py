"""The emulated All Hands platform does what its specification and the recorded exchanges say.

The sandboxes are fakes here; test_all_hands_server.py has the real server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from emulators.all_hands.calls import (
    START_BODY,
    control_client,
    exchange_file,
    run,
    sandbox_client,
    start,
)
from emulators.all_hands.fake_sandbox import FakeSandboxServer
from emulators.all_hands.journal import digest
from emulators.all_hands.plane import ControlPlane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A platform whose sandboxes are fakes."""
    with ControlPlane(server=None, state=tmp_path) as plane:
        yield plane


@pytest.mark.parametrize("key", [None, "wrong", "schlüssel".encode()])
def test_control_plane_refuses_a_wrong_key(plane: ControlPlane, key: str | bytes | None) -> None:
    headers = {} if key is None else {b"X-API-Key": key if isinstance(key, bytes) else key.encode()}
    assert httpx.get(f"{plane.url}/list", headers=headers).status_code == 401
    answer = httpx.post(
        f"{plane.url}/start", headers=headers, json={**START_BODY, "session_id": "s"}
    )
    assert answer.status_code == 401
    assert plane.live() == []


def test_a_session_from_start_to_stop(plane: ControlPlane) -> None:
    with control_client(plane) as client:
        assert client.get("/sessions/s").status_code == 404
        started = start(plane, "s")
        assert started.status_code == 201
        facts = started.json()
        assert (facts["status"], facts["session_id"]) == ("running", "s")
        assert client.get("/sessions/s").json()["pod_status"] == "ready"
        runtime = client.get(f"/runtime/{facts['runtime_id']}").json()
        assert runtime["runtime_id"] == facts["runtime_id"]
        assert [one["session_id"] for one in client.get("/list").json()["runtimes"]] == ["s"]
        assert start(plane, "s").status_code == 409
        batch = client.get("/sessions/batch", params={"ids": ["s", "other"]}).json()
        assert batch[0]["url"] == facts["url"]
        assert batch[1] is None
        stop = client.post("/stop", json={"runtime_id": facts["runtime_id"]})
        assert stop.status_code == 200
        assert client.get("/sessions/s").json()["status"] == "stopped"
        assert client.get("/list").json() == {"runtimes": []}
        assert httpx.get(f"{facts['url']}/health").status_code == 404
        assert start(plane, "s").status_code == 201


def test_unknown_runtimes_and_images(tmp_path: Path) -> None:
    images = frozenset({"there"})
    with (
        ControlPlane(server=None, state=tmp_path, images=images) as plane,
        control_client(plane) as client,
    ):
        assert client.post("/stop", json={"runtime_id": "rt-none"}).status_code == 404
        assert client.get("/image_exists", params={"image": "there"}).json()["image"]
        assert client.get("/image_exists", params={"image": "gone"}).json()["exists"] is False
        assert client.get("/registry_prefix").json()["registry_prefix"]
        start(plane, "s", image="gone")
        assert client.get("/sessions/s").json()["pod_status"] == "failed"


@pytest.mark.parametrize(
    "change",
    [
        {"command": "sleep infinity"},
        {"command": "openhands-agent-server --port 8000"},
        {"environment": {"A": 1}},
        {"image": ""},
        {"run_as_user": "root"},
    ],
)
def test_start_refuses_what_the_platform_could_not_run(
    plane: ControlPlane, change: dict[str, object]
) -> None:
    assert start(plane, "s", **change).status_code == 422
    assert plane.live() == []


def test_refusals_are_given_as_often_as_asked(plane: ControlPlane) -> None:
    plane.journal.refuse("control", 429, path="/start", times=2, headers={"Retry-After": "1"})
    answers = [start(plane, "s") for _ in range(3)]
    assert [one.status_code for one in answers] == [429, 429, 201]
    assert answers[0].headers["retry-after"] == "1"
    plane.journal.refuse("sandbox", 500, path="/health")
    url = answers[2].json()["url"]
    assert [httpx.get(f"{url}/health").status_code for _ in range(2)] == [500, 200]
    plane.journal.refuse("control", 402, path="/start", times=None, detail="quota")
    assert [start(plane, "t").json()["detail"] for _ in range(2)] == ["quota", "quota"]
    plane.journal.clear_refusals()
    assert start(plane, "t").status_code == 201


def test_a_pod_that_does_not_come_up(plane: ControlPlane) -> None:
    start(plane, "s")
    with control_client(plane) as client:
        plane.pod_status, plane.restart_reasons = "crashloopbackoff", ["OOMKilled"]
        facts = client.get("/sessions/s").json()
        assert facts["pod_status"] == "crashloopbackoff"
        assert (facts["restart_count"], facts["restart_reasons"]) == (1, ["OOMKilled"])
        plane.pod_status = "pending"
        assert [client.get("/sessions/s").json()["pod_status"] for _ in range(3)] == ["pending"] * 3


def test_a_pod_is_pending_then_running_then_ready(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(plane, "s")
    monkeypatch.setattr(plane.sandbox("s").backend, "healthy", lambda: False)
    with control_client(plane) as client:
        seen = [client.get("/sessions/s").json()["pod_status"] for _ in range(3)]
        assert seen == ["pending", "running", "running"]
        monkeypatch.undo()
        assert client.get("/sessions/s").json()["pod_status"] == "ready"


def test_a_paused_sandbox_answers_503_until_resume(plane: ControlPlane) -> None:
    facts = start(plane, "s").json()
    runtime = {"runtime_id": facts["runtime_id"]}
    with control_client(plane) as client:
        assert client.post("/pause", json=runtime).status_code == 200
        assert client.get("/sessions/s").json()["status"] == "paused"
        assert httpx.get(f"{facts['url']}/health").status_code == 503
        assert client.post("/resume", json=runtime).status_code == 200
        assert httpx.get(f"{facts['url']}/health").status_code == 200


def test_a_dropped_sandbox_is_gone(plane: ControlPlane) -> None:
    facts = start(plane, "s").json()
    plane.drop(plane.sandbox("s"), 504)
    assert httpx.get(f"{facts['url']}/health").status_code == 504
    with control_client(plane) as client:
        assert client.get("/sessions/s").json()["pod_status"] == "not found"


def test_a_wrong_session_key_is_refused_by_the_sandbox(plane: ControlPlane) -> None:
    plane.wrong_session_key = True
    with sandbox_client(start(plane, "s").json()) as client:
        answer = client.post("/api/bash/execute_bash_command", json={"command": "true"})
        assert answer.status_code == 401


def test_the_journal_tells_which_key_went_where(plane: ControlPlane) -> None:
    facts = start(plane, "s", environment={"TOKEN": "hush"}).json()
    with sandbox_client(facts) as client:
        run(client, "true")
    assert plane.journal.leaks() == []
    started = plane.journal.requests("control", "POST", "/start")[0]
    assert started.keys == {"x-api-key": digest(plane.api_key)}
    assert started.body is not None
    assert started.body["environment"] == {"TOKEN": digest("hush")}
    ran = plane.journal.requests("sandbox", "POST")[0]
    assert ran.keys == {"x-session-api-key": digest(facts["session_api_key"])}
    for secret in (plane.api_key, facts["session_api_key"], "hush"):
        assert secret not in repr(plane.journal.requests())


def test_the_journal_finds_keys_on_the_wrong_side(plane: ControlPlane) -> None:
    facts = start(plane, "s").json()
    with control_client(plane) as client:
        client.get("/list", headers={"X-Session-API-Key": facts["session_api_key"]})
        client.get("/list", params={"k": facts["session_api_key"]})
    httpx.get(f"{facts['url']}/health", headers={"Authorization": f"Bearer {plane.api_key}"})
    leaks = plane.journal.leaks()
    assert [(leak.side, leak.foreign) for leak in leaks] == [
        ("control", ("x-session-api-key",)),
        ("control", ("path",)),
        ("sandbox", ("authorization",)),
    ]


def test_fake_sandbox_answers_like_the_recorded_server(tmp_path: Path) -> None:
    headers = {}
    with FakeSandboxServer(tmp_path) as fake:
        headers["X-Session-API-Key"] = fake.session_key
        with httpx.Client(base_url=fake.url, headers=headers) as client:
            output = run(client, "echo hi; echo err >&2; exit 3")
            assert (output["exit_code"], output["stdout"], output["stderr"]) == (3, "hi\n", "err\n")
            slow = {"command": "echo before; sleep 60", "timeout": 1}
            output = client.post("/api/bash/execute_bash_command", json=slow).json()
            assert (output["exit_code"], output["stdout"]) == (-1, "before\n")
            exchange_file(client)
            file = {"file": b""}
            assert client.post("/api/file/upload?path=rel", files=file).status_code == 400
            assert client.get("/api/file/download?path=/../../etc/passwd").status_code == 400
        assert httpx.get(f"{fake.url}/health").json() == {"status": "ok"}
        assert httpx.get(f"{fake.url}/api/file/download?path=/x").status_code == 401
        assert fake.requests[0].keys == {"x-session-api-key": digest(fake.session_key)}
