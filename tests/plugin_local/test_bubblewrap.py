"""HOME, USER and LOGNAME of commands that run as the caller."""

from __future__ import annotations

import os
import pwd

import pytest

pytest.importorskip("openrt_local")

TOLD = "echo $HOME; echo $USER; echo $LOGNAME; id -un; touch ~/mine && stat -c %u ~/mine"


def own(runtime, home, **arguments):
    with runtime.create(**arguments) as sandbox:
        result = sandbox.exec(TOLD, cwd="/")
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert result.stdout.decode().split() == [home, name, name, name, str(os.geteuid())]


@pytest.fixture
def home():
    """The caller's, where the sandbox makes it."""
    place = pwd.getpwuid(os.geteuid()).pw_dir
    return place if place == "/root" else "/tmp"


def test_they_are_the_callers_where_the_sandbox_has_its_home(runtime, home):
    own(runtime, home)


def test_a_home_that_cannot_be_written_to_is_none(runtime):
    own(runtime, "/tmp", read_only=True)


def test_nor_is_a_mount(runtime, tmp_path):
    place = pwd.getpwuid(os.geteuid()).pw_dir
    if place in ("/", "/tmp"):
        pytest.skip(f"the caller's home is {place}")
    own(runtime, "/tmp", volumes=f"{tmp_path}:{place}:ro", workdir="/work", user=None)


def test_what_is_asked_for_goes_before(runtime):
    with runtime.create(env={"HOME": "/elsewhere"}) as sandbox:
        assert sandbox.exec("echo $HOME").stdout == b"/elsewhere\n"
