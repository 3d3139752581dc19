"""SANDBOX_DOCKER_RUNTIME_KWARGS on the engine."""

from __future__ import annotations

import inspect
import json
import uuid

import pytest

from openrt_core.errors import ProvisionError, SettingError
from openrt_core.settings import TABLE
from openrt_docker import kwargs

GROUPS = (kwargs.HOST, kwargs.CONTAINER, kwargs.ELSEWHERE, kwargs.NEEDED, kwargs.HARDENING)


@pytest.fixture
def given(monkeypatch):
    """Sets the variable."""
    return lambda **values: monkeypatch.setenv(kwargs.VARIABLE, json.dumps(values))


def test_what_is_given_goes_over_our_own(runtime, engine, given):
    given(
        shm_size="96m",
        pids_limit=77,
        hostname="mine",
        extra_hosts={"db": "192.0.2.7"},
        ulimits=[{"name": "nofile", "soft": 123, "hard": 456}],
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
        dns=["192.0.2.53"],
        tmpfs={"/scratch": "size=1m"},
    )
    with runtime.create(pids=50, memory=64 * 1024**2) as sandbox:
        config = engine.containers.get(f"openrt-{sandbox.id}").attrs["HostConfig"]
        script = "hostname; ulimit -n; ulimit -Hn; grep -c 192.0.2.7 /etc/hosts"
        seen = sandbox.exec(f"{script}; mount | grep -c ' /scratch '").stdout.split()
    assert (config["ShmSize"], config["PidsLimit"]) == (96 * 1024**2, 77)
    assert config["Memory"] == 64 * 1024**2
    assert config["CapDrop"], "what is not given stays as it was"
    assert seen == [b"mine", b"123", b"456", b"1", b"1"]


@pytest.mark.parametrize("name", sorted(kwargs.HARDENING))
def test_what_undoes_the_hardening_is_refused_by_name(runtime, given, name):
    given(**{name: True})
    with pytest.raises(SettingError, match=f"{kwargs.VARIABLE} has '{name}'.*apart from its host"):
        runtime.create()


@pytest.mark.parametrize("name", sorted(kwargs.NEEDED))
def test_what_openrt_needs_is_refused_by_name(runtime, given, name):
    given(**{name: "x"})
    with pytest.raises(SettingError, match=f"'{name}', which openrt needs as it is"):
        runtime.create()


@pytest.mark.parametrize("name", sorted(kwargs.ELSEWHERE))
def test_what_has_a_setting_of_its_own_is_refused_with_it(runtime, given, name):
    given(**{name: "secret-value"})
    with pytest.raises(SettingError, match=f"'{name}', which openrt sets itself") as caught:
        runtime.create()
    assert caught.value.hint == f"Use {kwargs.ELSEWHERE[name]}."
    assert "secret-value" not in str(caught.value)


def test_what_nobody_knows_is_refused_with_what_is_taken(runtime, given):
    given(shm_sice="1g")
    with pytest.raises(SettingError, match="'shm_sice'") as caught:
        runtime.create()
    assert "shm_size" in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"shm_size": "much"},
        {"ulimits": 7},
        {"ulimits": [{"nome": 1}]},
        {"hostname": 5},
        {"sysctls": "a"},
    ],
    ids=str,
)
def test_a_value_that_the_sdk_does_not_take_is_refused_by_name(runtime, engine, given, values):
    given(**values)
    with pytest.raises(SettingError, match=f"a value for '{next(iter(values))}'"):
        runtime.create()


def test_a_value_that_the_engine_does_not_take_is_told_and_leaves_nothing(runtime, engine, given):
    given(dns=5)
    mark = uuid.uuid4().hex
    with pytest.raises(ProvisionError, match="Dns"):
        runtime.create(labels={"openrt-test-kwargs": mark})
    assert not engine.api.containers(all=True, filters={"label": f"openrt-test-kwargs={mark}"})


def test_each_argument_is_in_one_group_and_known_to_the_sdk():
    import docker.types

    for name in frozenset().union(*GROUPS):
        assert sum(name in group for group in GROUPS) == 1, name
    known = set(inspect.signature(docker.types.HostConfig.__init__).parameters)
    assert known >= kwargs.HOST


def test_the_settings_documentation_names_what_is_taken():
    text = TABLE[kwargs.VARIABLE].help
    named = set(text.partition("own: ")[2].partition(". ")[0].split(", "))
    assert named == kwargs.HOST | kwargs.CONTAINER
