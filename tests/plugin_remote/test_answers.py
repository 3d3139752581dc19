"""Answers that are not what they should be."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from openrt_core.errors import EngineUnreachableError, ProvisionError
from openrt_core.settings import load
from openrt_remote import answers
from openrt_remote.control import ControlPlane
from openrt_remote.settings import Settings

GOOD = {"runtime_id": "rt-1", "url": "https://host:1/", "session_api_key": "k", "status": "Running"}


def test_a_session_is_read():
    session = answers.session({**GOOD, "pod_status": "READY", "restart_reasons": ["a\n", 1]})
    assert (session.runtime_id, session.url, session.key) == ("rt-1", "https://host:1", "k")
    assert (session.status, session.pod_status) == ("running", "ready")
    assert session.reasons == ("a?", "1")
    assert "key" not in repr(session)


def test_what_is_not_told_is_empty():
    session = answers.session({"id": "rt-2"})
    assert (session.runtime_id, session.url, session.key, session.ended) == ("rt-2", "", "", False)


@pytest.mark.parametrize(
    "change",
    [
        {"runtime_id": ""},
        {"runtime_id": 7},
        {"session_api_key": "a\r\nX-Evil: 1"},
        {"session_api_key": "é"},
        {"session_api_key": "k" * 5000},
        {"url": "file:///etc/passwd"},
        {"url": "https://user@host"},
        {"url": "https://host:99999999"},
        {"url": "https://[::1"},
        {"status": ["running"]},
    ],
)
def test_a_session_that_makes_no_sense_is_refused(change):
    with pytest.raises(answers.InvalidAnswer):
        answers.session({**GOOD, **change})


def test_foreign_text_is_cut_and_escaped():
    assert answers.shown("\x1b[31m" + "x" * 1000) == "?[31m" + "x" * 295 + "…"
    assert answers.detail(b'{"detail": "no\\u001b"}') == "no?"
    assert answers.detail(b"<html>\xff</html>") == "<html>\ufffd</html>"
    with pytest.raises(answers.InvalidAnswer):
        answers.json_object(b"[" * 100_000)


@pytest.fixture
def served():
    """``served(status, headers, body)``: a control plane that gives this answer to everything."""
    asked = []
    answer: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(answer["status"])
            for name, value in answer["headers"].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *arguments):
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"

    def plane(status, headers, body):
        answer.update(status=status, headers=headers, body=body)
        return ControlPlane(url=url, key="key", backoff=0.01), asked

    yield plane
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"runtime_id": 1}', b"<html>"])
def test_an_answer_of_another_kind_is_an_error(served, body):
    plane, _ = served(200, {}, body)
    with pytest.raises(ProvisionError, match="did not answer as its interface says"):
        plane.session("a")


def test_an_answer_without_end_is_cut(served):
    plane, _ = served(200, {}, b" " * (answers.JSON_LIMIT + 1))
    with pytest.raises(EngineUnreachableError, match="too long"):
        plane.session("a")


def test_redirects_are_not_followed(served):
    plane, asked = served(302, {"Location": "/elsewhere"}, b"")
    with pytest.raises(ProvisionError, match="answered 302"):
        plane.session("a")
    assert asked == ["/sessions/a"]


def test_settings_come_from_the_variables(tmp_path):
    environ = {
        "HOME": str(tmp_path),
        "SANDBOX_API_KEY": "hush",
        "SANDBOX_REMOTE_RUNTIME_API_URL": "https://example.org",
        "SANDBOX_REMOTE_RUNTIME_INIT_TIMEOUT": "7",
        "SANDBOX_REMOTE_RUNTIME_API_TIMEOUT": "8",
        "SANDBOX_REMOTE_RUNTIME_ENABLE_RETRIES": "no",
        "SANDBOX_REMOTE_RUNTIME_CLASS": "Sysbox",
        "SANDBOX_REMOTE_RUNTIME_RESOURCE_FACTOR": "8",
    }
    settings = load(environ, tmp_path).for_runtime("remote", Settings)
    assert settings == Settings(
        api_url="https://example.org",
        api_key="hush",
        init_timeout=7.0,
        api_timeout=8.0,
        enable_retries=False,
        runtime_class="sysbox",
        resource_factor=8,
    )
    assert "hush" not in repr(settings)
    defaults = load({"HOME": str(tmp_path)}, tmp_path).for_runtime("remote", Settings)
    assert (defaults.api_url, defaults.init_timeout, defaults.api_timeout) == (None, 180.0, 180.0)
    assert (defaults.enable_retries, defaults.resource_factor) == (True, 1)
