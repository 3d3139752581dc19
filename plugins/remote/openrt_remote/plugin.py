"""The remote runtime: a sandbox of the All Hands runtime API, with their own agent server in it.

What openrt's own agent promises and that server cannot keep is no feature here: a time limit and
kill end the command's process group, but not what left it with setsid; there are no users, no
terminals and no mounts. What a command prints lies on the sandbox's disk until it is fetched. A
sandbox whose client was killed lives on until the platform ends it.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from openrt_core.errors import (
    OpenrtError,
    SandboxGoneError,
    UnsupportedError,
    VolumeError,
    file_error,
)
from openrt_core.events import Event
from openrt_core.exec_files import READ_LIMIT, ExecFiles
from openrt_core.models import (
    Attachment,
    Command,
    Mount,
    PostMortem,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
)
from openrt_core.plugin import SPEC_VERSION, RuntimeContext, hookimpl
from openrt_core.process import Process
from openrt_remote.answers import Session, why_ended
from openrt_remote.command import Running, lost
from openrt_remote.control import ControlPlane
from openrt_remote.controls import Requests
from openrt_remote.link import Link
from openrt_remote.lives import Lives
from openrt_remote.sandbox import Sandbox
from openrt_remote.server import Server
from openrt_remote.start import start_body, start_limit, wait_until_ready
from openrt_remote.worker import Worker, shared
from openrt_remote.wrapper import check_names

FEATURES: Final = frozenset({"image", "keep", "stdin", "streams"})


def create(context: RuntimeContext) -> RemoteRuntime:
    """The entry point."""
    return RemoteRuntime(context)


class RemoteRuntime(Lives):
    """Sandboxes of the runtime API that SANDBOX_REMOTE_RUNTIME_API_URL names.

    An image needs All Hands' agent server (``/usr/local/bin/openhands-agent-server``) and a shell.
    """

    spec_version = SPEC_VERSION
    features = FEATURES

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self._emit = context.emit
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._open: dict[str, Sandbox] = {}
        self._kept: set[str] = set()
        self._files = ExecFiles(self._start)

    @hookimpl
    def openrt_preflight(self, spec: SandboxSpec) -> bool:
        """There is a key, and the environment can be passed on. The first call tries the key."""
        self._control()
        check_names({**spec.env, **spec.secrets})
        return True

    @hookimpl
    def openrt_mount(self, mount: Mount, spec: SandboxSpec) -> Attachment:
        """Refuses: the sandbox is on another machine."""
        raise VolumeError(
            f"{mount.source} cannot be mounted at {mount.target} of a remote sandbox.",
            hint="Copy files with sandbox.files, or choose another runtime.",
        )

    @hookimpl
    def openrt_provision(
        self, spec: SandboxSpec, attachments: Sequence[Attachment]
    ) -> SandboxHandle:
        """Starts it, waits until its server answers, and makes the working folder."""
        control = self._control()
        body = start_body(spec, self._settings)
        started = control.start(body)
        try:
            limit = start_limit(spec, self._settings)
            session = wait_until_ready(
                control, spec.id, limit, lambda text: self._tell(spec.id, text), body["image"]
            )
            self._call_worker().call(self._set_up(spec, session, control))
        except BaseException as error:
            self._stop_after(error, control, started)
            raise
        if spec.keep:
            self._kept.add(spec.id)
        return SandboxHandle(
            runtime=self._name, id=spec.id, workdir=spec.workdir, labels=spec.labels
        )

    @hookimpl
    def openrt_exec(self, handle: SandboxHandle, command: Command, process: Process) -> Process:
        """Starts it on the worker's loop; what goes wrong there ends the process."""
        check_names(command.env)
        worker = self._call_worker()
        requests = Requests(process, worker.loop)
        process.attach(requests)

        def over(future: Future[None]) -> None:
            if future.cancelled():
                process.failed(lost(None, handle.id))
            elif (error := future.exception()) is not None:
                process.failed(lost(error, handle.id))

        running = Running(process, requests)
        # Looked up now: should it be closed meanwhile, the command must not open it again.
        opened = self._open.get(handle.id)
        worker.spawn(self._run(handle, process, running, opened)).add_done_callback(over)
        return process

    @hookimpl
    def openrt_teardown(self, handle: SandboxHandle) -> bool:
        """Stops it, whoever started it: the session's id is the sandbox's."""
        self._let_go(handle.id, removed=True)
        self._kept.discard(handle.id)
        control = self._control()
        session = control.session(handle.id)
        if session is None or session.status == "stopped":
            return False
        return control.stop(session.runtime_id)

    @hookimpl
    def openrt_disconnect(self, handle: SandboxHandle) -> bool:
        """Closes the connections. One that was made and kept here is paused, unless
        SANDBOX_PAUSE_CLOSED_RUNTIMES is false: nobody uses it, and it is paid for."""
        was_open = self._let_go(handle.id, removed=False)
        if handle.id in self._kept and self._settings.pause_closed:
            control = self._control()
            session = control.session(handle.id)
            if session is not None and not session.ended and session.status != "paused":
                control.pause(session.runtime_id)
        return was_open

    def _let_go(self, id: str, *, removed: bool) -> bool:
        """Closes the connections to a sandbox; False when there are none."""
        with self._lock:
            sandbox = self._open.pop(id, None)
            worker = self._worker
        if sandbox is None:
            return False
        if worker is not None and worker.usable:
            worker.call(sandbox.close(removed=removed))
        return True

    @hookimpl
    def openrt_connect(self, id: str) -> SandboxHandle:
        """Joins it; a paused one is resumed.

        The working folder and the environment are as its maker set them, without the secrets: those
        stay with the maker.
        """
        handle = SandboxHandle(runtime=self._name, id=id)
        sandbox = self._call_worker().call(self._sandbox(handle))
        return SandboxHandle(runtime=self._name, id=id, workdir=sandbox.workdir)

    @hookimpl
    def openrt_status(self, handle: SandboxHandle) -> SandboxStatus:
        """As the control plane tells it."""
        session = self._control().session(handle.id)
        if session is None:
            reason = "The runtime API does not know it (any more)."
            return SandboxStatus(state="gone", post_mortem=PostMortem(reason=reason))
        lost_pod = session.pod_status == "not found" and handle.id in self._open
        if session.ended or lost_pod:
            reason = f"{why_ended(session)}."
            return SandboxStatus(state="gone", post_mortem=PostMortem(reason=reason))
        if session.status == "paused":
            return SandboxStatus(state="paused")
        ready = session.status in ("running", "") and session.pod_status in ("ready", "")
        return SandboxStatus(state="running" if ready else "starting")

    @hookimpl
    def openrt_read_file(self, handle: SandboxHandle, path: str, user: int | str | None) -> bytes:
        """From the server, when that gives it out; else by a command, which also tells why not."""
        if user not in (None, handle.user):
            raise UnsupportedError("The remote runtime has one user only.")
        content = None
        if path.isprintable():
            # Others may not arrive as they are: what a URL holds is read as UTF-8.
            try:
                content = self._call_worker().call(self._read(handle, path))
            except OverflowError as error:
                raise file_error(errno.EFBIG, path) from error
        return self._files.openrt_read_file(handle, path, None) if content is None else content

    # ----------------------------------------------------------------------------------------------

    def _call_worker(self) -> Worker:
        with self._lock:
            if self._worker is None or not self._worker.usable:
                # After a fork neither the thread nor the connections are ours.
                self._worker = shared()
                self._open = {}
            return self._worker

    def _tell(self, id: str, text: str) -> None:
        self._emit(Event(kind="progress", message=text, source=self._name, sandbox=id))

    def _start(self, handle: SandboxHandle, command: Command) -> Process:
        process = Process(command)
        process.arm()
        return self.openrt_exec(handle, command, process)

    def _stop_after(self, error: BaseException, control: ControlPlane, started: Session) -> None:
        """Stops what did not get ready; ``error`` is what the user is to see."""
        try:
            control.stop(started.runtime_id)
        except OpenrtError as failure:
            error.add_note(f"The remote runtime {started.runtime_id} may be left behind: {failure}")

    # On the worker's loop -------------------------------------------------------------------------

    async def _set_up(self, spec: SandboxSpec, session: Session, control: ControlPlane) -> None:
        sandbox = self._sandbox_of(spec.id, session, control)
        try:
            await sandbox.set_up(spec)
        except BaseException:
            await sandbox.close(removed=True)
            raise
        self._open[spec.id] = sandbox

    def _sandbox_of(self, id: str, session: Session, control: ControlPlane) -> Sandbox:
        link = Link(id, session, control, retries=self._settings.enable_retries)
        return Sandbox(Server(link))

    async def _run(
        self, handle: SandboxHandle, process: Process, running: Running, opened: Sandbox | None
    ) -> None:
        sandbox = opened or await self._sandbox(handle)
        await sandbox.run(process, running)

    async def _read(self, handle: SandboxHandle, path: str) -> bytes | None:
        sandbox = await self._sandbox(handle)
        return await sandbox.server.read(path, READ_LIMIT)

    async def _sandbox(self, handle: SandboxHandle) -> Sandbox:
        """The open one, else one that another process made, joined."""
        found = self._open.get(handle.id)
        if found is not None:
            return found
        control = self._control()
        session = await asyncio.to_thread(self._find, handle.id, control)
        sandbox = self._sandbox_of(handle.id, session, control)
        try:
            await sandbox.join()
        except BaseException:
            await sandbox.close(removed=False)
            raise
        other = self._open.setdefault(handle.id, sandbox)
        if other is not sandbox:  # somebody else joined meanwhile
            await sandbox.close(removed=False)
        return other

    def _find(self, id: str, control: ControlPlane) -> Session:
        session = control.session(id)
        if session is None:
            raise SandboxGoneError(f"There is no remote sandbox {id}.")
        if session.ended:
            raise SandboxGoneError(f"The sandbox {id} is gone: {why_ended(session)}.")
        limit = self._settings.init_timeout
        return wait_until_ready(control, id, limit, lambda text: self._tell(id, text))
