"""Runtimes with one of their defences taken out, to show that a test would see it missing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pathlib
import platform
import subprocess
from types import ModuleType

import pytest
from support import runtimes

AGENT = pathlib.Path(__file__).resolve().parents[2] / "agent"


def build(tag: str, folder: pathlib.Path) -> pathlib.Path:
    """The agent for this machine, compiled with a build tag that takes a defence out of it.

    Skips when there is no Go compiler; fails when runtimes are required here.
    """
    maker = _maker()
    go = maker.find_go()
    if go is None:
        lacking("a Go compiler")
    program = folder / f"openrt-agent-{tag}"
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GO") or k == "GOCACHE"}
    environment = inherited | maker.ENVIRONMENT | {"GOARCH": architecture}
    command = [go, *maker.COMMAND, "-tags", tag, "-o", str(program), "."]
    subprocess.run(command, cwd=AGENT / "src", env=environment, check=True, timeout=600)
    program.chmod(0o755)
    return program


def use(patch: pytest.MonkeyPatch, runtime: str, program: pathlib.Path) -> None:
    """Has a runtime put this agent into its sandboxes."""
    if runtime == "local":
        patch.setattr("openrt_local.plugin.agent_path", lambda arch=None: program)
    else:
        patch.setattr("openrt_docker.agent_volume.agent_path", lambda arch=None: program)
        patch.setattr("openrt_docker.agent_volume.agent_digest", lambda arch=None: digest(program))


def digest(program: pathlib.Path) -> str:
    """Its SHA-256, by which docker's volumes of the agent are named."""
    return hashlib.sha256(program.read_bytes()).hexdigest()


def lacking(what: str) -> None:
    """Skips, or fails where runtimes are required: there everything that tests need is there."""
    if runtimes.required():
        pytest.fail(f"{what} is needed here")
    pytest.skip(f"needs {what}")


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", AGENT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
