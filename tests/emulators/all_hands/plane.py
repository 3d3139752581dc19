"""The control plane of the All Hands runtime API, emulated on loopback, with real agent servers.

    with ControlPlane(server=Path(".../bin/agent-server"), state=tmp_path) as plane:
        client = httpx.Client(base_url=plane.url, headers={"X-API-Key": plane.api_key})

Each /start is one process of the server in a bubblewrap sandbox of its own, reached through a
gateway on an origin of its own. Where the hosted platform's behaviour is not known, the emulator is
strict: a session that has a runtime cannot start a second (409). Not emulated: images' contents,
/build, WebSockets. A paused sandbox only stops answering (503); what runs in it goes on.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import attrs
from emulators.all_hands.control import ControlHandler
from emulators.all_hands.fake_sandbox import FakeSandboxServer
from emulators.all_hands.gateway import Backend, Gateway
from emulators.all_hands.journal import Journal
from emulators.all_hands.server_process import Pod, ServerProcess
from emulators.all_hands.web import Listener

_Status = Literal["running", "paused", "stopped"]
_PLAIN = Pod()


@attrs.define(eq=False)
class Sandbox:
    """One runtime, as the platform keeps it."""

    runtime_id: str
    session_id: str
    image: str
    backend: Backend
    gateway: Gateway
    status: _Status = "running"
    polls: int = 0


class ControlPlane:
    """The emulated platform. A context manager; everything it started is gone when it ends.

    Args:
        server: the `agent-server` executable that `install_server.sh` printed. None gives every
            sandbox a `FakeSandboxServer` instead.
        state: folder for the sandboxes' files and logs, one folder a runtime id.
        spare: what the one server is like that is started ahead, and handed out to the first /start
            that wants the same environment, folder and user. The next is started when a sandbox is
            seen to be ready. A server takes 5 s to start on an idle machine, 20 s on a loaded one,
            and 350 MB. None starts nothing ahead.
        images: the images that exist. None: all.

    Attributes:
        api_key: what it takes as X-API-Key.
        journal: what was asked, and `journal.refuse(…)`.
        pod_status: if not None, what every sandbox reports in place of the truth:
            `crashloopbackoff`, `failed`, or `pending` for one that never gets ready.
        restart_reasons: what every sandbox reports; their number is `restart_count`.
        wrong_session_key: hand out keys that the sandboxes do not take.
        spare: the server that waits for the next /start, if there is one.
    """

    def __init__(
        self,
        *,
        server: Path | None,
        state: Path,
        spare: Pod | None = _PLAIN,
        images: frozenset[str] | None = None,
    ) -> None:
        self.api_key = secrets.token_hex(16)
        self.journal = Journal()
        self.images = images
        self.registry_prefix = "registry.invalid/openhands"
        self.pod_status: str | None = None
        self.restart_reasons: list[str] = []
        self.wrong_session_key = False
        self._server = server
        self._state = state
        self._wanted = spare if server is not None else None
        self.spare: ServerProcess | None = None
        self._sandboxes: list[Sandbox] = []
        self._lock = threading.RLock()
        self._closed = False

    def __enter__(self) -> Self:
        plane: ControlPlane = self

        class Bound(ControlHandler):
            platform = plane

        self._listener = Listener(Bound)
        try:
            self._start_spare()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every sandbox, the spare one too, and stop listening."""
        self._listener.close()
        # The stack calls each, also when one of them fails.
        with self._lock, contextlib.ExitStack() as stack:
            self._closed = True
            for sandbox in self._sandboxes:
                stack.callback(sandbox.gateway.close)
                stack.callback(sandbox.backend.kill)
            if self.spare is not None:
                stack.callback(self.spare.kill)

    @property
    def url(self) -> str:
        """The control plane's origin, for SANDBOX_REMOTE_RUNTIME_API_URL."""
        return self._listener.url

    def live(self) -> list[Sandbox]:
        """Return the sandboxes that were started and not stopped, paused ones too."""
        with self._lock:
            return [one for one in self._sandboxes if one.status != "stopped"]

    def session_keys(self) -> list[str]:
        """Return the session keys of every sandbox that was ever started."""
        with self._lock:
            return [one.backend.session_key for one in self._sandboxes]

    def sandbox(self, session_id: str) -> Sandbox:
        """Return the newest sandbox of a session.

        Raises:
            KeyError: there is none, nor was there.
        """
        return self._newest("session_id", session_id)

    def by_runtime_id(self, runtime_id: str) -> Sandbox:
        """Return the sandbox with this runtime id.

        Raises:
            KeyError: there is none, nor was there.
        """
        return self._newest("runtime_id", runtime_id)

    def _newest(self, field: str, value: str) -> Sandbox:
        with self._lock:
            for one in reversed(self._sandboxes):
                if getattr(one, field) == value:
                    return one
        raise KeyError(value)

    def start(self, session_id: str, image: str, pod: Pod) -> Sandbox:
        """Start a sandbox, as /start does.

        Raises:
            ValueError: the session has one that is not stopped.
            RuntimeError: bubblewrap could not make it.
        """
        with self._lock:
            if any(one.session_id == session_id for one in self.live()):
                raise ValueError(f"session {session_id} has a runtime")
            runtime_id, backend = self._backend(pod)
            gateway = Gateway(backend, self.journal, self.api_key)
            sandbox = Sandbox(runtime_id, session_id, image, backend, gateway)
            self._sandboxes.append(sandbox)
            return sandbox

    def stop(self, sandbox: Sandbox) -> None:
        """End a sandbox, as /stop does. Its URL answers 404 from now on."""
        self.drop(sandbox, 404)
        sandbox.status = "stopped"

    def pause(self, sandbox: Sandbox) -> None:
        """Let a sandbox sleep, as /pause and the platform's idle limit do: its URL answers 503."""
        sandbox.status, sandbox.gateway.closed_with = "paused", 503

    def resume(self, sandbox: Sandbox) -> None:
        """Wake a sandbox, as /resume does."""
        sandbox.status, sandbox.gateway.closed_with = "running", None

    def drop(self, sandbox: Sandbox, status: int = 502) -> None:
        """Kill a sandbox behind the platform's back: its URL answers `status` from now on."""
        sandbox.gateway.closed_with = status
        sandbox.backend.kill()

    def pod_status_of(self, sandbox: Sandbox) -> str:
        """Return what a poll of the sandbox's state gets."""
        sandbox.polls += 1
        if self.pod_status is not None:
            return self.pod_status
        if self.images is not None and sandbox.image not in self.images:
            return "failed"
        if not sandbox.backend.alive():
            return "not found"
        if sandbox.backend.healthy():
            # Only now: two servers that start at once make each other slow.
            self._start_spare()
            return "ready"
        return "pending" if sandbox.polls == 1 else "running"

    def _backend(self, pod: Pod) -> tuple[str, Backend]:
        if self._server is None:
            runtime_id = _new_id()
            return runtime_id, FakeSandboxServer(self._state / runtime_id)
        if self.spare is not None and not self.spare.alive():
            self.spare.kill()  # what a server leaves that ended by itself
            self.spare = None
        process = self.spare
        if process is not None and pod == self._wanted:
            self.spare = None
        else:
            process = self._fork(self._server, pod)
        return process.state.name, process

    def _start_spare(self) -> None:
        with self._lock:
            if self._closed or self._server is None or self._wanted is None:
                return
            if self.spare is None:
                self.spare = self._fork(self._server, self._wanted)

    def _fork(self, server: Path, pod: Pod) -> ServerProcess:
        if self._closed:
            raise RuntimeError("the control plane is closed")
        return ServerProcess(server, self._state / _new_id(), pod)


def _new_id() -> str:
    return f"rt-{uuid.uuid4().hex[:8]}"
