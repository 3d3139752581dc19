"""Hostile payloads against their parsers, by atheris: `nox -s fuzz`.

A parser gives a value within its bounds, or raises Violation.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["openrt_agent"]):
    from openrt_agent import messages
    from openrt_agent.wire import Violation
    from openrt_core.models import Exit

EXIT: Final[dict[str, Any]] = {
    "exit_code": 0,
    "signal": None,
    "timed_out": False,
    "wall": 0.5,
    "user": 0.25,
    "system": 0,
    "max_rss": 4096,
}
HELLO: Final[dict[str, Any]] = {
    "protocol": 1,
    "agent": "fuzz",
    "boot": "00ff",
    "pid": 1,
    "uid": 0,
    "owner": True,
    "arch": "amd64",
}
COMMAND: Final[dict[str, Any]] = {
    "command": "a.b-c",
    "argv": "sleep \xff",
    "pid": 3,
    "output": [0, 1, 0, 2],
    "exited": EXIT,
}
ENTRY: Final[dict[str, Any]] = {
    "name": "a\xc3\xa9",
    "type": "link",
    "size": 3,
    "mode": 0o644,
    "mtime_ns": 1,
    "uid": 1,
    "gid": 2,
    "target": "b",
}


def hello(payload: bytes) -> None:
    parsed = messages.parse_hello(payload)
    # Escapes of what cannot be printed may make a text longer.
    assert shown(parsed.agent, 1000)
    assert shown(parsed.arch, 320)
    assert parsed.boot.isalnum()
    assert len(parsed.boot) <= 128


def number(payload: bytes) -> None:
    assert 0 <= messages.parse_number(payload) < 1 << 32


def gap(payload: bytes) -> None:
    stream, amount = messages.parse_gap(payload)
    assert stream in (1, 2)
    assert 0 < amount < 1 << 63


def exited(payload: bytes) -> None:
    check_exit(messages.parse_exited(payload))


def check_exit(exit: Exit) -> None:
    assert (exit.code is None) != (exit.signal is None)
    assert exit.duration is not None
    assert math.isfinite(exit.duration)
    assert exit.usage is not None
    assert math.isfinite(exit.usage.user + exit.usage.system)


def error(payload: bytes) -> None:
    parsed = messages.parse_error(payload)
    assert shown(parsed.code, 64)
    assert shown(parsed.message, 10_000)
    assert 0 <= parsed.errno <= 4095


def commands(payload: bytes) -> None:
    for parsed in messages.parse_commands(messages.from_json(payload)):
        assert shown(parsed.command, 2000)
        assert shown(parsed.id, 64)
        assert parsed.stdout_kept[0] <= parsed.stdout_kept[1]
        if parsed.exit is not None:
            check_exit(parsed.exit)


def count(payload: bytes) -> None:
    assert 0 <= messages.parse_count(messages.from_json(payload), "size") < 1 << 63


def entry(payload: bytes) -> None:
    parsed = messages.parse_entry(messages.from_json(payload))
    assert parsed.name not in ("", ".", "..")
    assert not set(parsed.name) & {"/", "\0"}
    assert parsed.mode <= 0o7777
    assert math.isfinite(parsed.mtime)
    assert len(parsed.target) <= 65_536


def shown(text: str, most: int) -> bool:
    """Whether a text may go into an error message."""
    return text.isprintable() and len(text) <= most


PARSERS: Final[list[tuple[Callable[[bytes], None], dict[str, Any]]]] = [
    (hello, HELLO),
    (number, {}),
    (gap, {}),
    (exited, EXIT),
    (error, {"code": "io", "message": "no", "errno": 5}),
    (commands, {"commands": [COMMAND]}),
    (count, {"size": 1}),
    (entry, ENTRY),
]


def value(data: atheris.FuzzedDataProvider, depth: int = 0) -> Any:
    """A JSON value."""
    form = data.ConsumeIntInRange(0, 7 if depth < 3 else 5)
    if form == 0:
        return None
    if form == 1:
        return data.ConsumeBool()
    if form == 2:
        return data.ConsumeInt(data.ConsumeIntInRange(1, 40))
    if form == 3:
        return data.ConsumeFloat()
    if form == 4:
        return data.ConsumeUnicode(data.ConsumeIntInRange(0, 600))
    if form == 5:
        return data.ConsumeIntInRange(0, 300)
    if form == 6:
        return [value(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 4))]
    names = [data.ConsumeUnicode(8) for _ in range(data.ConsumeIntInRange(0, 3))]
    return {name: value(data, depth + 1) for name in names}


def changed(data: atheris.FuzzedDataProvider, good: Any) -> Any:
    """A good value with some part exchanged."""
    if isinstance(good, dict) and good and data.ConsumeIntInRange(0, 15):
        key = data.PickValueInList(sorted(good))
        return {**good, key: changed(data, good[key])}
    if isinstance(good, list) and good and data.ConsumeIntInRange(0, 15):
        at = data.ConsumeIntInRange(0, len(good) - 1)
        return [*good[:at], changed(data, good[at]), *good[at + 1 :]]
    return value(data)


def test_one_input(raw: bytes) -> None:
    """One payload for one parser."""
    data = atheris.FuzzedDataProvider(raw)
    parse, good = data.PickValueInList(PARSERS)
    form = data.ConsumeIntInRange(0, 3)
    if form == 0:
        payload = bytes(data.ConsumeBytes(data.remaining_bytes()))
    else:
        made = good
        for _ in range(form):
            made = changed(data, made)
        payload = json.dumps(made, ensure_ascii=data.ConsumeBool()).encode(errors="surrogatepass")
    said = ""
    try:
        parse(payload)
    except Violation as violation:
        said = str(violation)
    assert shown(said, 200)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
