"""Ports of a sandbox, reachable from here."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import http.client
import socket
import time
import urllib.error
import urllib.request

import pytest

PATIENCE = 60.0
SIZE = 3 << 20
SERVE = """
cd /tmp/www
if command -v busybox > /dev/null; then exec busybox httpd -f -p 127.0.0.1:$PORT -h /tmp/www; fi
exec python3 -m http.server $PORT --bind 127.0.0.1
"""


def get(url):
    """The body, None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # our own
            return answer.read()
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
        if isinstance(error, urllib.error.HTTPError):
            raise
        return None


@pytest.fixture
def port():
    """One that nobody listens at here: a sandbox may have the network of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(params=["default", "none"])
def served(request, runtime, offered):
    """A sandbox with this network and something in /tmp/www to serve."""
    offered("expose")
    if request.param == "none":
        offered("network_none")
    with runtime.create(network=request.param) as sandbox:
        if not sandbox.exec("command -v busybox || command -v python3").ok:
            pytest.skip("the sandbox has nothing that serves files")
        sandbox.exec(f"mkdir /tmp/www && head -c {SIZE} /dev/urandom > /tmp/www/file", check=True)
        yield sandbox


def test_what_listens_inside_is_reached_from_here(served, port):
    url = served.expose(port)
    assert url == served.expose(port)
    assert get(f"{url}/file") is None  # nothing listens yet
    served.start(SERVE, env={"PORT": str(port)}, timeout=None)
    end = time.monotonic() + PATIENCE
    while (body := get(f"{url}/file")) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    wanted = served.exec("sha256sum < /tmp/www/file", check=True).text.split()[0]
    assert hashlib.sha256(body).hexdigest() == wanted
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        several = list(pool.map(lambda _: get(f"{url}/file"), range(16)))
    assert all(one == body for one in several)
    assert served.exec("echo as before").text == "as before\n"
    with pytest.raises(urllib.error.HTTPError):
        get(f"{url}/none")


def test_nobody_listens_here_once_it_is_closed(runtime, offered):
    offered("expose")
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(runtime.create())
        address = sandbox.expose(8123).removeprefix("http://")
        host, _, port = address.partition(":")
        if host != "127.0.0.1":
            pytest.skip("the runtime has addresses of its own")
    with pytest.raises(ConnectionError):
        http.client.HTTPConnection(host, int(port), timeout=PATIENCE).connect()
