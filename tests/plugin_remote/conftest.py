"""The remote runtime at the emulated All Hands platform: with fakes, and with the real server."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import Any

import pytest
from emulators.all_hands.plane import ControlPlane

from openrt_core.events import Event
from openrt_core.models import Command, SandboxSpec
from openrt_core.plugin import RuntimeContext
from openrt_core.process import Process
from openrt_remote.plugin import create
from openrt_remote.settings import Settings

WAIT = 120.0
"""Seconds for anything that has to happen; the machine may be slow."""


class Remote:
    """A runtime at a control plane."""

    def __init__(self, plane, state, **settings):
        self.plane = plane
        self.events: list[Event] = []
        self.handle: Any = None
        values = {"api_url": plane.url, "api_key": plane.api_key, **settings}
        context = RuntimeContext(
            name="remote",
            settings=Settings(**values),
            emit=self.events.append,
            state_folder=state,
        )
        self.plugin = create(context)

    def provision(self, **fields):
        """A sandbox."""
        return self.plugin.openrt_provision(SandboxSpec(**fields), ())

    def start(self, handle, *argv, **fields):
        """A command that was started."""
        process = Process(Command(argv=argv, **fields))
        process.arm()
        assert self.plugin.openrt_exec(handle, process.command, process) is process
        return process

    def run(self, handle, *argv, input=None, **fields):
        """The result of a command."""
        process = self.start(handle, *argv, stdin=input is not None, **fields)
        if input is not None:
            process.feed_input(input)
        return process.wait(WAIT)


@pytest.fixture
def fake_plane(tmp_path):
    """A control plane whose sandboxes run the fake server."""
    with ControlPlane(server=None, state=tmp_path / "plane") as plane:
        yield plane
        # Fakes run commands on this machine, so what a sandbox keeps in /tmp is here.
        for sandbox in plane._sandboxes:
            shutil.rmtree(f"/tmp/.openrt-{sandbox.session_id}", ignore_errors=True)


@pytest.fixture
def fake(fake_plane, tmp_path):
    """A runtime there."""
    return Remote(fake_plane, tmp_path)


@pytest.fixture(scope="session")
def real_plane(tmp_path_factory):
    """A control plane whose sandboxes run the real server."""
    venv = os.environ.get("OPENRT_AGENT_SERVER_VENV", "")
    if not venv:
        pytest.skip("OPENRT_AGENT_SERVER_VENV names no venv with the agent server")
    state = tmp_path_factory.mktemp("all-hands")
    server = pathlib.Path(venv, "bin", "agent-server")
    with ControlPlane(server=server, state=state, spare=None) as plane:
        yield plane


@pytest.fixture(scope="session")
def real(real_plane, tmp_path_factory):
    """A runtime there, and one sandbox for all tests that leave it as it was."""
    remote = Remote(real_plane, tmp_path_factory.mktemp("state"))
    env, secrets = {"GREETING": "a 'b' $c", "LEVEL": "sandbox"}, {"TOKEN": "hush-hush-7351"}
    remote.handle = remote.provision(env=env, secrets=secrets, workdir="/workspace/deep er")
    yield remote
    remote.plugin.openrt_teardown(remote.handle)
