from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openrt_core.capture import CAPTURE_LIMIT, Capture, CaptureBudget

chunks = st.lists(st.binary(max_size=300), max_size=30)


def fill(capture, pieces):
    for piece in pieces:
        capture.add(piece)
    return b"".join(pieces)


@given(chunks, st.integers(min_value=2, max_value=2000))
def test_the_first_and_the_last_half_are_kept_and_the_rest_is_counted(pieces, limit):
    capture = Capture(limit=limit)
    whole = fill(capture, pieces)
    half = limit // 2
    kept = whole if len(whole) <= 2 * half else whole[:half] + whole[-half:]
    assert capture.value() == kept
    assert capture.dropped == len(whole) - len(kept)


@given(chunks, st.integers(min_value=0, max_value=1000))
def test_within_a_budget_a_beginning_and_an_end_are_kept_and_the_rest_is_counted(pieces, room):
    budget = CaptureBudget(room)
    capture = Capture(budget, limit=600)
    whole = fill(capture, pieces)
    kept = capture.value()
    assert len(kept) <= min(room, 600)
    assert capture.dropped == len(whole) - len(kept)
    assert any(
        kept == whole[:n] + whole[len(whole) - (len(kept) - n) :] for n in range(len(kept) + 1)
    )
    capture.close()
    capture.close()
    assert budget.take(10_000) == room


def test_what_one_command_leaves_another_may_take():
    budget = CaptureBudget(1000)
    first, second = Capture(budget), Capture(budget)
    first.add(bytes(800))
    second.add(bytes(800))
    assert len(first.value()) == 800
    assert len(second.value()) == 200
    first.close()
    third = Capture(budget)
    third.add(bytes(800))
    assert (len(third.value()), third.dropped) == (800, 0)


def test_the_default_bound_holds_for_a_flood():
    capture = Capture()
    for _ in range(300):
        capture.add(b"x" * 65536)
    assert len(capture.value()) == CAPTURE_LIMIT
    assert capture.dropped == 300 * 65536 - CAPTURE_LIMIT
