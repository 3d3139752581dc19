"""What is told of the end of a sandbox whose container the engine has removed."""

from __future__ import annotations

import uuid

import pytest
from support.polling import until

from openrt_core import Manager
from openrt_core.errors import SandboxGoneError
from openrt_core.models import SandboxHandle
from openrt_docker import endings
from openrt_docker.engine import Engine


def end(engine, sandbox):
    engine.containers.get(f"openrt-{sandbox.id}").kill()
    filters = {"name": f"openrt-{sandbox.id}"}
    # The SDK's own list inspects each, and fails for one that goes in between.
    until(lambda: not engine.api.containers(all=True, filters=filters))


def test_the_status_has_the_end(runtime, engine):
    sandbox = runtime.create()
    end(engine, sandbox)
    status = sandbox.status()
    assert status.state == "gone"
    assert status.post_mortem is not None
    assert (status.post_mortem.exit_code, status.post_mortem.oom_killed) == (137, False)


def test_so_has_the_error_of_the_next_command(runtime, engine):
    sandbox = runtime.create()
    end(engine, sandbox)
    with pytest.raises(SandboxGoneError) as caught:
        sandbox.exec("true")
    assert caught.value.post_mortem is not None
    assert caught.value.post_mortem.exit_code == 137


def test_of_one_that_never_was_nothing_is_told(runtime):
    handle = SandboxHandle(runtime=runtime.name, id=uuid.uuid4().hex)
    status = Manager.open(runtime.name).status(handle)
    assert (status.state, status.post_mortem) == ("gone", None)


def event(action, seconds, code="137"):
    attributes = {"exitCode": code} if action == "die" else {}
    nanoseconds = seconds * 1_000_000_000
    return {"Action": action, "timeNano": nanoseconds, "Actor": {"Attributes": attributes}}


class Remembers(Engine):
    """An engine that remembers these events."""

    def __init__(self, *events):
        super().__init__()
        self.remembered = events
        self.api = self

    def client(self):
        return self

    def info(self):
        return {"SystemTime": "2026-11-29T15:00:00.5Z"}

    def events(self, until, **_):
        assert until == "1795964400.500000000"
        return iter(self.remembered)


@pytest.mark.parametrize(
    ("events", "oom"),
    [
        ([event("die", 10)], False),
        ([event("oom", 10), event("die", 10)], True),
        # A command was killed for it; what ended the sandbox later is not known.
        ([event("oom", 1), event("die", 10)], None),
    ],
)
def test_want_of_memory_is_the_end_when_it_came_with_it(events, oom):
    found = endings.of_removed(Remembers(*events), "id")
    assert found is not None
    assert (found.exit_code, found.oom_killed) == (137, oom)
    assert ("memory" in found.reason) is (oom is True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", "1.000000000"),
        ("1970-01-01T00:00:01.123456789Z", "1.123456789"),
        ("1970-01-01T01:00:01.5+01:00", "1.500000000"),
    ],
)
def test_the_engines_time_is_read_whatever_its_zone(text, seconds):
    assert endings._seconds(text) == seconds
