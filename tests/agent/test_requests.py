"""What is sent for a command."""

from __future__ import annotations

import json

import pytest

from openrt_agent.requests import StartRequest, to_bytes, user_of
from openrt_core.errors import CommandNotStartedError, SettingError
from openrt_core.models import Command, TerminalSize


def payload(command, **arguments):
    return json.loads(StartRequest.of(command, **arguments).payload(100))


def test_a_plain_command_says_only_what_it_must():
    assert payload(Command(argv=["true"])) == {
        "argv": ["true"],
        "env": [],
        "cwd": "/",
        "credit": [100, 100],
    }


def test_all_of_a_command():
    command = Command(
        argv=["prog", "é\udcff"],
        env={"A": "1", "TERM": "vt100"},
        cwd="/w",
        stdin=True,
        timeout=2.5,
        grace=1,
        merge_stderr=True,
        tty=TerminalSize(10, 20),
    )
    sent = payload(command, env={"A": "0", "B": "2"}, user=user_of("me"), make_cwd=True)
    assert sent == {
        "argv": ["prog", "\xc3\xa9\xff"],
        "env": ["A=1", "B=2", "TERM=vt100"],
        "cwd": "/w",
        "make_cwd": True,
        "credit": [100, 100],
        "user": {"name": "me"},
        "stdin": True,
        "merge": True,
        "timeout": 2.5,
        "grace": 1,
        "tty": {"rows": 10, "cols": 20, "term": "vt100"},
    }


def test_users():
    assert user_of(None) is None
    assert user_of(0) == {"uid": 0}
    assert user_of("zoë") == {"name": "zo\xc3\xab"}


def test_half_a_character_stands_for_no_bytes():
    with pytest.raises(SettingError):
        to_bytes("\ud800")


def test_too_large_is_refused_here():
    with pytest.raises(CommandNotStartedError) as caught:
        payload(Command(argv=["echo", "x" * (9 << 20)]))
    assert caught.value.code == "command.start"


def test_the_environment_is_never_shown():
    request = StartRequest.of(Command(argv=["a"], env={"K": "s3cret"}), env={"T": "t0ken"})
    assert "s3cret" not in repr(request)
    assert "t0ken" not in repr(request)
