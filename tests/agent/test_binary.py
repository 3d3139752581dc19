"""The binaries that come with the distribution."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from support.agents import linux

from openrt_agent import agent_digest, agent_path
from openrt_core.errors import UnsupportedError

MACHINES = {"amd64": 62, "x86_64": 62, "arm64": 183, "AARCH64": 183}


@pytest.mark.parametrize("arch", MACHINES)
def test_each_architecture_has_a_static_binary(arch):
    data = agent_path(arch).read_bytes()
    assert data[:5] == b"\x7fELF\2"
    assert int.from_bytes(data[18:20], "little") == MACHINES[arch]
    assert b"/ld-linux" not in data
    assert agent_digest(arch) == hashlib.sha256(data).hexdigest()


def test_no_other_architecture():
    with pytest.raises(UnsupportedError, match="sparc"):
        agent_path("sparc")


@linux
def test_this_machines_runs():
    assert subprocess.run([agent_path(), "version"], capture_output=True, check=True).stdout
