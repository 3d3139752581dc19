"""The agent's binaries, which are in this distribution: static, for Linux on amd64 and arm64."""

from __future__ import annotations

import functools
import hashlib
import pathlib
import platform
from typing import Final

from openrt_core.errors import PluginError, UnsupportedError

SOCKET: Final = "/run/openrt/agent.sock"
"""Where an agent in a sandbox listens for guests."""

_ARCHITECTURES: Final = {
    "amd64": "amd64",
    "x86_64": "amd64",
    "arm64": "arm64",
    "aarch64": "arm64",
}


def agent_path(arch: str | None = None) -> pathlib.Path:
    """The agent for one architecture, by Go's name or by uname's; None for this machine's.

    Raises:
        UnsupportedError: there is no agent for it.
        PluginError: the distribution was installed without its binaries.
    """
    asked = platform.machine() if arch is None else arch
    name = _ARCHITECTURES.get(asked.lower())
    if name is None:
        raise UnsupportedError(
            f"There is no agent for the architecture {asked!r}.",
            hint="The agent runs on amd64 and arm64.",
        )
    path = pathlib.Path(__file__).parent / "bin" / f"openrt-agent-linux-{name}"
    if not path.is_file():
        raise PluginError(
            f"openrt-agent was installed without its binary for {name}.",
            hint="Install the wheel again; in a checkout, run `python agent/hatch_build.py`.",
        )
    return path


@functools.cache
def agent_digest(arch: str | None = None) -> str:
    """The SHA-256 of ``agent_path(arch)``, in hex: to name what was made from it."""
    return hashlib.sha256(agent_path(arch).read_bytes()).hexdigest()
