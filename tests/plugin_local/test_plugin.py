"""What is the local runtime's own: what a sandbox sees of the host, mounts, owners, and its end."""

from __future__ import annotations

import os
import pathlib

import pytest

from openrt_core import Sandbox
from openrt_core.errors import ProvisionError, SandboxGoneError, UnsupportedError, VolumeError
from openrt_core.models import SandboxSpec


@pytest.fixture
def folder(tmp_path):
    """A folder of uid 1234's, who is nobody on this machine."""
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
    owners = {path.stat().st_uid for path in (folder / "out", folder / "written")}
    assert owners == {folder.stat().st_uid}
    assert (folder / "out").read_text().strip() == str(folder.stat().st_uid)


def test_a_read_only_mount_is_read_only(runtime, folder):
    with runtime.create(volumes=f"{folder}:/data:ro") as sandbox:
        assert not sandbox.exec("touch /data/x").ok
    assert not list(folder.iterdir())


def test_a_missing_source_is_refused_and_not_made(runtime, tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(VolumeError, match="missing"):
        runtime.create(volumes=f"{missing}:/workspace")
    assert not missing.exists()


def test_nothing_of_the_hosts_homes_and_secrets_is_seen(runtime):
    with runtime.create() as sandbox:
        script = "ls -A /root /home; ls /etc/shadow /etc/ssh /var/lib /run/docker.sock /boot; true"
        result = sandbox.exec(script, user=0 if os.geteuid() == 0 else None)
    assert result.stdout.split() == [b"/home:", b"/root:"]


def test_the_hosts_programs_cannot_be_changed(runtime):
    with runtime.create() as sandbox:
        result = sandbox.exec("touch /usr/bin/x /etc/x", user=0 if os.geteuid() == 0 else None)
    assert not result.ok
    assert not pathlib.Path("/usr/bin/x").exists()


def test_only_its_own_processes_are_seen(runtime):
    with runtime.create() as sandbox:
        seen = sandbox.exec("ls -d /proc/[0-9]* | wc -l").stdout
    assert int(seen) < 10


def test_network_none_has_no_interface_but_loopback(runtime):
    with runtime.create(network="none") as sandbox:
        interfaces = sandbox.exec("grep -c : /proc/net/dev").stdout
    assert interfaces == b"1\n"


def test_a_read_only_root_is_read_only(runtime):
    with runtime.create(read_only=True) as sandbox:
        assert sandbox.exec("touch /tmp/x && ! touch /x 2>/dev/null").ok


def test_the_end_of_the_first_process_is_told(runtime):
    sandbox = runtime.create()
    process = sandbox.start(["sleep", "1000"])
    inner = pathlib.Path(f"/proc/{first_process(sandbox)}/task")
    pid = int(next(inner.iterdir()).joinpath("children").read_text().split()[0])
    os.kill(pid, 9)
    with pytest.raises(SandboxGoneError) as caught:
        process.wait(60)
    assert caught.value.post_mortem is not None
    with pytest.raises(SandboxGoneError):
        sandbox.exec(["true"])
    sandbox.kill()


def first_process(sandbox) -> int:
    """The pid of the sandbox's bubblewrap on the host."""
    wanted = f"--label\0{sandbox.id}".encode()
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found = wanted in path.read_bytes() and b"bwrap" in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found:
            return int(path.parent.name)
    raise AssertionError("no bubblewrap runs")


def test_a_state_folder_with_a_long_path_works(runtime, tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(deep))
    with runtime.create() as sandbox:
        assert sandbox.exec(["true"]).ok


def test_images_are_refused(runtime):
    with pytest.raises(UnsupportedError, match="image"):
        runtime.create(image="debian")


def test_an_id_that_is_taken_is_refused_and_what_has_it_lives_on(runtime):
    # Kept: of others the core knows by itself, in one process.
    with runtime.create(keep=True) as first:
        try:
            with pytest.raises(ProvisionError) as caught:
                Sandbox.create(runtime.name, spec=SandboxSpec(id=first.id))
            assert caught.value.code == "provision.id_taken"
            assert first.exec("echo alive").stdout == b"alive\n"
        finally:
            first.kill()
