"""What Modal is asked to create for one sandbox."""

from __future__ import annotations

import asyncio
import math
import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

from openrt_agent.binary import agent_path
from openrt_core.errors import SettingError
from openrt_core.events import Event
from openrt_core.models import SandboxSpec
from openrt_core.plugin import RuntimeContext
from openrt_modal.sdk import Sdk

if TYPE_CHECKING:
    import modal

PROGRAM = "/.openrt/openrt-agent"
"""Where the agent lies in the sandbox."""
ARCHITECTURE = "amd64"
"""Of Modal's machines."""
LONGEST = 86400
"""Seconds that Modal lets a sandbox live at most."""
OWNER_WAIT = 300
"""Seconds until a sandbox ends that nobody joined: its maker died in the creating call."""
ID, WORKDIR, USER = "openrt.id", "openrt.workdir", "openrt.user"
_MIB = 1 << 20


def check(spec: SandboxSpec) -> None:
    """Refuses what Modal could not do.

    Raises:
        SettingError: a label of our own name, or too long a lifetime.
    """
    reserved = [key for key in spec.labels if key.startswith("openrt.")]
    if reserved:
        raise SettingError(
            f"The label {reserved[0]!r} is openrt's own.", hint="Choose another name."
        )
    if spec.lifetime is not None and spec.lifetime > LONGEST:
        raise SettingError(
            f"Modal ends every sandbox after {LONGEST} seconds; "
            f"a lifetime of {spec.lifetime:g} seconds cannot be had.",
            hint="Ask for less.",
        )


def entry(spec: SandboxSpec) -> list[str]:
    """The sandbox's first process: the agent, whose owner comes through an exec."""
    options = ["--owner", "socket", "--wait", str(OWNER_WAIT), "--label", spec.id]
    return [PROGRAM, "serve", *options]


def create_arguments(spec: SandboxSpec) -> dict[str, Any]:
    """Arguments of ``modal.Sandbox.create`` beside the entry, the app and the image.

    The spec's environment and secrets are not among them: the agent is told them for each command.
    """
    tags = {**spec.labels, ID: spec.id, WORKDIR: spec.workdir}
    if spec.user is not None:
        tags[USER] = str(spec.user)
    arguments: dict[str, Any] = {
        "name": spec.id,
        "tags": tags,
        "timeout": LONGEST if spec.lifetime is None else math.ceil(spec.lifetime),
        "block_network": spec.network == "none",
    }
    if spec.cpu is not None:
        arguments["cpu"] = (spec.cpu, spec.cpu)
    if spec.memory is not None:
        mebibytes = math.ceil(spec.memory / _MIB)
        arguments["memory"] = (mebibytes, mebibytes)
    return arguments


def executable_agent(folder: pathlib.Path) -> pathlib.Path:
    """The agent as a file with its executable bit, which Modal takes over.

    Args:
        folder: where a copy is made when the installed file has lost the bit.
    """
    path = agent_path(ARCHITECTURE)
    if os.access(path, os.X_OK):
        return path
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A name that no other thread and no other process copies to at the same time.
    aside, copy = folder / f"openrt-agent.{os.urandom(8).hex()}", folder / "openrt-agent"
    try:
        shutil.copyfile(path, aside)
        aside.chmod(0o755)
        aside.rename(copy)
    finally:
        aside.unlink(missing_ok=True)
    return copy


async def image(sdk: Sdk, name: str, context: RuntimeContext) -> modal.Image:
    """The image with the agent in it, built by Modal when it is new there. Runs on the loop."""
    built = sdk.images.get(name)
    if built is None:
        app = await sdk.app()
        import modal

        context.emit(Event(kind="progress", message=f"building {name}", source=context.name))
        agent = await asyncio.to_thread(executable_agent, context.state_folder)
        built = modal.Image.from_registry(name).add_local_file(agent, PROGRAM)
        built = sdk.images[name] = await built.build.aio(app)
    return built
