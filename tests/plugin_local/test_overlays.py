"""Mounts of mode overlay, as root and as somebody who is not."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest

from openrt_core import Sandbox
from openrt_core.errors import OpenrtError, VolumeError
from openrt_core.models import Mount
from openrt_local import overlays

NOBODY = 65534


@pytest.fixture
def base(tmp_path, monkeypatch):
    """SANDBOX_VOLUME_OVERLAYS."""
    base = tmp_path / "overlays"
    monkeypatch.setenv("SANDBOX_VOLUME_OVERLAYS", str(base))
    return base


@pytest.fixture
def source(tmp_path):
    """A folder with a name that no option may read as anything else."""
    source = tmp_path / "a,b=c\\d e"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("host")
    (source / "sub" / "inner").write_text("host")
    return source


def state(source):
    return {p.relative_to(source).as_posix(): p.is_file() and p.read_text() for p in tree(source)}


def tree(folder):
    return sorted(folder.rglob("*"))


def overlay(source, target="/workspace"):
    return [Mount(str(source), target, "overlay")]


SCRIPT = "cat file && echo new > file && echo more > added && rm -r sub && cat file && ls"


def test_the_sandbox_writes_and_the_host_sees_nothing(runtime, source, base):
    before = state(source)
    with runtime.create(volumes=overlay(source)) as sandbox:
        assert sandbox.exec(SCRIPT).stdout == b"hostnew\nadded\nfile\n"
        assert state(source) == before
        assert (base / sandbox.id / "0" / "upper" / "added").read_text() == "more\n"
    assert state(source) == before
    assert list(base.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_the_owner_of_the_folder_can_write_to_its_overlay(runtime, source, base):
    for path in (source, *tree(source)):
        os.chown(path, 1234, 1234)
    source.chmod(0o750)
    with runtime.create(volumes=overlay(source)) as sandbox:
        assert sandbox.exec("id -u; stat -c '%u %a' .").stdout.split() == [b"1234", b"1234", b"750"]
        assert sandbox.exec(SCRIPT).ok


def test_without_the_setting_it_lies_in_the_users_data_folder(runtime, source, monkeypatch):
    monkeypatch.delenv("SANDBOX_VOLUME_OVERLAYS", raising=False)
    with runtime.create(volumes=overlay(source)) as sandbox:
        assert sandbox.exec(SCRIPT).ok
        place = pathlib.Path(os.environ["XDG_DATA_HOME"], "openrt", "overlays", sandbox.id)
        assert (place / "0" / "upper" / "added").exists()
        assert place.stat().st_mode & 0o777 == 0o700
    assert not place.exists()


def test_two_overlays_of_one_folder_are_apart(runtime, source, base):
    mounts = [*overlay(source, "/a"), *overlay(source, "/b")]
    with runtime.create(volumes=mounts) as sandbox:
        assert sandbox.exec("echo a > /a/file; cat /b/file").stdout == b"host"


def test_what_a_sandbox_left_is_removed_whatever_its_rights(runtime, source, base):
    with runtime.create(volumes=overlay(source)) as sandbox:
        sandbox.exec("mkdir -p shut/in && ln -s / shut/root && chmod 0 shut/in shut", check=True)
    assert list(base.iterdir()) == []
    assert pathlib.Path("/usr").is_dir()


def test_folders_are_removed_however_deep_they_are(tmp_path):
    """Deeper than recursion goes, and than a path can say."""
    top = tmp_path / "top"
    top.mkdir()
    inside = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 100, dir_fd=inside)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)
    overlays.remove(top)
    assert not top.exists()
    overlays.remove(top)


def test_a_sandbox_whose_maker_was_killed_leaves_nothing(runtime, source, base, monkeypatch):
    script = (
        "import os, signal, sys; from openrt_core import Sandbox; from openrt_core.models import "
        "Mount; s = Sandbox.create('local', volumes=[Mount(sys.argv[1], '/workspace', 'overlay')]);"
        "s.exec('echo x > x', check=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setenv("XDG_STATE_HOME", str(base.parent / "state"))
    ended = subprocess.run([sys.executable, "-c", script, str(source)], timeout=120)
    assert ended.returncode == -9
    assert len(list(base.iterdir())) == 1
    folders = base.parent / "state" / "openrt" / "local" / "sandboxes"
    wait_for_the_end_of(folders)
    with Sandbox.create(runtime.name):
        assert list(base.iterdir()) == []


def wait_for_the_end_of(folders):
    """Waits until no sandbox of these folders lives."""
    from support.polling import until

    from openrt_local.state import Sandbox as Kept

    until(lambda: not any(Kept(folders.parent, f.name).alive() for f in folders.iterdir()))


def test_a_file_is_no_folder(runtime, source, base):
    with pytest.raises(VolumeError, match="no folder"):
        runtime.create(volumes=overlay(source / "file"))


def test_what_is_written_cannot_lie_in_the_source_itself(runtime, source, monkeypatch):
    monkeypatch.setenv("SANDBOX_VOLUME_OVERLAYS", str(source / "sub" / "overlays"))
    with pytest.raises(VolumeError, match="in itself") as caught:
        runtime.create(volumes=overlay(source))
    assert "SANDBOX_VOLUME_OVERLAYS" in caught.value.hint


def test_a_base_that_cannot_be_made_is_told(runtime, source, monkeypatch):
    monkeypatch.setenv("SANDBOX_VOLUME_OVERLAYS", str(source / "file" / "below"))
    mount = Mount(str(source / "sub"), "/workspace", "overlay")
    with pytest.raises(OpenrtError) as caught:
        runtime.create(volumes=[mount])
    assert "SANDBOX_VOLUME_OVERLAYS" in caught.value.hint


# As nobody ----------------------------------------------------------------------------------------

AS_NOBODY = f"""
import sys
from openrt_core import Sandbox
from openrt_core.errors import VolumeError
from openrt_core.models import Mount
mount = Mount(sys.argv[1], "/workspace", "overlay")
try:
    with Sandbox.create("local", volumes=[mount]) as sandbox:
        sys.stdout.buffer.write(sandbox.exec({SCRIPT!r}).stdout)
        sandbox.exec("mkdir -p shut/in; echo x > shut/in/x; chmod 0 shut/in shut", check=True)
except VolumeError as error:
    print("refused:", error)
"""


@pytest.fixture
def as_nobody(base):
    """A folder of nobody's own, and what runs AS_NOBODY for one, as a user without any rights."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("there is no setpriv")
    place = pathlib.Path("/tmp", f"openrt-test-{uuid.uuid4().hex}")
    place.mkdir(mode=0o700)
    os.chown(place, NOBODY, NOBODY)
    become = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "SANDBOX_VOLUME_OVERLAYS": str(place / "overlays"),
    }
    probe = [*become, sys.executable, "-c", "import openrt_core, openrt_local"]
    if subprocess.run(probe, env=environ, cwd="/", capture_output=True).returncode != 0:
        shutil.rmtree(place)
        pytest.skip("nobody cannot read this environment")

    def run(source):
        argv = [*become, sys.executable, "-c", AS_NOBODY, str(source)]
        ended = subprocess.run(argv, env=environ, cwd="/", capture_output=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    yield place, run
    shutil.rmtree(place)


def given_away(source, place):
    """A copy of the source that is nobody's own."""
    copy = place / "source"
    shutil.copytree(source, copy)
    for path in (copy, *tree(copy)):
        os.chown(path, NOBODY, NOBODY)
    return copy


def test_it_works_without_root(source, as_nobody):
    place, run = as_nobody
    copy = given_away(source, place)
    before = state(copy)
    assert run(copy) == b"hostnew\nadded\nfile\n"
    assert state(copy) == before
    assert list((place / "overlays").iterdir()) == []


@pytest.mark.parametrize("owner", [(0, NOBODY), (NOBODY, 0)])
def test_without_root_files_of_others_are_refused_by_name(source, as_nobody, owner):
    place, run = as_nobody
    copy = given_away(source, place)
    os.chown(copy / "sub" / "inner", *owner)
    answer = run(copy).decode()
    assert answer.startswith("refused: ")
    assert f"{copy}/sub/inner belongs to another" in answer


def test_the_default_folder_follows_the_home(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert overlays.default_base() == pathlib.Path("/home/me/.local/share/openrt/overlays")
