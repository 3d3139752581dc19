"""The modal runtime: a sandbox in Modal's cloud, with the agent as its first process.

The agent is the sandbox's entry, so the sandbox ends when the agent does. Modal keeps what an
entry prints as logs and has no end of stdin for a client that died; so the owner's stream is a
long-lived exec of ``openrt-agent connect``, which joins the agent's socket, and each further
client has one, too. The end of the owner's stream ends the agent and with it the sandbox. A client
that was killed sends no end: then the agent's lease (10 minutes) strikes. One that was killed
while the sandbox was being made never joins: then the agent waits ``creation.OWNER_WAIT`` seconds.

Without ``SandboxSpec.lifetime`` a sandbox lives 24 hours at most, which is Modal's own limit.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openrt_agent.endpoint import Endpoint
from openrt_core.errors import (
    ID_TAKEN,
    EngineUnreachableError,
    OpenrtError,
    ProvisionError,
    SandboxGoneError,
    StartTimeoutError,
    VolumeError,
)
from openrt_core.models import (
    Attachment,
    Mount,
    SandboxHandle,
    SandboxSpec,
)
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_core.settings import DEFAULT_IMAGE
from openrt_modal import creation, ending
from openrt_modal.lives import Lives
from openrt_modal.sdk import CALL_LIMIT, translated
from openrt_modal.stream import ExecStream

if TYPE_CHECKING:
    import modal

log = logging.getLogger("openrt")

FEATURES = frozenset(
    {
        "background",
        "cpu",
        "image",
        "kill_tree",
        "labels",
        "lifetime",
        "memory",
        "network_none",
        "stdin",
        "streams",
        "tty",
        "user",
    }
)
BUILD_LIMIT = 3600.0
"""Seconds for Modal to pull an image the first time."""


def create(context: RuntimeContext) -> ModalRuntime:
    """The entry point."""
    return ModalRuntime(context)


class ModalRuntime(Lives):
    """Sandboxes in the app ``openrt`` of a Modal account. Each ends with the process that made
    it."""

    features = FEATURES

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self._made_nothing()

    def _made_nothing(self) -> None:
        self._guard = threading.Lock()
        self._creating: dict[str, concurrent.futures.Future[modal.Sandbox]] = {}
        self._mine: set[str] = set()
        self._ended_at_exit: set[str] = set()

    def forked(self) -> None:
        """This is a child after a fork: it ends only what it makes itself."""
        super().forked()
        self._made_nothing()

    @hookimpl
    def openrt_preflight(self, spec: SandboxSpec) -> bool:
        """Modal answers and takes the credentials."""
        creation.check(spec)

        async def greet() -> None:
            client = await self._sdk.client()
            await client.hello.aio()

        self._sdk.call("log in to Modal", greet(), exists=False)
        return True

    @hookimpl
    def openrt_mount(self, mount: Mount, spec: SandboxSpec) -> Attachment:
        """Refuses: Modal's machines see no folder of ours."""
        raise VolumeError(
            f"{mount.source} cannot be mounted at {mount.target}: Modal has no access to folders "
            "of this machine.",
            hint="Copy files with sandbox.files.write and .read, or use RUNTIME=docker or local.",
        )

    @hookimpl
    def openrt_provision(
        self, spec: SandboxSpec, attachments: Sequence[Attachment]
    ) -> SandboxHandle:
        """Creates the sandbox and joins its agent as the owner; the agent's greeting says that it
        can run commands."""
        name = spec.image or DEFAULT_IMAGE
        image = self._sdk.call(
            f"build the image {name}",
            creation.image(self._sdk, name, self.context),
            BUILD_LIMIT,
            exists=False,
        )
        deadline = time.monotonic() + spec.start_timeout
        try:
            sandbox = self._create(spec, image)
            stream = self._open(spec, sandbox, deadline)
            self.adopt(
                spec.id,
                stream.endpoint,
                timeout=max(deadline - time.monotonic(), 0.1),
                env={**spec.env, **spec.secrets},
                describe=lambda: self._describe(spec.id),
            )
        except SandboxGoneError as error:
            raise ProvisionError(
                f"The sandbox ended while it started: {error}",
                hint=f"The image must be one for {creation.ARCHITECTURE}.",
            ) from error
        return SandboxHandle(
            runtime=self.context.name,
            id=spec.id,
            workdir=spec.workdir,
            user=spec.user,
            labels=spec.labels,
            native={"sandbox": sandbox.object_id},
        )

    def _open(self, spec: SandboxSpec, sandbox: modal.Sandbox, deadline: float) -> ExecStream:
        """The owner's stream into a new sandbox.

        Raises:
            StartTimeoutError: not by the deadline.
        """
        try:
            return self._sdk.call(
                "join the sandbox",
                ExecStream.open(self._sdk, sandbox, creation.PROGRAM, "connect", "--wait", "60"),
                max(deadline - time.monotonic(), 0.1),
            )
        except EngineUnreachableError as error:
            if time.monotonic() < deadline:
                raise
            raise StartTimeoutError(
                f"The sandbox could not be joined within {spec.start_timeout:g} s."
            ) from error

    def _create(self, spec: SandboxSpec, image: modal.Image) -> modal.Sandbox:
        """The creating call. Whatever interrupts us does not cut it short: teardown waits for it,
        so that it never misses what comes to be after it looked."""

        async def making() -> modal.Sandbox:
            app = await self._sdk.app()
            client = await self._sdk.client()
            import modal

            return await modal.Sandbox.create.aio(
                *creation.entry(spec),
                app=app,
                image=image,
                client=client,
                **creation.create_arguments(spec),
            )

        with self._guard:
            self._mine.add(spec.id)
            creating = self._creating[spec.id] = self._sdk.begin(making())
        try:
            with translated("create the sandbox", exists=False):
                sandbox = creating.result(spec.start_timeout)
        except OpenrtError as error:
            if creating.done():
                if error.code == ID_TAKEN:
                    with self._guard:  # the one that has it is not ours to end
                        self._mine.discard(spec.id)
                        self._creating.pop(spec.id, None)
                raise
            raise StartTimeoutError(
                f"Modal did not create the sandbox within {spec.start_timeout:g} s."
            ) from None
        with self._guard:
            self._creating.pop(spec.id, None)
        return sandbox

    @hookimpl
    def openrt_connect(self, id: str) -> SandboxHandle:
        """Joins through ``openrt-agent connect`` in the sandbox."""

        async def tags() -> dict[str, str]:
            sandbox = await self._found(id)
            return await sandbox.get_tags.aio()

        told = self._sdk.call("look up the sandbox", tags())
        handle = self._handle_of(id, told)
        self.client(handle)
        return handle

    def join(self, handle: SandboxHandle) -> Endpoint:
        """A guest's stream."""

        async def joining() -> ExecStream:
            sandbox = await self._found(handle.id)
            return await ExecStream.open(self._sdk, sandbox, creation.PROGRAM, "connect")

        return self._sdk.call("join the sandbox", joining()).endpoint

    async def _found(self, id: str) -> modal.Sandbox:
        sandbox = await self._sdk.find(id)
        if sandbox is None:
            raise SandboxGoneError(f"There is no sandbox {id} that runs on Modal.")
        return sandbox

    @hookimpl
    def openrt_teardown(self, handle: SandboxHandle) -> bool:
        """Terminates the sandbox, if its tag says that it is the one, and waits for its end."""
        if handle.id in self._ended_at_exit:
            return True
        self._await_creation(handle.id)
        try:
            # Looked for before the stream is closed, for its end ends the sandbox.
            sandbox = self._sdk.call("look up the sandbox", self._sdk.find(handle.id))
        finally:
            self.release(handle.id)
        if sandbox is not None:
            # Gone: it ended by itself meanwhile.
            with contextlib.suppress(SandboxGoneError):
                self._sdk.call("end the sandbox", ending.terminate(sandbox))
        with self._guard:
            self._mine.discard(handle.id)
        return sandbox is not None

    def _await_creation(self, id: str) -> None:
        """While it may come to be at any moment, looking for it would miss it."""
        creating = self._creating.get(id)
        if creating is None:
            return
        concurrent.futures.wait([creating], CALL_LIMIT)
        if not creating.done():
            raise EngineUnreachableError(
                f"Modal has still not created the sandbox {id}, so it cannot be ended.",
                hint="When it comes to be, it ends by itself after "
                f"{creation.OWNER_WAIT} seconds; or end it again later.",
            )
        with self._guard:
            self._creating.pop(id, None)

    def _end_all(self) -> None:
        """At the exit of the interpreter: what nobody ended. The core will ask for it later, when
        the library cannot be used any more."""
        for id in tuple(self._mine):
            try:
                self.openrt_teardown(SandboxHandle(runtime=self.context.name, id=id))
            except BaseException as error:  # noqa: BLE001  # a Ctrl-C ends one removal, not the others
                log.error("sandbox %s may be left behind on Modal: %s", id, error)
            self._ended_at_exit.add(id)
