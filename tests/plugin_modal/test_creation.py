from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from openrt_core.errors import SettingError
from openrt_core.models import SandboxSpec
from openrt_modal import creation


def test_what_is_asked_of_modal():
    spec = SandboxSpec(
        id="one",
        network="none",
        cpu=0.5,
        memory=(512 << 20) + 1,
        lifetime=59.5,
        labels={"team": "a"},
        user=1000,
        env={"E": "env-value"},
        secrets={"S": "secret-value"},
    )
    arguments = creation.create_arguments(spec)
    assert arguments == {
        "name": "one",
        "tags": {
            "team": "a",
            "openrt.id": "one",
            "openrt.workdir": "/workspace",
            "openrt.user": "1000",
        },
        "timeout": 60,
        "block_network": True,
        "cpu": (0.5, 0.5),
        "memory": (513, 513),
    }
    assert "value" not in " ".join(creation.entry(spec))


def test_without_a_lifetime_it_is_modals_longest():
    arguments = creation.create_arguments(SandboxSpec(id="one"))
    assert arguments["timeout"] == 24 * 3600
    assert arguments["block_network"] is False
    assert not {"cpu", "memory"} & set(arguments)


@pytest.mark.parametrize(
    ("field", "word"),
    [({"lifetime": 86401.0}, "86400"), ({"labels": {"openrt.id": "x"}}, "openrt.id")],
)
def test_what_modal_cannot_do_is_refused(field, word):
    with pytest.raises(SettingError, match=word):
        creation.check(SandboxSpec(**field))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An agent that lost its executable bit."""
    path = tmp_path / "installed"
    path.write_bytes(b"program")
    path.chmod(0o644)
    monkeypatch.setattr(creation, "agent_path", lambda arch: path)
    return path


def test_an_agent_that_lost_its_executable_bit_is_copied(tmp_path, installed):
    copy = creation.executable_agent(tmp_path / "state")
    assert copy.read_bytes() == b"program"
    assert copy.stat().st_mode & 0o777 == 0o755
    installed.chmod(0o755)
    assert creation.executable_agent(tmp_path / "state") == installed


def test_threads_that_copy_it_at_the_same_time_do_not_disturb_each_other(
    tmp_path, installed, monkeypatch
):
    copyfile, both = shutil.copyfile, threading.Barrier(2)

    def copied(source, target):
        copyfile(source, target)
        both.wait(60)

    monkeypatch.setattr(shutil, "copyfile", copied)
    state = tmp_path / "state"
    with ThreadPoolExecutor(2) as threads:
        copies = list(threads.map(creation.executable_agent, [state, state]))
    assert copies == [state / "openrt-agent"] * 2
    assert copies[0].read_bytes() == b"program"
    assert list(state.iterdir()) == [copies[0]]
