from __future__ import annotations

import _thread
import functools
import os
import threading

import pytest
from support.polling import until

from openrt_core import deadlines
from openrt_core.deadlines import Clock


def test_calls_come_in_the_order_of_their_times():
    clock = Clock()
    called: list[float] = []
    for seconds in (0.2, 0.05, 0.1):
        clock.after(seconds, functools.partial(called.append, seconds))
    until(lambda: len(called) == 3)
    assert called == [0.05, 0.1, 0.2]


def test_an_earlier_call_wakes_the_thread_that_sleeps_for_a_later_one():
    clock, called = Clock(), threading.Event()
    clock.after(1000, lambda: None)
    clock.after(0.01, called.set)
    assert called.wait(60)


def test_a_cancelled_call_is_not_made():
    clock, called, last = Clock(), [], threading.Event()
    deadline = clock.after(0.05, lambda: called.append(1))
    deadline.cancel()
    deadline.cancel()
    clock.after(0.1, last.set)
    assert last.wait(60)
    assert called == []


def fail():
    raise ZeroDivisionError


def test_a_call_that_fails_is_logged_and_does_not_stop_the_others(caplog):
    clock, called = Clock(), threading.Event()
    clock.after(0.01, fail)
    clock.after(0.05, called.set)
    assert called.wait(60)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_no_call_ends_the_thread(error, caplog):
    def fail():
        raise error

    clock, called = Clock(), threading.Event()
    clock.after(0.01, fail)
    clock.after(0.05, called.set)
    assert called.wait(60)
    assert type(error).__name__ in caplog.text


def test_cancelled_deadlines_take_no_memory():
    clock = Clock()
    for _ in range(10_000):
        clock.after(1000, lambda: None).cancel()
    assert len(clock._heap) < 200


def test_a_clock_whose_thread_could_not_start_starts_it_the_next_time(monkeypatch):
    def refuse(function, args):
        raise RuntimeError("can't start new thread")

    clock, called = Clock(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        with pytest.raises(RuntimeError):
            clock.after(0.01, called.set)
    clock.after(0.01, lambda: None)
    assert called.wait(60)


def test_one_thread_serves_all():
    clock = Clock()
    clock.after(1000, lambda: None)
    before = _thread._count()
    for _ in range(100):
        clock.after(1000, lambda: None)
    assert _thread._count() <= before


def test_a_forked_child_has_a_clock_of_its_own():
    deadlines.after(1000, lambda: None)
    child = os.fork()
    if not child:
        called = threading.Event()
        deadlines.after(0.01, called.set)
        os._exit(0 if called.wait(60) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
