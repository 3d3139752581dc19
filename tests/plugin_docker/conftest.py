"""The engine and its test image."""

from __future__ import annotations

import uuid

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


@pytest.fixture
def configured(runtime, engine):
    """``configured(*changes)`` makes an image of the test image and Dockerfile instructions."""
    names = []

    def make(*changes):
        name = f"openrt-test/configured-{uuid.uuid4().hex}"
        made = engine.containers.create(runtime.image, ["none"])
        try:
            made.commit(name, "latest", changes="\n".join(changes))
        finally:
            made.remove(v=True)
        names.append(f"{name}:latest")
        return names[-1]

    yield make
    for name in names:
        engine.images.remove(name, force=True)
