"""What killed clients left with the engine before it ran."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

pytest.importorskip("openrt_docker")
from openrt_docker import labels
from openrt_docker.engine import Engine
from openrt_docker.sweep import sweep


@pytest.fixture
def created(runtime, engine):
    """``created(owner)`` makes a container that is never started."""
    made = []

    def make(owner, name="openrt-{}"):
        id = uuid.uuid4().hex
        told = {labels.ID: id, labels.OWNER: owner}
        made.append(
            engine.containers.create(runtime.image, ["none"], labels=told, name=name.format(id))
        )
        return made[-1]

    yield make
    for container in made:
        if exists(engine, container):
            container.remove(force=True)


def exists(engine, container) -> bool:
    return any(one["Id"] == container.id for one in engine.api.containers(all=True))


def owner_of_a_dead_process() -> str:
    script = "from openrt_docker import labels; print(labels.owner())"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_container_of_a_dead_client_goes(created, engine):
    dead = created(owner_of_a_dead_process())
    assert sweep(Engine()) >= 1
    assert not exists(engine, dead)


def test_containers_of_the_living_and_of_strangers_stay(created, engine):
    fields = owner_of_a_dead_process().split(" ")
    theirs = [
        created(labels.owner()),
        created(" ".join(["another-host", *fields[1:]])),
        created(" ".join([*fields[:2], "pid:[1]", *fields[3:]])),
        created("nonsense"),
        created(" ".join(fields), "mine-{}"),
    ]
    sweep(Engine())
    assert all(exists(engine, container) for container in theirs)
