"""Payloads of the agent: each field's type and range."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents import PlayedAgent, exited

from openrt_agent import messages
from openrt_agent.wire import Violation
from openrt_core.models import Entry, Exit, Usage

ENTRY = {
    "name": "a\xc3\xa9\xff",
    "type": "file",
    "size": 3,
    "mode": 0o644,
    "mtime_ns": 1_500_000_000,
    "uid": 1,
    "gid": 2,
}

PARSERS = [
    messages.parse_hello,
    messages.parse_number,
    messages.parse_exited,
    messages.parse_error,
    messages.from_json,
    lambda payload: messages.parse_entry(messages.from_json(payload)),
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def dump(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize("parse", PARSERS)
@given(payload=st.binary(max_size=200) | JSON.map(dump))
def test_arbitrary_payloads_are_a_value_or_a_violation(parse, payload):
    with contextlib.suppress(Violation):
        assert parse(payload) is not None


@pytest.mark.parametrize(
    ("parse", "good"),
    [
        (messages.parse_hello, PlayedAgent.HELLO),
        (messages.parse_exited, exited()),
        (messages.parse_error, {"code": "io", "message": "no", "errno": 5}),
        (lambda p: messages.parse_entry(messages.from_json(p)), ENTRY),
    ],
)
@given(data=st.data())
def test_one_wrong_field_is_a_value_or_a_violation(parse, good, data):
    wrong = {**good, data.draw(st.sampled_from(sorted(good))): data.draw(JSON)}
    try:
        parse(dump(wrong))
    except Violation:
        return
    parse(dump(good))


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 60_000,
        b"9" * 60_000,
        b'{"a":' * 10_000,
        b"\xff\xfe{\x00}\x00",
        b"[]",
        b"",
    ],
)
def test_hostile_json(payload):
    with pytest.raises(Violation):
        messages.from_json(payload)


def test_an_exit():
    assert messages.parse_exited(dump(exited(3))) == Exit(
        code=3,
        duration=0.5,
        usage=Usage(user=0.25, system=0.125, max_rss=4096),
    )
    killed = exited(exit_code=None, signal=9, timed_out=True)
    assert messages.parse_exited(dump(killed)).signal == 9
    assert messages.parse_exited(dump(killed)).timed_out


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 256},
        {"exit_code": -1},
        {"exit_code": True},
        {"exit_code": None},
        {"signal": 9},
        {"wall": -1},
        {"wall": float("nan")},
        {"wall": float("inf")},
        {"wall": 10**400},
        {"timed_out": 1},
        {"max_rss": 1 << 70},
    ],
)
def test_an_exit_that_cannot_be(change):
    with pytest.raises(Violation):
        messages.parse_exited(dump(exited() | change))


def test_an_agent_of_another_version():
    with pytest.raises(Violation, match="version 2"):
        messages.parse_hello(dump(PlayedAgent.HELLO | {"protocol": 2}))


def test_an_entry():
    entry = messages.parse_entry({**ENTRY, "type": "link", "target": "\xe9"})
    assert entry == Entry(
        name="aé\udcff",
        type="link",
        size=3,
        mode=0o644,
        mtime=1.5,
        uid=1,
        gid=2,
        target="\udce9",
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b", "Ā"])
def test_names_that_are_no_names(name):
    with pytest.raises(Violation):
        messages.parse_entry({**ENTRY, "name": name})


def test_hostile_messages_are_cleaned():
    error = messages.parse_error(
        dump({"code": "io", "message": "\x1b[2J\ud800\n" + "x" * 900, "errno": 5})
    )
    assert error.message.startswith("\\x1b[2J\\ud800\\nxxx")
    assert len(error.message) < 600
    assert error.message.isprintable()
