"""The modal runtime over an emulator of Modal, through the unmodified client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from support import runtimes

DEADLINE = 120.0


@pytest.fixture(scope="session")
def backend(tmp_path_factory):
    """The emulator."""
    with runtimes.opened("modal", tmp_path_factory.mktemp("modal")) as opened:
        yield opened


@pytest.fixture
def runtime(backend):
    """The modal runtime, with the environment that leads to the emulator, its ``control``."""
    with runtimes.environment(backend.variables):
        yield backend


@pytest.fixture(scope="session")
def eventually():
    """``eventually(condition, what)``: polls until it holds."""

    def wait(condition, what):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
            time.sleep(0.05)

    return wait


@pytest.fixture
def python(runtime):
    """``python(script, **env)``: a process of its own that ran the script, and what it printed
    last, as JSON."""

    def run(script, *arguments, **env):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        lines = done.stdout.splitlines()
        return done, json.loads(lines[-1]) if lines else None

    return run
