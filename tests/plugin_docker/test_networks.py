"""SANDBOX_ADDITIONAL_NETWORKS on the engine."""

from __future__ import annotations

import uuid

import pytest

from openrt_core import Manager, Sandbox, hookimpl
from openrt_core.errors import OpenrtError, ProvisionError, SettingError
from openrt_core.hook_calls import Wrapper


@pytest.fixture
def networks(engine, monkeypatch):
    """Two networks of this test's own, set in the environment."""
    names = [f"openrt-test-{uuid.uuid4().hex}" for _ in range(2)]
    made = [engine.networks.create(name) for name in names]
    monkeypatch.setenv("SANDBOX_ADDITIONAL_NETWORKS", ",".join(names))
    try:
        yield names
    finally:
        for network in made:
            network.remove()


def test_the_first_command_sees_them_all(runtime, engine, networks):
    with runtime.create() as sandbox:
        interfaces = set(sandbox.exec("ls /sys/class/net").stdout.split())
        joined = engine.containers.get(f"openrt-{sandbox.id}").attrs["NetworkSettings"]["Networks"]
    assert {b"eth0", b"eth1", b"eth2"} <= interfaces
    assert {"bridge", *networks} <= set(joined)


def test_one_that_is_not_there_is_refused_before_anything_is_made(
    runtime, engine, networks, monkeypatch
):
    missing = f"openrt-test-{uuid.uuid4().hex}"
    monkeypatch.setenv("SANDBOX_ADDITIONAL_NETWORKS", f"{networks[0]},{missing}")
    with pytest.raises(SettingError, match=missing):
        runtime.create(labels={"openrt-test-net": missing})
    filters = {"label": f"openrt-test-net={missing}"}
    assert not engine.api.containers(all=True, filters=filters)


class RemovesBeforeProvision:
    """A wrapper that takes a network away after it was looked for."""

    def __init__(self, network):
        self.network = network

    @hookimpl(wrapper=True)
    def openrt_provision(self):
        self.network.remove()
        return (yield)


def test_one_that_cannot_be_joined_leaves_nothing(runtime, engine, networks, monkeypatch):
    mark = uuid.uuid4().hex
    third = engine.networks.create(f"openrt-test-{mark}")
    monkeypatch.setenv("SANDBOX_ADDITIONAL_NETWORKS", f"{networks[0]},{third.name}")
    wrapper = Wrapper("removes", RemovesBeforeProvision(third))
    manager = Manager.open(runtime.name, wrappers=[wrapper])
    with pytest.raises(ProvisionError, match=third.name):
        Sandbox.create(manager=manager, image=runtime.image, labels={"openrt-test-net": mark})
    assert not engine.api.containers(all=True, filters={"label": f"openrt-test-net={mark}"})


@pytest.mark.parametrize("network", ["none", "host"])
def test_they_cannot_be_with_none_or_host(runtime, networks, network):
    with pytest.raises(SettingError, match=f"network={network}"):
        runtime.create(network=network)


def test_host_is_none_of_several(runtime, monkeypatch):
    monkeypatch.setenv("SANDBOX_ADDITIONAL_NETWORKS", "host")
    with pytest.raises(OpenrtError, match="'host'"):
        runtime.create()
