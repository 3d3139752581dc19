"""The engine and its test image."""

from __future__ import annotations

import pytest
from support import runtimes


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    """The docker runtime."""
    with runtimes.opened("docker", tmp_path_factory.mktemp("docker")) as opened:
        yield opened


@pytest.fixture(scope="session")
def engine(runtime):
    """The SDK's client."""
    import docker

    client = docker.from_env(timeout=60)
    yield client
    client.close()
