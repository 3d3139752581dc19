"""The emulated All Hands platform with the real agent server in its sandboxes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from emulators.all_hands.calls import control_client, exchange_file, run, sandbox_client, start
from emulators.all_hands.plane import ControlPlane, Sandbox
from emulators.all_hands.server_process import ServerProcess, pids_in_namespace

_VENV = os.environ.get("OPENRT_AGENT_SERVER_VENV", "")
_SERVER = Path(_VENV) / "bin" / "agent-server"
_DEADLINE_S = 180.0
_STATES = ["pending", "running", "ready"]

pytestmark = pytest.mark.skipif(
    not _VENV, reason="OPENRT_AGENT_SERVER_VENV is unset: make it with install_server.sh DIR"
)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.1)


@pytest.fixture(scope="module")
def real_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A platform whose sandboxes run the real server."""
    with ControlPlane(server=_SERVER, state=tmp_path_factory.mktemp("all-hands")) as plane:
        yield plane


@pytest.fixture(scope="module")
def real_sandbox(real_plane: ControlPlane) -> dict[str, str]:
    """The answer to a /start whose sandbox is ready."""
    facts: dict[str, str] = start(real_plane, "shared").json()
    with control_client(real_plane) as client:
        _until(lambda: client.get("/sessions/shared").json()["pod_status"] == "ready")
    return facts


def test_real_server_runs_a_command_in_its_own_workspace(real_sandbox: dict[str, str]) -> None:
    with sandbox_client(real_sandbox) as client:
        output = run(client, "cd /workspace; touch here; pwd; id -u; echo err >&2; exit 3")
        assert (output["exit_code"], output["stdout"]) == (3, "/workspace\n10001\n")
        assert output["stderr"] == "err\n"
        checkout = Path(__file__).resolve().parent
        assert run(client, f"ls {checkout}")["exit_code"] != 0
    assert not Path("/workspace/here").exists()


def test_real_server_takes_and_gives_files(real_sandbox: dict[str, str]) -> None:
    with sandbox_client(real_sandbox) as client:
        exchange_file(client)
        # A client that streams has no length: the gateway passes chunks on.
        body = client.build_request("POST", "/x", files={"file": b"abc"})
        answer = client.post(
            "/api/file/upload?path=/workspace/chunked",
            content=iter([body.read()]),
            headers={"Content-Type": body.headers["content-type"]},
        )
        assert answer.json() == {"success": True, "file_size": 3}


def test_real_server_refuses_a_wrong_session_key(real_sandbox: dict[str, str]) -> None:
    with sandbox_client({**real_sandbox, "session_api_key": "bad"}) as client:
        answer = client.post("/api/bash/execute_bash_command", json={"command": "echo hi"})
        assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


def test_a_server_with_its_own_environment_gets_ready_and_stop_ends_all(
    real_plane: ControlPlane,
) -> None:
    facts = start(real_plane, "own", environment={"GREETING": "a b"}, working_dir="/tmp").json()
    sandbox = real_plane.sandbox("own")
    seen: list[str] = []

    def ready() -> bool:
        with control_client(real_plane) as client:
            seen.append(client.get("/sessions/own").json()["pod_status"])
        return seen[-1] == "ready"

    _until(ready)
    # A slow test may miss the first ones; the order holds.
    assert list(dict.fromkeys(seen)) in (_STATES, _STATES[1:], _STATES[2:], _STATES[::2])
    with sandbox_client(facts) as client:
        assert run(client, 'echo "$GREETING"; pwd')["stdout"] == "a b\n/tmp\n"
        run(client, "setsid sleep 98765 >/dev/null 2>&1 &")
    _until(lambda: "sleep\x0098765\x00" in _commands(sandbox))
    with control_client(real_plane) as client:
        client.post("/stop", json={"runtime_id": facts["runtime_id"]})
    assert sandbox.backend.pids() == []
    assert httpx.get(f"{facts['url']}/health").status_code == 404


def _commands(sandbox: Sandbox) -> list[str]:
    commands = []
    for pid in sandbox.backend.pids():
        with contextlib.suppress(OSError):
            commands.append(Path(f"/proc/{pid}/cmdline").read_text())
    return commands


def test_a_call_to_a_server_that_dies_is_answered(real_plane: ControlPlane) -> None:
    facts = start(real_plane, "dies").json()
    with control_client(real_plane) as client:
        _until(lambda: client.get("/sessions/dies").json()["pod_status"] == "ready")
    sandbox = real_plane.sandbox("dies")

    def drop_when_it_runs() -> None:
        _until(lambda: "sleep\x0087654\x00" in _commands(sandbox))
        real_plane.drop(sandbox, 502)

    killer = threading.Thread(target=drop_when_it_runs)
    killer.start()
    with sandbox_client(facts) as client:
        answer = client.post("/api/bash/execute_bash_command", json={"command": "sleep 87654"})
    killer.join()
    assert answer.status_code == 502


def test_the_end_of_the_plane_ends_every_server(tmp_path: Path) -> None:
    with ControlPlane(server=_SERVER, state=tmp_path) as plane:
        spare = plane.spare
        assert spare is not None
        facts = start(plane, "s").json()
        taken = plane.sandbox("s").backend
        with control_client(plane) as client:
            _until(lambda: client.get("/sessions/s").json()["pod_status"] == "ready")
        next_spare = plane.spare
        assert facts["runtime_id"] == spare.state.name
        assert isinstance(taken, ServerProcess)
        assert next_spare is not None
        assert taken.pids()
        assert next_spare.pids()
    assert taken.pids() == next_spare.pids() == []


_KILLED = """
import os, pathlib, signal, sys
from emulators.all_hands.plane import ControlPlane
with ControlPlane(server=pathlib.Path(sys.argv[1]), state=pathlib.Path(sys.argv[2])) as plane:
    print(os.readlink(f"/proc/{plane.spare.pids()[0]}/ns/pid"), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_test_run_leaves_no_server(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(_SERVER), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    _until(lambda: pids_in_namespace(killed.stdout.strip()) == [])
