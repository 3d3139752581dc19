"""What is kept of sandboxes whose makers were killed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("openrt_local")

from openrt_core.models import SandboxHandle
from openrt_local.state import Sandbox, sweep


def made_by_another_process(state, id):
    """The folder of a sandbox whose maker has ended without a word."""
    script = (
        "import os, pathlib, sys; from openrt_local.state import Sandbox;"
        "Sandbox(pathlib.Path(sys.argv[1]), sys.argv[2]).make(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(state), id], timeout=120, check=False)
    sandbox = Sandbox(state, id)
    assert sandbox.exists()
    return sandbox


def test_what_a_killed_maker_left_is_swept(tmp_path):
    left = made_by_another_process(tmp_path, "left")
    sweep(tmp_path)
    assert not left.exists()


def test_a_sandbox_that_outlives_its_maker_is_not_swept(tmp_path):
    living = made_by_another_process(tmp_path, "living")
    living.record(os.getpid(), SandboxHandle(runtime="local", id="living"))
    sweep(tmp_path)
    assert living.exists()


def test_what_somebody_is_making_is_not_swept(tmp_path):
    making = Sandbox(tmp_path, "making")
    making.make()
    sweep(tmp_path)
    assert making.exists()
    with pytest.raises(FileExistsError):
        Sandbox(tmp_path, "making").make()
    making.remove()
    assert not making.exists()
    sweep(tmp_path)


def test_where_nothing_was_made_there_is_nothing_to_sweep(tmp_path):
    sweep(tmp_path / "none")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "{",
        "[]",
        '{"pid": "1", "started": "x", "workdir": "/", "user": null}',
        '{"pid": 1, "started": 1, "workdir": "/", "user": null}',
        '{"pid": -1, "started": "x", "workdir": "/", "user": null}',
        '{"pid": 1, "started": "x"}',
    ],
)
def test_a_record_that_is_none_is_swept_and_harms_nobody(tmp_path, text):
    left = made_by_another_process(tmp_path, "left")
    (left.folder / "sandbox.json").write_text(text)
    assert left.read() == {}
    assert not left.alive()
    left.end()
    sweep(tmp_path)
    assert not left.exists()


def test_sandboxes_are_made_beside_a_record_that_is_none(runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = tmp_path / "openrt" / "local"
    left = made_by_another_process(state, "a" * 32)
    (left.folder / "sandbox.json").write_text("")
    with runtime.create() as sandbox:
        assert sandbox.exec("echo hi").stdout == b"hi\n"
    assert not left.exists()
