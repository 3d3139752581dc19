"""Joining a container whose engine cannot run the agent."""

from __future__ import annotations

import pytest

pytest.importorskip("openrt_docker")
from openrt_core import Sandbox
from openrt_core.errors import ProvisionError, TransportError
from openrt_docker import plugin


def test_what_the_engine_says_is_told(runtime, monkeypatch):
    with runtime.create(keep=True) as sandbox:
        try:
            monkeypatch.setattr(plugin, "PROGRAM", "/no-such\x1b[31m-program")
            with pytest.raises(ProvisionError) as caught:
                Sandbox.connect(sandbox.id, runtime.name)
            assert "could not run the agent" in str(caught.value)
            assert "no-such" in str(caught.value)
            assert "\x1b" not in str(caught.value)
        finally:
            sandbox.kill()


def test_what_a_program_in_the_sandbox_says_is_no_word_of_the_engine(runtime, monkeypatch):
    with runtime.create(keep=True) as sandbox:
        try:
            sandbox.files.write(
                "/tmp/fake", b"#!/bin/sh\necho OCI runtime exec failed\n", mode=0o755
            )
            monkeypatch.setattr(plugin, "PROGRAM", "/tmp/fake")
            with pytest.raises(TransportError, match="not the agent's protocol"):
                Sandbox.connect(sandbox.id, runtime.name)
        finally:
            sandbox.kill()
