"""Sandboxes as wholes: found, listed, paused, kept as an image."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from openrt_agent.client import AgentClient
from openrt_agent.endpoint import Endpoint
from openrt_agent.requests import User, user_of
from openrt_agent.runtime import AgentRuntime
from openrt_core.errors import (
    OpenrtError,
    ProvisionError,
    SandboxGoneError,
    SettingError,
    TransportError,
)
from openrt_core.models import SandboxHandle
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_core.settings import DEFAULT_IMAGE
from openrt_docker import container, go_variables, images, users
from openrt_docker import labels as _labels
from openrt_docker.builds import Builder
from openrt_docker.engine import Engine, is_missing, translated
from openrt_docker.guests import GuestEndpoint, refusal

_THERE = ["created", "restarting", "running", "paused"]


class Lives(AgentRuntime):
    """What the engine knows of sandboxes, and what it does with one as a whole.

    Attributes:
        engine: the engine that DOCKER_HOST names.
    """

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self.engine = Engine()
        self._lines: dict[str, bool] = {}
        self._builder = Builder(self.engine, context.emit)

    def handle_of(self, id: str, told: Mapping[str, str]) -> SandboxHandle:
        """The handle of the sandbox whose container has these labels."""
        user = told.get(_labels.USER, "")
        return SandboxHandle(
            runtime=self.context.name,
            id=id,
            workdir=told.get(_labels.WORKDIR, "/workspace"),
            user=int(user) if user.isdecimal() else None,
            labels=_labels.asked_for(told),
            native=_labels.native(
                user, go_variables.from_label(told.get(_labels.GO_VARIABLES, ""))
            ),
        )

    def agent_user(self, handle: SandboxHandle, user: int | str | None) -> User | None:
        """The user of the call, else the sandbox's, else the image's USER; None for root."""
        if user is not None:
            return user_of(user)
        carried = str(handle.native.get("user") or "")
        return users.of_agent(carried, lambda uid: self._has_line(handle, uid))

    def _has_line(self, handle: SandboxHandle, uid: int) -> bool:
        """Asked once, as the engine does: at the start."""
        known = self._lines.get(handle.id)
        if known is None:
            known = users.has_line(self.client(handle).files, uid)
            self._lines[handle.id] = known
        return known

    def release(self, id: str) -> bool:
        """As of any runtime."""
        self._lines.pop(id, None)
        return super().release(id)

    def adopt(self, id: str, endpoint: Endpoint, **options: Any) -> AgentClient:
        """As of any runtime; an exec that the engine refused is told in its words."""
        try:
            return super().adopt(id, endpoint, **options)
        except TransportError as error:
            if not isinstance(endpoint, GuestEndpoint):
                raise
            refused = refusal(self.engine, endpoint)
            if refused is None:
                raise
            raise refused from error

    def inspect(self, id: str) -> dict[str, Any] | None:
        """What the engine says of a sandbox's container; None when there is none of ours."""
        found = self.inspect_any(container.name(id))
        if found is None or (found["Config"].get("Labels") or {}).get(_labels.ID) != id:
            return None
        return found

    def inspect_any(self, name: str) -> dict[str, Any] | None:
        """The same of a container by its name or the engine's own id."""
        try:
            with translated("look at the container"):
                return dict(self.engine.client().api.inspect_container(name))
        except OpenrtError as error:
            if is_missing(error):
                return None
            raise

    @hookimpl
    def openrt_list(self, labels: Mapping[str, str]) -> list[SandboxHandle]:
        """Those whose container has our labels and our name for its id."""
        return _listed(self, labels)

    @hookimpl
    def openrt_pause(self, handle: SandboxHandle) -> bool:
        """Freezes the container."""
        return self._switch(handle.id, "pause")

    @hookimpl
    def openrt_resume(self, handle: SandboxHandle) -> bool:
        """Thaws the container."""
        return self._switch(handle.id, "unpause")

    @hookimpl
    def openrt_snapshot(self, handle: SandboxHandle, name: str) -> str:
        """Commits the container, with the configuration and labels of its image."""
        found = self.inspect(handle.id)
        if found is None or not found["State"].get("Running"):
            raise _no_container(handle.id)
        repository, tag = images.split(name)
        with contextlib.closing(self.engine.patient_client()) as client:
            with translated("look up the image of the sandbox"):
                image = client.api.inspect_image(found["Image"])["Config"] or {}
            with translated(f"make the image {name}"):
                client.api.commit(found["Id"], repository, tag, conf=_image_config(found, image))
        return f"{repository}:{tag}"

    @hookimpl
    def openrt_build_image(
        self, base: str | None, commands: Sequence[str], platform: str | None, rebuild: bool
    ) -> str:
        """A `docker build`, under a tag that is the hash of what goes into it."""
        return self._builder.build(base or DEFAULT_IMAGE, commands, platform, rebuild=rebuild)

    def _switch(self, id: str, call: str) -> bool:
        """Calls ``pause`` or ``unpause``, unless that is how it is."""
        wanted = call == "pause"
        if self._is_paused(id) == wanted:
            return False
        api = self.engine.client().api
        try:
            with translated(f"{call} the container"):
                (api.pause if wanted else api.unpause)(container.name(id))
        except ProvisionError:
            # Somebody else did it in between, or it ended.
            if self._is_paused(id) == wanted:
                return False
            raise
        return True

    def _is_paused(self, id: str) -> bool:
        found = self.inspect(id)
        if found is None or not found["State"].get("Running"):
            raise _no_container(id)
        return bool(found["State"].get("Paused"))


def _no_container(id: str) -> SandboxGoneError:
    return SandboxGoneError(f"There is no running container of the sandbox {id}.")


def _image_config(found: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """What a snapshot is configured as. What is left out or null, the engine takes from the
    container, which has the agent for its program and root for its user."""
    told = found["Config"].get("Labels") or {}
    return {
        "Entrypoint": image.get("Entrypoint") or [],
        "Cmd": image.get("Cmd") or [],
        "User": image.get("User") or "0:0",
        "WorkingDir": image.get("WorkingDir") or "/",
        "Env": image.get("Env") or [],
        "Labels": _labels.for_snapshot(told, image.get("Labels") or {}),
    }


def _listed(lives: Lives, asked: Mapping[str, str]) -> list[SandboxHandle]:
    filters = {
        "label": [_labels.ID, *(f"{name}={value}" for name, value in asked.items())],
        "status": _THERE,
    }
    with translated("list the containers"):
        found = lives.engine.client().api.containers(all=True, filters=filters)
    handles = []
    for each in found:
        told = each.get("Labels") or {}
        id = told.get(_labels.ID, "")
        # An image may have brought the label along.
        if f"/{container.name(id)}" not in (each.get("Names") or ()):
            continue
        try:
            handle = lives.handle_of(id, told)
        except SettingError:
            continue  # somebody else wrote our label with what we never write
        if asked.items() <= handle.labels.items():
            handles.append(handle)
    return handles
