"""What is the docker runtime's own: mounts, owners, limits, labels, and what happens when the
engine says no."""

from __future__ import annotations

import json
import os
import uuid

import pytest

from openrt_core import Sandbox
from openrt_core.errors import (
    EngineUnreachableError,
    ImageNotFoundError,
    OpenrtError,
    ProvisionError,
    SettingError,
    UnsupportedError,
)
from openrt_core.manager import Manager
from openrt_core.models import SandboxHandle, SandboxSpec


def container(engine, sandbox):
    return engine.containers.get(f"openrt-{sandbox.id}")


@pytest.fixture
def folder(tmp_path):
    """A folder of uid 1234's, who is nobody on this machine."""
    tmp_path.chmod(0o755)
    place = tmp_path / "code"
    place.mkdir()
    if os.geteuid() == 0:
        os.chown(place, 1234, 1234)
    return place


def test_a_mount_is_live_and_files_belong_to_its_owner(runtime, folder):
    (folder / "in").write_text("from the host")
    with runtime.create(volumes=f"{folder}:/workspace:rw") as sandbox:
        assert sandbox.exec("cat in; id -u > out").stdout == b"from the host"
        sandbox.files.write("written", b"x")
        wanted = str(folder.stat().st_uid)
        assert (folder / "out").read_text().strip() == wanted
    assert [str(p.stat().st_uid) for p in (folder / "out", folder / "written")] == [wanted] * 2


def test_a_read_only_mount_is_read_only(runtime, folder):
    with runtime.create(volumes=f"{folder}:/data:ro") as sandbox:
        assert not sandbox.exec("touch /data/x", user=0).ok
    assert not list(folder.iterdir())


def test_a_missing_source_is_refused_and_not_made(runtime, tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(OpenrtError) as caught:
        runtime.create(volumes=f"{missing}:/workspace")
    assert str(missing) in str(caught.value)
    assert not missing.exists()


def test_a_named_volume_outlives_its_sandbox(runtime, engine):
    name = f"openrt-test-{uuid.uuid4().hex}"
    try:
        for script in ("echo kept > /data/file", "grep -q kept /data/file"):
            with runtime.create(volumes=f"{name}:/data", user=0) as sandbox:
                assert sandbox.exec(script).ok
    finally:
        engine.volumes.get(name).remove()


def test_inspect_shows_no_environment_and_no_secret(runtime, engine):
    with runtime.create(env={"PLAIN": "plain-value"}, secrets={"KEY": "secret-value"}) as sandbox:
        shown = json.dumps(container(engine, sandbox).attrs)
        assert sandbox.exec("echo $PLAIN $KEY").stdout == b"plain-value secret-value\n"
        assert "secret-value" not in repr(sandbox.handle)
    assert "plain-value" not in shown
    assert "secret-value" not in shown


def test_labels_say_whose_it_is(runtime, engine):
    with runtime.create(labels={"team": "a"}) as sandbox:
        labels = container(engine, sandbox).labels
    assert labels["team"] == "a"
    assert labels["openrt.id"] == sandbox.id
    assert labels["openrt.owner"].split()[3] == str(os.getpid())


def test_reserved_labels_are_refused(runtime):
    with pytest.raises(SettingError, match=r"openrt\.id"):
        runtime.create(labels={"openrt.id": "x"})


def test_network_none_has_no_interface_but_loopback(runtime):
    with runtime.create(network="none") as sandbox:
        assert sandbox.exec("ls /sys/class/net").stdout.split() == [b"lo"]


def test_limits_reach_the_engine(runtime, engine):
    with runtime.create(memory=64 * 1024**2, cpu=0.5, pids=50) as sandbox:
        config = container(engine, sandbox).attrs["HostConfig"]
    assert (config["Memory"], config["NanoCpus"], config["PidsLimit"]) == (
        64 * 1024**2,
        500_000_000,
        50,
    )


def test_a_read_only_root_still_runs_commands(runtime):
    with runtime.create(read_only=True) as sandbox:
        assert sandbox.exec("touch /tmp/x && ! touch /etc/x 2>/dev/null", cwd="/").ok


def test_the_images_user_runs_commands(runtime, engine):
    name = f"openrt-test/user-{uuid.uuid4().hex}"
    made = engine.containers.create(runtime.image, ["none"])
    try:
        made.commit(name, "latest", changes="USER 4321:4321")
        with Sandbox.create("docker", image=f"{name}:latest", user=None) as sandbox:
            expected = b"4321\n" if os.geteuid() == 0 else b"%d\n" % os.geteuid()
            assert sandbox.exec(["id", "-u"]).stdout == expected
    finally:
        made.remove()
        engine.images.remove(f"{name}:latest")


def test_a_missing_image_is_told(runtime):
    with pytest.raises(ImageNotFoundError) as caught:
        # A name that no registry can serve: the top-level domain is reserved (RFC 2606).
        runtime.create(image="registry.invalid/no/such:image")
    assert "registry.invalid/no/such:image" in str(caught.value)


def test_a_container_that_is_not_ours_is_left_alone(runtime, engine):
    id = uuid.uuid4().hex
    foreign = engine.containers.create(runtime.image, ["none"], name=f"openrt-{id}")
    try:
        handle = SandboxHandle(runtime="docker", id=id)
        assert Manager.open("docker").teardown(handle) is False
        foreign.reload()
    finally:
        foreign.remove()


def test_an_engine_that_is_not_there_is_told(monkeypatch, tmp_path, runtime):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnreachableError) as caught:
        runtime.create()
    assert "DOCKER_HOST" in caught.value.hint


def test_what_is_not_offered_is_refused_before_anything_is_made(runtime, engine):
    mark = uuid.uuid4().hex
    with pytest.raises(UnsupportedError):
        runtime.create(disk=1024**3, labels={"mark": mark})
    with pytest.raises(ProvisionError):
        runtime.create(network=f"openrt-no-such-{mark}", labels={"mark": mark})
    assert not engine.api.containers(all=True, filters={"label": f"mark={mark}"})


def test_an_id_that_is_taken_is_refused_and_what_has_it_lives_on(runtime):
    # Kept: of others the core knows by itself, in one process.
    with runtime.create(keep=True) as first:
        try:
            with pytest.raises(ProvisionError) as caught:
                Sandbox.create(runtime.name, spec=SandboxSpec(id=first.id, image=runtime.image))
            assert caught.value.code == "provision.id_taken"
            assert first.exec("echo alive").stdout == b"alive\n"
        finally:
            first.kill()
