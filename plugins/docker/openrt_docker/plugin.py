"""The docker runtime: a container for each sandbox, with the agent as its first process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from openrt_agent.endpoint import Endpoint
from openrt_agent.runtime import linger_of
from openrt_core.errors import OpenrtError, ProvisionError, SandboxGoneError, SettingError
from openrt_core.models import (
    Attachment,
    Mount,
    PostMortem,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
)
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_core.settings import DEFAULT_IMAGE
from openrt_docker import container, endings, images, labels, networks
from openrt_docker.agent_volume import PROGRAM, AgentVolumes
from openrt_docker.attach import EngineEndpoint
from openrt_docker.engine import CREATE, is_missing, translated
from openrt_docker.guests import GuestEndpoint
from openrt_docker.kwargs import extra
from openrt_docker.lives import Lives
from openrt_docker.settings import Settings
from openrt_docker.sweep import sweep

FEATURES = frozenset(
    {
        "background",
        "bind",
        "cpu",
        "gpu",
        "idle_limit",
        "image",
        "keep",
        "kill_tree",
        "labels",
        "memory",
        "named_volume",
        "network_host",
        "network_named",
        "network_none",
        "pids",
        "platform",
        "read_only",
        "stdin",
        "streams",
        "tty",
        "user",
    }
)
_REMOVAL_LIMIT = 60.0


def create(context: RuntimeContext) -> DockerRuntime:
    """The entry point."""
    return DockerRuntime(context)


class DockerRuntime(Lives):
    """Containers of the engine that DOCKER_HOST names. Each ends with the process that made it,
    or when it is kept, so long after its last client; its container then stays, ended, until
    ``openrt_teardown``."""

    features = FEATURES

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self._volumes = AgentVolumes(self.engine)
        self._swept = False
        self._settings: Settings = context.settings or Settings()

    @hookimpl
    def openrt_preflight(self, spec: SandboxSpec) -> bool:
        """The engine answers, and the settings can be."""
        with translated("reach the Docker engine"):
            self.engine.client().ping()
        extra(self.engine, self._settings.kwargs)
        networks.check(self.engine, self._settings.additional_networks, spec)
        reserved = [key for key in spec.labels if key.startswith("openrt.")]
        if reserved:
            raise SettingError(
                f"The label {reserved[0]!r} is openrt's own.", hint="Choose another name."
            )
        return True

    @hookimpl
    def openrt_mount(self, mount: Mount, spec: SandboxSpec) -> Attachment:
        """Binds and named volumes. The engine checks the source, for it may see another file
        system than we do."""
        return Attachment(kind="volume" if mount.named else "bind", mount=mount)

    @hookimpl
    def openrt_provision(
        self, spec: SandboxSpec, attachments: Sequence[Attachment]
    ) -> SandboxHandle:
        """Creates, attaches, starts; the agent's greeting says that it can run commands."""
        if not self._swept:
            self._swept = True
            sweep(self.engine)
        image = images.find(
            self.engine, spec.image or DEFAULT_IMAGE, self.context.emit, spec.platform
        )
        user = str(spec.user) if spec.user is not None else image.user
        try:
            volume = self._volumes.ready(image.id, image.arch)
            endpoint = self._start(spec, attachments, image, volume, user)
        except OpenrtError as error:
            if PROGRAM not in str(error):
                raise
            # The engine did not find the program: somebody pruned the volume since we filled it.
            self._volumes.forget()
            self.openrt_teardown(SandboxHandle(runtime=self.context.name, id=spec.id))
            volume = self._volumes.ready(image.id, image.arch)
            endpoint = self._start(spec, attachments, image, volume, user)
        self.adopt(
            spec.id,
            endpoint,
            timeout=spec.start_timeout,
            env={**image.go_variables, **spec.env, **spec.secrets},
            linger=linger_of(spec),
            describe=lambda: self._describe(spec.id, endpoint.log()),
        )
        return SandboxHandle(
            runtime=self.context.name,
            id=spec.id,
            workdir=spec.workdir,
            user=spec.user,
            labels=spec.labels,
            native=labels.native(user, image.go_variables),
        )

    def _start(
        self,
        spec: SandboxSpec,
        attachments: Sequence[Attachment],
        image: images.Image,
        volume: str,
        user: str,
    ) -> EngineEndpoint:
        api = self.engine.client().api
        more = extra(self.engine, self._settings.kwargs)
        arguments = container.create_arguments(
            self.engine, spec, attachments, image, volume, user, more
        )
        with translated(CREATE):
            made = api.create_container_from_config(
                _config(api, arguments), arguments["name"], spec.platform
            )
        networks.join(self.engine, self._settings.additional_networks, made["Id"])
        with translated("attach to the container"):
            raw = api.attach_socket(made["Id"], {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        endpoint = EngineEndpoint(raw)
        try:
            with translated("start the container"):
                api.start(made["Id"])
        except BaseException:
            endpoint.close()
            raise
        return endpoint

    @hookimpl
    def openrt_connect(self, id: str) -> SandboxHandle:
        """Joins through ``openrt-agent connect`` in the container; in a paused one nothing can be
        run, so that it is joined when it is used, after it was resumed."""
        found = self.inspect(id)
        if found is None or not found["State"]["Running"]:
            raise SandboxGoneError(f"There is no running container of the sandbox {id}.")
        handle = self.handle_of(id, found["Config"]["Labels"])
        if not found["State"].get("Paused"):
            self.client(handle)
        return handle

    def join(self, handle: SandboxHandle) -> Endpoint:
        """A guest's stream: an exec, as root, which the agent's socket asks for."""
        api = self.engine.client().api
        try:
            with translated("join the container"):
                made = api.exec_create(
                    container.name(handle.id),
                    [PROGRAM, "connect"],
                    stdin=True,
                    user="0:0",
                    tty=False,
                )
                endpoint = GuestEndpoint(api.exec_start(made["Id"], socket=True), made["Id"])
        except ProvisionError as error:
            gone = self._describe(handle.id, b"")
            if gone is not None:
                raise gone from error
            if "paused" in str(error):
                error.hint = "Resume it first: sandbox.resume()."
            raise
        self._env.setdefault(handle.id, dict(handle.native.get("go_variables") or {}))
        return endpoint

    @hookimpl
    def openrt_status(self, handle: SandboxHandle) -> SandboxStatus:
        """What the engine says. Only the containers of kept sandboxes are there after their end;
        of others it remembers the end for a while."""
        found = self.inspect(handle.id)
        if found is None:
            end = endings.of_removed(self.engine, handle.id)
            return SandboxStatus(state="gone", post_mortem=end)
        state = found["State"]
        if state.get("Paused"):
            return SandboxStatus(state="paused")
        if state.get("Running"):
            return SandboxStatus(state="running")
        if state.get("Status") == "created":
            return SandboxStatus(state="starting")
        return SandboxStatus(state="gone", post_mortem=endings.of_state(state))

    @hookimpl
    def openrt_teardown(self, handle: SandboxHandle) -> bool:
        """Removes the container, if its label says that it is the one."""
        # First, for a stream that nobody reads makes the engine's removal hang.
        self.release(handle.id)
        found = self.inspect(handle.id)
        if found is None:
            return False
        return self._remove(found["Id"])

    def _remove(self, id: str) -> bool:
        api = self.engine.client().api
        deadline = time.monotonic() + _REMOVAL_LIMIT
        try:
            with translated("remove the container"):
                api.remove_container(id, force=True, v=True)
        except ProvisionError as error:
            # Its own end removes it too, and perhaps has begun to.
            if is_missing(error):
                return True
            if "in progress" not in str(error):
                raise
        while self._exists(id):
            if time.monotonic() > deadline:
                raise ProvisionError(
                    f"The engine did not remove the container {id[:12]} in time.", retryable=True
                )
            time.sleep(0.02)
        return True

    def _exists(self, name: str) -> bool:
        return self.inspect_any(name) is not None

    def _describe(self, id: str, log: bytes) -> SandboxGoneError | None:
        """For a stream that ended: the container's end, if that is why."""
        found = self.inspect(id)
        if found is not None and found["State"].get("Running"):
            return None
        if found is not None:
            end: PostMortem | None = endings.of_state(found["State"], log)
        else:
            end = endings.of_removed(self.engine, id, log)
        end = end or PostMortem(reason="its container is gone", output=log)
        return SandboxGoneError(f"The sandbox {id} has ended.", post_mortem=end)


def _config(api: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The body of the creating call; the SDK's own call has no way to say StdinOnce."""
    values = {k: v for k, v in arguments.items() if k not in ("name", "stdin_once")}
    config: dict[str, Any] = dict(api.create_container_config(**values))
    config["StdinOnce"] = arguments["stdin_once"]
    return config
