"""The HTTP face of the control plane: paths, bodies and status codes."""

from __future__ import annotations

import hmac
import secrets
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from emulators.all_hands.server_process import Pod
from emulators.all_hands.web import BadRequest, Handler

if TYPE_CHECKING:
    from emulators.all_hands.plane import ControlPlane, Sandbox

_Answer = tuple[int, object]
_NOT_FOUND: _Answer = (404, {"detail": "Not Found"})
# The port that the platform's ingress leads to; a server on another port never gets ready.
_SERVER_PORT = "60000"


class ControlHandler(Handler):
    """Answers one connection's requests for `platform`."""

    platform: ClassVar[ControlPlane]

    def do_GET(self) -> None:
        """Answer the calls that only look."""
        self._serve(None, self._get)

    def do_POST(self) -> None:
        """Answer the calls that change something."""
        data = b"".join(self.pieces())
        body: dict[str, object] = {}
        try:
            body = self.json_object(data)
        except BadRequest as error:
            problem: _Answer = (400, {"detail": str(error)})
            self._serve(body, lambda: problem)
            return
        self._serve(body, lambda: self._post(body))

    def _serve(self, body: Mapping[str, object] | None, route: Callable[[], _Answer]) -> None:
        headers: Mapping[str, str] = {}
        key = self.headers.get("x-api-key", "")
        if not hmac.compare_digest(key.encode(), self.platform.api_key.encode()):
            status, value = 401, {"detail": "Unauthorized"}  # type: tuple[int, object]
        elif refusal := self.platform.journal.next_refusal("control", self.path):
            status, detail, headers = refusal
            value = {"detail": detail}
        else:
            status, value = route()
        self.platform.journal.note(
            "control",
            self.command,
            self.path,
            self.headers.items(),
            status,
            body=body,
            foreign_keys=self.platform.session_keys(),
        )
        self.answer(status, value, headers)

    def _get(self) -> _Answer:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        match [unquote(piece) for piece in parts.path.strip("/").split("/")]:
            case ["sessions", "batch"]:
                return 200, [self._found_session(one) for one in query.get("ids", [])]
            case ["sessions", session_id]:
                found = self._found_session(session_id)
                return (200, found) if found else (404, {"detail": "Session not found"})
            case ["runtime", runtime_id]:
                try:
                    return 200, self._view(self.platform.by_runtime_id(runtime_id))
                except KeyError:
                    return 404, {"detail": "Runtime not found"}
            case ["list"]:
                return 200, {"runtimes": [self._view(one) for one in self.platform.live()]}
            case ["registry_prefix"]:
                return 200, {"registry_prefix": self.platform.registry_prefix}
            case ["image_exists"]:
                return 200, self._image(query.get("image", [""])[0])
            case _:
                return _NOT_FOUND

    def _post(self, body: Mapping[str, object]) -> _Answer:
        path = urlsplit(self.path).path
        if path == "/start":
            return self._start(body)
        act: dict[str, tuple[Callable[[Sandbox], None], str]] = {
            "/stop": (self.platform.stop, "stopped"),
            "/pause": (self.platform.pause, "paused"),
            "/resume": (self.platform.resume, "running"),
        }
        if path not in act:
            return _NOT_FOUND
        try:
            sandbox = self.platform.by_runtime_id(str(body.get("runtime_id")))
        except KeyError:
            return 404, {"detail": "Runtime not found"}
        if sandbox.status == "stopped" and path != "/stop":
            return 409, {"detail": "Runtime is stopped"}
        do, status = act[path]
        do(sandbox)
        return 200, {"status": status, "runtime_id": sandbox.runtime_id}

    def _start(self, body: Mapping[str, object]) -> _Answer:
        try:
            session_id, image, pod = _asked(body)
            sandbox = self.platform.start(session_id, image, pod)
        except BadRequest as error:
            return 422, {"detail": str(error)}
        except ValueError as error:
            return 409, {"detail": str(error)}
        except RuntimeError as error:
            return 500, {"detail": str(error)}
        return 201, self._short_view(sandbox)

    def _found_session(self, session_id: str) -> dict[str, object] | None:
        try:
            return self._view(self.platform.sandbox(session_id))
        except KeyError:
            return None

    def _short_view(self, sandbox: Sandbox) -> dict[str, object]:
        key = sandbox.backend.session_key
        return {
            "runtime_id": sandbox.runtime_id,
            "session_id": sandbox.session_id,
            "url": sandbox.gateway.url,
            "status": sandbox.status,
            "session_api_key": secrets.token_hex(16) if self.platform.wrong_session_key else key,
            "work_hosts": {},
            "image": sandbox.image,
        }

    def _view(self, sandbox: Sandbox) -> dict[str, object]:
        reasons = list(self.platform.restart_reasons)
        return {
            **self._short_view(sandbox),
            "pod_status": self.platform.pod_status_of(sandbox),
            "restart_count": len(reasons),
            "restart_reasons": reasons,
        }

    def _image(self, image: str) -> dict[str, object]:
        if self.platform.images is not None and image not in self.platform.images:
            return {"exists": False, "image": None}
        facts = {"upload_time": "2026-01-01T00:00:00Z", "image_size_bytes": 1_000_000_000}
        return {"exists": True, "image": facts}


def _asked(body: Mapping[str, object]) -> tuple[str, str, Pod]:
    session_id = _text(body, "session_id" if "session_id" in body else "runtime_id")
    command = body.get("command")
    if not isinstance(command, str):
        raise BadRequest("command: takes a text")
    words = shlex.split(command)
    if not words or not words[0].endswith("agent-server"):
        raise BadRequest("command: the emulator's images only have openhands-agent-server")
    if f"--port {_SERVER_PORT}" not in " ".join(words):
        raise BadRequest(f"command: the server has to listen on port {_SERVER_PORT}")
    environment = body.get("environment", {})
    if not isinstance(environment, dict) or not all(
        isinstance(value, str) for value in environment.values()
    ):
        raise BadRequest("environment: takes an object of strings")
    pod = Pod(
        environment=environment,
        working_dir=_text(body, "working_dir", "/"),
        uid=_number(body, "run_as_user", 10001),
        gid=_number(body, "fs_group", 10001),
    )
    return session_id, _text(body, "image"), pod


def _text(body: Mapping[str, object], name: str, default: str = "") -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name}: takes a text")
    return value


def _number(body: Mapping[str, object], name: str, default: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadRequest(f"{name}: takes a whole number")
    return value
