"""Calls to the emulated platform as a V1 client makes them, for its own tests and for others'."""

from __future__ import annotations

import httpx
from emulators.all_hands.plane import ControlPlane

START_BODY: dict[str, object] = {
    "image": "img:tag",
    "command": "/usr/local/bin/openhands-agent-server --port 60000",
    "working_dir": "/",
    "environment": {},
    "run_as_user": 10001,
    "fs_group": 10001,
}


def control_client(plane: ControlPlane) -> httpx.Client:
    """Return a client of the control plane that has its key."""
    return httpx.Client(base_url=plane.url, headers={"X-API-Key": plane.api_key}, timeout=120)


def start(plane: ControlPlane, session_id: str, **changes: object) -> httpx.Response:
    """Start a session with the usual body and `changes`; the answer may be an error."""
    with control_client(plane) as client:
        return client.post("/start", json={**START_BODY, "session_id": session_id, **changes})


def sandbox_client(facts: dict[str, str]) -> httpx.Client:
    """Return a client of the sandbox that /start answered with `facts`."""
    headers = {"X-Session-API-Key": facts["session_api_key"]}
    return httpx.Client(base_url=facts["url"], headers=headers, timeout=120)


def run(client: httpx.Client, command: str) -> dict[str, object]:
    """Run a command in a sandbox; return the BashOutput."""
    answer = client.post("/api/bash/execute_bash_command", json={"command": command})
    answer.raise_for_status()
    output = answer.json()
    assert isinstance(output, dict)
    return output


def exchange_file(client: httpx.Client) -> None:
    """Upload a file, and assert that what downloads give is as recorded."""
    data = bytes(range(256)) * 1000 + b"\r\n--\r\n"
    up = client.post("/api/file/upload?path=/workspace/deep/f.bin", files={"file": data})
    assert up.json() == {"success": True, "file_size": len(data)}
    down = client.get("/api/file/download?path=/workspace/deep/f.bin")
    assert down.content == data
    part = client.get(
        "/api/file/download?path=/workspace/deep/f.bin", headers={"Range": "bytes=10-19"}
    )
    assert (part.status_code, part.content) == (206, data[10:20])
    assert client.get("/api/file/download?path=/workspace/none").status_code == 404
    assert client.get("/api/file/download?path=/workspace").status_code == 400
