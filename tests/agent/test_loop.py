"""The I/O thread, with sources that fail."""

from __future__ import annotations

import os
import threading

import pytest
from support.agents import PATIENCE, until

from openrt_agent.loop import current

ERRORS = [ValueError("bad"), SystemExit(3), KeyboardInterrupt()]


class Failing:
    """A source on a pipe, whose call for ``event`` raises ``error``."""

    def __init__(self, loop, event, error):
        self.loop = loop
        self.event = event
        self.error = error
        self.told: list[Exception] = []
        self.read_fd, self.write_fd = os.pipe()

    def readable(self):
        raise self.error

    def writable(self):
        raise self.error

    def tick(self, now):
        if self.event == "tick":
            raise self.error
        return now + PATIENCE

    def broken(self, error):
        self.loop.remove(self)
        self.told.append(error)

    def orphaned(self):
        """Nothing to let go of."""


def alive(loop):
    called = threading.Event()
    loop.call(called.set)
    return called.wait(PATIENCE)


@pytest.mark.parametrize("error", ERRORS)
def test_a_call_that_fails_does_not_end_the_thread(error, caplog):
    def fail():
        raise error

    loop = current()
    loop.call(fail)
    assert alive(loop)
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("event", ["read", "write", "tick"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_source_that_fails_is_told_so_and_does_not_end_the_thread(error, event):
    loop = current()
    source = Failing(loop, event, error)

    def add():
        loop.add(source)
        loop.want_write(source, wanted=event == "write")
        if event == "read":
            os.write(source.write_fd, b"x")

    loop.call(add)
    assert alive(loop)
    until(lambda: bool(source.told), "the source is told")
    assert alive(loop)
    (told,) = source.told
    assert type(error).__name__ in repr(told)
    os.close(source.read_fd)
    os.close(source.write_fd)
