from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from openrt_core.waiting import Latch, future_waker


def test_a_latch_lets_everybody_pass_once_it_is_set():
    latch, passed = Latch(), []
    threads = [threading.Thread(target=lambda: passed.append(latch.wait(60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert not latch.is_set()
    latch.set()
    for thread in threads:
        thread.join(60)
    assert passed == [True] * 5
    assert latch.is_set()
    assert latch.wait(0)


@pytest.mark.parametrize("timeout", [-1, 0, 0.05])
def test_a_latch_that_is_not_set_is_waited_for_no_longer_than_asked(timeout):
    assert not Latch().wait(timeout)


def test_ctrl_c_ends_the_wait_and_spoils_the_latch_for_nobody():
    latch = Latch()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        latch.wait()
    threading.Timer(0.05, latch.set).start()
    assert latch.wait(60)


def test_a_waiter_that_kept_the_gate_holds_up_nobody():
    latch = Latch()
    latch.set()
    latch._gate.acquire()  # as a waiter does that is interrupted between its two steps
    assert latch.wait(60)


def test_a_future_is_completed_from_any_thread_and_any_number_of_times():
    async def main():
        future, wake = future_waker(asyncio.get_running_loop())
        for _ in range(3):
            threading.Thread(target=wake).start()
        await asyncio.wait_for(future, 60)
        wake()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_waking_a_closed_loop_does_nothing():
    async def main():
        return future_waker(asyncio.get_running_loop())[1]

    asyncio.run(main())()
