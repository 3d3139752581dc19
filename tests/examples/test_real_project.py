"""The example does the main job on every runtime, as a user would start it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
from support import runtimes

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "real_project.py"


@pytest.fixture(params=runtimes.NAMES)
def runtime(request, tmp_path, monkeypatch):
    """Each runtime, with an image that has Python."""
    debian = os.environ.get("OPENRT_TEST_ROOTFS_DEBIAN", "")
    if request.param in ("docker", "modal") and not debian:
        runtimes.missing(request.param, "OPENRT_TEST_ROOTFS_DEBIAN names no image with Python")
    if request.param == "local" and not pathlib.Path("/usr/bin/python3").exists():
        pytest.skip("local: there is no Python in /usr, which is what its sandboxes see")
    monkeypatch.setenv("OPENRT_TEST_ROOTFS_BUSYBOX", debian)
    monkeypatch.setenv("OPENRT_TEST_IMAGE_BUSYBOX", os.environ.get("OPENRT_TEST_IMAGE_DEBIAN", ""))
    with (
        runtimes.opened(request.param, tmp_path) as opened,
        runtimes.environment(opened.variables),
    ):
        yield opened


def test_the_example_does_the_main_job(runtime, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    owner = os.getuid()
    if owner == 0:
        # Root's own folders are the easy case: nobody's files may become root's.
        owner = 1234
        os.chown(folder, owner, owner)
        for parent in (tmp_path, *tmp_path.parents):
            if parent.stat().st_uid == 0 and parent != pathlib.Path("/"):
                parent.chmod(parent.stat().st_mode | 0o055)
    command = [sys.executable, str(EXAMPLE), "--folder", str(folder)]
    if runtime.image is not None and runtime.name != "remote":
        command += ["--image", runtime.image]
    done = subprocess.run(
        command,
        env={**os.environ, "RUNTIME": runtime.name},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests before the edit: OK" in done.stdout
    assert "tests after the edit:  FAILED" in done.stdout
    assert '+_alabel_prefix = b"zz--"' in done.stdout
    if "mounted" in done.stdout.splitlines()[0]:
        edited = folder / "idna" / "core.py"
        assert 'b"zz--"' in edited.read_text()
        assert edited.stat().st_uid == owner
    else:
        assert runtime.name in ("modal", "remote")
