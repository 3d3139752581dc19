"""The container that fills the agent's volume."""

from __future__ import annotations

import uuid

import pytest

pytest.importorskip("openrt_docker")
from docker.models.containers import ContainerCollection

from openrt_docker import images
from openrt_docker.agent_volume import AgentVolumes
from openrt_docker.engine import Engine


def test_the_volumes_that_its_image_declares_go_with_it(runtime, engine, configured, monkeypatch):
    place = f"/declared-{uuid.uuid4().hex}"
    image = images.find(Engine(), configured(f"VOLUME {place}"), lambda event: None)
    made = []
    create = ContainerCollection.create

    def noted(self, *args, **kwargs):
        made.append(create(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(ContainerCollection, "create", noted)
    AgentVolumes(Engine()).ready(image.id, image.arch)
    (container,) = made
    (anonymous,) = [m["Name"] for m in container.attrs["Mounts"] if m["Destination"] == place]
    there = [v["Name"] for v in engine.api.volumes()["Volumes"]]
    assert anonymous not in there
    assert any(name.startswith("openrt-agent-") for name in there)
