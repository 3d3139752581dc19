"""A small stand-in for the agent server, for tests of a client that need no real sandbox.

It answers /health, execute_bash_command and the file endpoints with the status codes of the
recorded server. Commands are run on this machine, so only give it a test's own commands.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from emulators.all_hands.journal import Journal, Seen
from emulators.all_hands.web import BadRequest, Handler, Listener

_UNAUTHORIZED = {"detail": "Unauthorized"}


class FakeSandboxServer(Listener):
    """A server whose `/` is the folder `root`. A context manager; `url` is its origin.

    Args:
        root: folder that absolute paths are taken from; made if missing.
        session_key: what it takes as X-Session-API-Key. Default: a random one.
    """

    def __init__(self, root: Path, session_key: str | None = None) -> None:
        self.root = root.resolve()
        (self.root / "workspace").mkdir(parents=True, exist_ok=True)
        self.session_key = session_key or secrets.token_hex(16)
        self._journal = Journal()

        class Bound(_FakeHandler):
            fake = self

        super().__init__(Bound)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return urlsplit(self.url).port or 0

    @property
    def requests(self) -> list[Seen]:
        """Every request that was answered, with the names of its headers and the keys' digests."""
        return self._journal.requests()

    def note(self, handler: Handler, status: int) -> None:
        """Write down the request that `handler` is about to answer with `status`."""
        headers = handler.headers.items()
        self._journal.note("sandbox", handler.command, handler.path, headers, status)

    def alive(self) -> bool:
        """Say whether it listens."""
        return self.listening

    def healthy(self) -> bool:
        """Say whether it listens: it needs no time to start."""
        return self.listening

    def pids(self) -> list[int]:
        """Return nothing: it has no processes of its own."""
        return []

    def kill(self) -> None:
        """Stop listening."""
        self.close()


class _FakeHandler(Handler):
    fake: ClassVar[FakeSandboxServer]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in ("/health", "/alive"):
            self._reply(200, {"status": "ok"})
        elif not self._authorized():
            self._reply(401, _UNAUTHORIZED)
        elif path == "/api/file/download":
            self._download()
        else:
            self._reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = b"".join(self.pieces())
        path = urlsplit(self.path).path
        try:
            if not self._authorized():
                self._reply(401, _UNAUTHORIZED)
            elif path == "/api/bash/execute_bash_command":
                self._execute(body)
            elif path == "/api/file/upload":
                self._upload(body)
            elif path == "/api/file/create_directory":
                self._local().mkdir(parents=True, exist_ok=True)
                self._reply(200, {"success": True})
            else:
                self._reply(404, {"detail": "Not Found"})
        except BadRequest as error:
            self._reply(400, {"detail": str(error)})

    def _reply(self, status: int, value: object) -> None:
        self.fake.note(self, status)
        self.answer(status, value)

    def _authorized(self) -> bool:
        return self.headers.get("x-session-api-key") == self.fake.session_key

    def _local(self, path: str | None = None) -> Path:
        if path is None:
            path = parse_qs(urlsplit(self.path).query).get("path", [""])[0]
        if not path.startswith("/"):
            raise BadRequest("Path must be absolute")
        local = (self.fake.root / path.lstrip("/")).resolve()
        if not local.is_relative_to(self.fake.root):
            raise BadRequest("Path leaves the fake's root")
        return local

    def _execute(self, body: bytes) -> None:
        asked = self.json_object(body)
        command, limit = asked.get("command"), asked.get("timeout", 300)
        if not isinstance(command, str) or not isinstance(limit, int):
            self._reply(422, {"detail": [{"loc": ["body"], "msg": "Field required"}]})
            return
        cwd = self._local(str(asked.get("cwd") or "/workspace"))
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=limit)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            code = -1
        output = {
            "id": uuid.uuid4().hex,
            "timestamp": datetime.now(UTC).isoformat(),
            "command_id": uuid.uuid4().hex,
            "order": 0,
            "exit_code": code,
            "stdout": out.decode(errors="replace") or None,
            "stderr": err.decode(errors="replace") or None,
            "kind": "BashOutput",
        }
        self._reply(200, output)

    def _upload(self, body: bytes) -> None:
        target = self._local()
        if target.is_dir():
            raise BadRequest("Path is a directory")
        boundary = re.search(r'boundary="?([^";]+)', self.headers.get("content-type", ""))
        if boundary is None:
            raise BadRequest("not multipart/form-data")
        mark = b"--" + boundary[1].encode()
        head, _, rest = body.partition(b"\r\n\r\n")
        if b'name="file"' not in head:
            raise BadRequest("the first part is not `file`")
        data = rest[: rest.rindex(b"\r\n" + mark)]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self._reply(200, {"success": True, "file_size": len(data)})

    def _download(self) -> None:
        try:
            source = self._local()
            if source.is_dir():
                raise BadRequest("Path is not a file")
        except BadRequest as error:
            self._reply(400, {"detail": str(error)})
            return
        if not source.exists():
            self._reply(404, {"detail": "File not found"})
            return
        data = source.read_bytes()
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        status = 200
        if asked is not None:
            first = int(asked[1])
            if first >= len(data):
                self.fake.note(self, 416)
                self.answer_bytes(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            part = data[first : int(asked[2]) + 1 if asked[2] else None]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            data, status = part, 206
        self.fake.note(self, status)
        self.answer_bytes(status, data, headers)
