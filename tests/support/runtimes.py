"""The runtimes that tests run on: how each is reached here, and whether it is.

OPENRT_REQUIRED_RUNTIMES (names, separated by commas) says which must be there; a required one
that is not there fails where another skips.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from openrt_core import AsyncSandbox, Sandbox

NAMES = ("local", "docker", "modal", "remote")


@attrs.frozen(eq=False)
class Runtime:
    """A runtime that can be used here.

    Attributes:
        name: as in RUNTIME.
        image: for ``Sandbox.create``; None for a runtime without images.
        control: what stands in for its back end (an emulator), or None.
        variables: the environment that leads there.
    """

    name: str
    image: str | None = None
    control: Any = None
    variables: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def create(self, **arguments: Any) -> Sandbox:
        """A sandbox of this runtime."""
        return Sandbox.create(self.name, **self.defaults(arguments))

    async def create_async(self, **arguments: Any) -> AsyncSandbox:
        """The same, for async code."""
        return await AsyncSandbox.create(self.name, **self.defaults(arguments))

    def defaults(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """``arguments``, with the image filled in."""
        return arguments if self.image is None else {"image": self.image, **arguments}


def required() -> set[str]:
    """The runtimes that must be there."""
    return {name.strip() for name in os.environ.get("OPENRT_REQUIRED_RUNTIMES", "").split(",")} - {
        ""
    }


def missing(name: str, reason: str) -> None:
    """Skips, or fails when the runtime is required."""
    if name in required():
        pytest.fail(f"the runtime {name} is required here, but {reason}")
    pytest.skip(f"{name}: {reason}")


@contextlib.contextmanager
def opened(name: str, folder: pathlib.Path) -> Iterator[Runtime]:
    """A runtime, with whatever stands in for its back end, as long as the block lasts.

    ``environment(runtime.variables)`` leads to it.
    """
    with _OPENERS[name](folder) as runtime:
        yield runtime


@contextlib.contextmanager
def _local(folder: pathlib.Path) -> Iterator[Runtime]:
    try:
        import openrt_local.plugin  # noqa: F401
    except ImportError as error:
        missing("local", f"openrt-local is not installed ({error})")
    yield Runtime("local")


@contextlib.contextmanager
def _docker(folder: pathlib.Path) -> Iterator[Runtime]:
    try:
        import docker
        import docker.errors

        import openrt_docker.plugin  # noqa: F401
    except ImportError as error:
        missing("docker", f"openrt-docker is not installed ({error})")
    image = os.environ.get("OPENRT_TEST_IMAGE_BUSYBOX", "")
    try:
        with contextlib.closing(docker.from_env(timeout=30)) as client:
            client.images.get(image or "none")
    except docker.errors.DockerException as error:
        missing("docker", f"no engine with the image OPENRT_TEST_IMAGE_BUSYBOX={image!r}: {error}")
    yield Runtime("docker", image)


@contextlib.contextmanager
def _modal(folder: pathlib.Path) -> Iterator[Runtime]:
    rootfs = os.environ.get("OPENRT_TEST_ROOTFS_BUSYBOX", "")
    if not rootfs:
        missing("modal", "OPENRT_TEST_ROOTFS_BUSYBOX names no root file system for its emulator")
    try:
        from emulators.modal.emulator import Emulator

        import openrt_modal.plugin  # noqa: F401
    except ImportError as error:
        missing("modal", f"openrt-modal is not installed ({error})")
    with Emulator(rootfs=rootfs, state=folder / "modal") as emulator:
        tokens = {"MODAL_API_TOKEN_ID": "ak-test", "MODAL_API_TOKEN_SECRET": "as-test"}
        yield Runtime("modal", "openrt-test/busybox", emulator, emulator.environment | tokens)


@contextlib.contextmanager
def _remote(folder: pathlib.Path) -> Iterator[Runtime]:
    server = os.environ.get("OPENRT_AGENT_SERVER_VENV", "")
    if not server:
        missing("remote", "OPENRT_AGENT_SERVER_VENV names no venv with the agent server")
    try:
        from emulators.all_hands.plane import ControlPlane
        from emulators.all_hands.server_process import Pod

        import openrt_remote.plugin
        import openrt_remote.start
    except ImportError as error:
        missing("remote", f"openrt-remote is not installed ({error})")
    # Started ahead, as our own call asks for it: a server takes seconds to start.
    spare = Pod(environment=dict(openrt_remote.start.ENVIRONMENT))
    with ControlPlane(server=agent_server(server), state=folder / "remote", spare=spare) as plane:
        variables = {
            "SANDBOX_REMOTE_RUNTIME_API_URL": plane.url,
            "SANDBOX_API_KEY": plane.api_key,
        }
        yield Runtime("remote", "openrt-test/agent-server", plane, variables)


def agent_server(venv: str) -> pathlib.Path:
    """The executable of the All Hands agent server in this venv."""
    found = sorted(pathlib.Path(venv, "bin").glob("*agent-server"))
    if not found:
        raise FileNotFoundError(f"{venv} holds no agent server")
    return found[0]


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables set in os.environ."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in variables.items():
            patch.setenv(key, value)
        yield


_OPENERS = {"local": _local, "docker": _docker, "modal": _modal, "remote": _remote}
