"""A base class for runtimes whose sandboxes run the agent."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Final

from openrt_agent.client import LEASE, AgentClient
from openrt_agent.connection import Describe
from openrt_agent.endpoint import Endpoint
from openrt_agent.requests import StartRequest, User, user_of
from openrt_core.errors import UnsupportedError
from openrt_core.models import BackgroundCommand, Command, Entry, SandboxHandle, SandboxSpec
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_core.process import Process

KEEP_LIMIT: Final = 3600.0
"""Seconds that a kept sandbox lingers when nobody said (as the setting SANDBOX_CLOSE_DELAY)."""


def linger_of(spec: SandboxSpec) -> float:
    """Seconds that the sandbox lives on without a client; 0 for one that is not kept."""
    if not spec.keep:
        return 0.0
    return KEEP_LIMIT if spec.idle_limit is None else spec.idle_limit


class AgentRuntime:
    """Commands and files over the agent; a subclass makes sandboxes and ``adopt``s their streams.

    The environment of a sandbox (``SandboxSpec.env`` and ``secrets``) is kept here, in the process
    that
    made it, and sent with each command: so it is in no argv and in nothing that an engine shows. A
    process that joins the sandbox later (``join``) does not have it.
    """

    spec_version = 1

    def __init__(self, context: RuntimeContext) -> None:
        self.context = context
        self._lock = threading.Lock()
        self._clients: dict[str, AgentClient] = {}
        self._env: dict[str, Mapping[str, str]] = {}
        self._joining: dict[str, threading.Lock] = {}

    # For the subclass --------------------------------------------------------------------------

    def adopt(
        self,
        id: str,
        endpoint: Endpoint,
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        linger: float = 0.0,
        describe: Describe | None = None,
    ) -> AgentClient:
        """Greets the agent of the sandbox ``id`` and uses this connection for it from now on.

        Args:
            id: of the sandbox.
            endpoint: the way to its agent; closed when this fails.
            timeout: seconds for the agent's answer.
            env: of every command, below the command's own: spec.env and spec.secrets merged. None
                keeps what was given before.
            linger: seconds that the sandbox lives on without a client: ``linger_of(spec)``.
            describe: see ``AgentClient.open``.

        Raises:
            StartTimeoutError, TransportError, SandboxGoneError
        """
        client = AgentClient.open(
            endpoint, timeout=timeout, lease=self.lease, linger=linger, describe=describe
        )
        with self._lock:
            before = self._clients.get(id)
            self._clients[id] = client
            if env is not None:
                self._env[id] = dict(env)
        if before is not None:
            before.close()
        return client

    def release(self, id: str) -> bool:
        """Closes the connection and forgets the environment. Whether there was a connection."""
        with self._lock:
            client = self._clients.pop(id, None)
            self._env.pop(id, None)
            self._joining.pop(id, None)
        if client is None:
            return False
        client.close()
        return True

    def client(self, handle: SandboxHandle) -> AgentClient:
        """The open connection to the sandbox; when there is none, one that ``join`` makes.

        Raises:
            UnsupportedError: this process has none, and the runtime cannot join.
            TransportError, SandboxGoneError: it could not be made.
        """
        client = self._clients.get(handle.id)
        if client is not None and not client.closed:
            return client
        with self._lock:
            joining = self._joining.setdefault(handle.id, threading.Lock())
        with joining:
            client = self._clients.get(handle.id)
            if client is not None and not client.closed:
                return client
            try:
                endpoint = self.join(handle)
            except UnsupportedError:
                if client is None:
                    raise
                # It says itself, at the first use, how it ended.
                return client
            return self.adopt(handle.id, endpoint, timeout=self.join_timeout)

    lease: float = LEASE
    """Seconds, 5 to 86,400, after which agent and client give each other up that hear nothing."""
    join_timeout = 30.0
    """Seconds that an agent has to greet a guest."""

    def join(self, handle: SandboxHandle) -> Endpoint:
        """A guest's stream into a sandbox of another process: ``openrt-agent connect`` inside it.

        Raises:
            UnsupportedError: this runtime has no such way; the default.
            SandboxGoneError: there is no such sandbox any more.
        """
        raise UnsupportedError("This runtime cannot join a sandbox of another process.")

    def agent_user(self, handle: SandboxHandle, user: int | str | None) -> User | None:
        """Who a command or file operation runs as; ``user`` is None when nobody said."""
        return user_of(handle.user if user is None else user)

    # Hooks -------------------------------------------------------------------------------------

    @hookimpl
    def openrt_disconnect(self, handle: SandboxHandle) -> bool:
        """Closes the stream; a kept sandbox's agent then lingers."""
        return self.release(handle.id)

    @hookimpl
    def openrt_exec(self, handle: SandboxHandle, command: Command, process: Process) -> Process:
        """Starts a command; the handle's workdir is made when it is missing."""
        cwd = command.cwd or handle.workdir
        if command.background:
            process.background_id = os.urandom(8).hex()
        request = StartRequest.of(
            command,
            env=self._env.get(handle.id),
            cwd=cwd,
            make_cwd=cwd == handle.workdir,
            user=self.agent_user(handle, command.user),
            detach=process.background_id,
        )
        self.client(handle).start(request, process)
        return process

    @hookimpl
    def openrt_list_commands(self, handle: SandboxHandle) -> list[BackgroundCommand]:
        """What the agent remembers."""
        return self.client(handle).background.list()

    @hookimpl
    def openrt_attach(
        self, handle: SandboxHandle, command_id: str, offsets: tuple[int, int], process: Process
    ) -> Process:
        """Attaches through this process's connection."""
        process.background_id = command_id
        self.client(handle).attach(command_id, offsets, process)
        return process

    @hookimpl
    def openrt_forget_command(self, handle: SandboxHandle, command_id: str) -> bool:
        """Has the agent forget it."""
        return self.client(handle).background.forget(command_id)

    @hookimpl
    def openrt_expose(self, handle: SandboxHandle, port: int) -> str:
        """Through the agent's stream, so that it needs no network of the sandbox."""
        host, here = self.client(handle).forward(port)
        return f"http://{host}:{here}"

    @hookimpl
    def openrt_read_file(self, handle: SandboxHandle, path: str, user: int | str | None) -> bytes:
        """The content of a file."""
        return self.client(handle).files.read(path, user=self.agent_user(handle, user))

    @hookimpl
    def openrt_write_file(
        self,
        handle: SandboxHandle,
        path: str,
        data: bytes,
        mode: int | None,
        user: int | str | None,
    ) -> int:
        """Writes a file atomically."""
        files = self.client(handle).files
        return files.write(path, data, mode=mode, user=self.agent_user(handle, user))

    @hookimpl
    def openrt_list_files(
        self, handle: SandboxHandle, path: str, user: int | str | None
    ) -> list[Entry]:
        """The entries of a folder."""
        return self.client(handle).files.list(path, user=self.agent_user(handle, user))

    @hookimpl
    def openrt_stat_file(
        self, handle: SandboxHandle, path: str, follow: bool, user: int | str | None
    ) -> Entry:
        """One entry."""
        files = self.client(handle).files
        return files.stat(path, follow=follow, user=self.agent_user(handle, user))

    @hookimpl
    def openrt_remove_file(
        self, handle: SandboxHandle, path: str, recursive: bool, user: int | str | None
    ) -> bool:
        """Removes a file or folder."""
        files = self.client(handle).files
        files.remove(path, recursive=recursive, user=self.agent_user(handle, user))
        return True

    @hookimpl
    def openrt_rename_file(
        self, handle: SandboxHandle, path: str, to: str, user: int | str | None
    ) -> bool:
        """Renames a file or folder."""
        self.client(handle).files.rename(path, to, user=self.agent_user(handle, user))
        return True

    @hookimpl
    def openrt_make_directory(
        self,
        handle: SandboxHandle,
        path: str,
        mode: int,
        parents: bool,
        exist_ok: bool,
        user: int | str | None,
    ) -> bool:
        """Makes a folder."""
        self.client(handle).files.mkdir(
            path,
            mode=mode,
            parents=parents,
            exist_ok=exist_ok,
            user=self.agent_user(handle, user),
        )
        return True
