"""Errors of the engine in our words, over a real connection to an engine of the test's own."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

pytest.importorskip("openrt_docker")
import docker.errors
import requests
import urllib3.exceptions

from openrt_core.errors import AuthenticationError, EngineUnreachableError, ProvisionError
from openrt_docker import images
from openrt_docker.engine import Engine, translated


class Handler(http.server.BaseHTTPRequestHandler):
    """An engine without images, whose pulls begin and then do what ``server.pull`` does."""

    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing."""

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if "version" in self.path:
            self.answer(200, {"ApiVersion": "1.44", "Version": "25"})
        else:
            self.answer(404, {"message": "No such image: x"})

    def do_POST(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b'{"status":"Pulling"}\r\n')
        self.server.pull(self)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    """What listens for it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.over = threading.Event()
        self.pull = silent


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
        yield server
        server.over.set()
        server.shutdown()


def silent(handler):
    handler.server.over.wait(90)
    handler.close_connection = True


def broken(handler):
    handler.close_connection = True


def nonsense(handler):
    handler.chunk(b"<html>no JSON</html>\r\n")
    handler.wfile.write(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("pull", "cause"),
    [
        (silent, urllib3.exceptions.ReadTimeoutError),
        (broken, urllib3.exceptions.ProtocolError),
        (nonsense, docker.errors.StreamParseError),
    ],
)
def test_a_pull_that_does_not_come_to_an_end_is_given_up_and_told(server, monkeypatch, pull, cause):
    server.pull = pull
    monkeypatch.setattr(images, "SILENCE_LIMIT", 2)
    with pytest.raises(EngineUnreachableError, match="Could not pull the image x") as caught:
        images.find(Engine(), "x", lambda event: None)
    assert isinstance(caught.value.__cause__, cause)


def error_of(explanation, status):
    response = requests.Response()
    response.status_code = status
    return docker.errors.APIError("x", response=response, explanation=explanation)


@pytest.mark.parametrize(
    ("explanation", "status", "kind"),
    [
        ("OCI runtime create failed: exec: permission denied: unknown", 500, ProvisionError),
        ("pull access denied for x, may require 'docker login'", 404, AuthenticationError),
        ("Get https://r/v2/: unauthorized: authentication required", 500, AuthenticationError),
        ("no basic auth credentials", 401, AuthenticationError),
    ],
)
def test_only_what_a_login_would_mend_is_called_so(explanation, status, kind):
    with pytest.raises(ProvisionError) as caught, translated("do it"):
        raise error_of(explanation, status)
    assert type(caught.value) is kind
