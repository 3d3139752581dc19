"""The local runtime: a bubblewrap sandbox on this machine, without a daemon and without root."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from openrt_agent.binary import agent_path
from openrt_agent.endpoint import Endpoint, FdEndpoint, SocketEndpoint
from openrt_agent.runtime import AgentRuntime, linger_of
from openrt_core.errors import (
    ID_TAKEN,
    EngineUnreachableError,
    ProvisionError,
    SandboxGoneError,
    SettingError,
    VolumeError,
)
from openrt_core.models import (
    Attachment,
    Mount,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
)
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_local import bubblewrap, keyring, overlays, skeleton
from openrt_local.settings import Settings
from openrt_local.state import Sandbox, ids, sweep

FEATURES = frozenset(
    {
        "background",
        "bind",
        "idle_limit",
        "keep",
        "kill_tree",
        "labels",
        "network_host",
        "network_none",
        "overlay",
        "read_only",
        "stdin",
        "streams",
        "tty",
        "user",
    }
)


def create(context: RuntimeContext) -> LocalRuntime:
    """The entry point."""
    return LocalRuntime(context)


class LocalRuntime(AgentRuntime):
    """Sandboxes of bubblewrap; each ends with the process that made it, or when it is kept, so long
    after its last client.

    The host's programs and libraries are there read-only; of /etc only what programs need;
    nothing of anybody's home. The network is the host's, or none.
    """

    features = FEATURES

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self._name = context.name
        self._state = context.state_folder
        self._lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._made: dict[str, Sandbox] = {}
        settings: Settings = context.settings or Settings()
        self._overlays = settings.overlays or overlays.default_base()
        self._swept = False

    @hookimpl
    def openrt_preflight(self, spec: SandboxSpec) -> bool:
        """Linux, bubblewrap, a network that it has, and a user that it can give."""
        if sys.platform != "linux":
            raise EngineUnreachableError(
                "The local runtime needs Linux.",
                hint="Choose another runtime, for example RUNTIME=docker.",
                retryable=False,
            )
        bubblewrap.program()
        own = os.geteuid()
        if own != 0 and spec.user not in (None, own):
            raise SettingError(
                f"The local runtime runs commands as the caller (uid {own}), "
                f"not as uid {spec.user}.",
                hint="Unset SANDBOX_USER_ID, or run as root.",
            )
        return True

    @hookimpl
    def openrt_mount(self, mount: Mount, spec: SandboxSpec) -> Attachment:
        """Binds and overlays; the engine's machine is this one, so the source is checked here."""
        if not os.path.exists(mount.source):
            raise VolumeError(
                f"{mount.source} does not exist, so it cannot be mounted at {mount.target}.",
                hint="Make it first; openrt does not create folders on the host.",
            )
        if mount.mode == "overlay":
            overlays.check(mount, self._overlays)
            return Attachment(kind=overlays.KIND, mount=mount)
        return Attachment(kind="bind", mount=mount)

    @hookimpl
    def openrt_provision(
        self, spec: SandboxSpec, attachments: Sequence[Attachment]
    ) -> SandboxHandle:
        """Starts bubblewrap with the agent as its first process, on our ends of its stdin and
        stdout."""
        if not self._swept:
            self._swept = True
            sweep(self._state)
        sandbox = Sandbox(self._state, spec.id)
        try:
            sandbox.make()
        except FileExistsError as error:
            raise ProvisionError(f"There is a sandbox {spec.id} already.", code=ID_TAKEN) from error
        self._made[spec.id] = sandbox
        # Without root there is one user only, the caller's; asking the agent to switch would fail.
        handle = SandboxHandle(
            runtime=self._name,
            id=spec.id,
            workdir=spec.workdir,
            user=spec.user if os.geteuid() == 0 else None,
            labels=spec.labels,
        )
        child = self._start(spec, attachments, sandbox)
        sandbox.record(child.pid, handle)
        assert child.stdin is not None  # both are pipes
        assert child.stdout is not None
        self.adopt(
            spec.id,
            FdEndpoint(os.dup(child.stdout.fileno()), os.dup(child.stdin.fileno())),
            timeout=spec.start_timeout,
            env={**spec.env, **spec.secrets},
            linger=linger_of(spec),
            describe=lambda: self._describe(spec.id),
        )
        child.stdin.close()
        child.stdout.close()
        return handle

    def _start(
        self, spec: SandboxSpec, attachments: Sequence[Attachment], sandbox: Sandbox
    ) -> subprocess.Popen[bytes]:
        etc = skeleton.prepared(self._state)
        sandbox.note_overlays(self._overlays / spec.id)
        layers = overlays.make(self._overlays / spec.id, attachments)
        with sandbox.listen() as listener, sandbox.log_path.open("wb") as log:
            layout = bubblewrap.Layout(
                agent=pathlib.Path(agent_path()),
                etc=etc,
                workdir=spec.workdir,
                attachments=attachments,
                layers=layers,
                network=spec.network != "none",
                read_only=spec.read_only,
                socket=listener.fileno(),
                id=spec.id,
            )

            # bubblewrap stays as the parent of the agent; a session of its own keeps the
            # terminal's Ctrl-C from it.
            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    bubblewrap.arguments(layout),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=(listener.fileno(),),
                    start_new_session=True,
                    env={},
                    cwd="/",
                )

            child = keyring.without_ours(start)
        with self._lock:
            self._children[spec.id] = child
        return child

    @hookimpl
    def openrt_connect(self, id: str) -> SandboxHandle:
        """Joins through the socket of its agent."""
        sandbox = Sandbox(self._state, id)
        if not sandbox.alive():
            raise SandboxGoneError(f"There is no local sandbox {id}.")
        handle = self._handle_of(id, sandbox.read())
        self.client(handle)
        return handle

    def _handle_of(self, id: str, value: Mapping[str, Any]) -> SandboxHandle:
        """The handle of the sandbox of which the host keeps this."""
        return SandboxHandle(
            runtime=self._name,
            id=id,
            workdir=value["workdir"],
            user=value["user"],
            labels=value.get("labels") or {},
        )

    @hookimpl
    def openrt_list(self, labels: Mapping[str, str]) -> list[SandboxHandle]:
        """Those of this user that live, by their folders."""
        handles = []
        for id in ids(self._state):
            sandbox = Sandbox(self._state, id)
            value = sandbox.read()
            if value and sandbox.alive():
                handles.append(self._handle_of(id, value))
        return [h for h in handles if labels.items() <= h.labels.items()]

    @hookimpl
    def openrt_disconnect(self, handle: SandboxHandle) -> bool:
        """Closes the stream; should it end before anybody comes back, its folder can be swept."""
        made = self._made.get(handle.id)
        if made is not None:
            made.let_go()
        return self.release(handle.id)

    def join(self, handle: SandboxHandle) -> Endpoint:
        """A guest's stream."""
        try:
            return SocketEndpoint(Sandbox(self._state, handle.id).join())
        except OSError as error:
            raise SandboxGoneError(f"There is no local sandbox {handle.id}.") from error

    @hookimpl
    def openrt_status(self, handle: SandboxHandle) -> SandboxStatus:
        """Running or gone."""
        sandbox = Sandbox(self._state, handle.id)
        if sandbox.alive():
            return SandboxStatus(state="running")
        return SandboxStatus(
            state="gone", post_mortem=sandbox.post_mortem(self._exit_code(handle.id))
        )

    @hookimpl
    def openrt_teardown(self, handle: SandboxHandle) -> bool:
        """Ends its process, whoever started it, and removes what the host kept of it."""
        self.release(handle.id)
        sandbox = self._made.pop(handle.id, None) or Sandbox(self._state, handle.id)
        was_there = sandbox.exists()
        sandbox.end()
        with self._lock:
            child = self._children.pop(handle.id, None)
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        sandbox.remove()
        return was_there

    def _describe(self, id: str) -> SandboxGoneError | None:
        """For a stream that ended: the sandbox's end, if that is why."""
        sandbox = Sandbox(self._state, id)
        code = self._exit_code(id, wait=5.0)
        if code is None and sandbox.alive():
            return None
        return SandboxGoneError(
            f"The sandbox {id} has ended.", post_mortem=sandbox.post_mortem(code)
        )

    def _exit_code(self, id: str, wait: float = 0.0) -> int | None:
        with self._lock:
            child = self._children.get(id)
        if child is None:
            return None
        try:
            code = child.wait(wait) if wait else child.poll()
        except subprocess.TimeoutExpired:
            return None
        return code if code is None or code >= 0 else 128 - code
