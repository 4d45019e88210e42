"""Windows give the same sums and counts in any order and any split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.windows import DAY, HOUR, MINUTE, MINUTES, SPANS_SECONDS, Groups, Ring, add_decayed, steadiness, weights

MINUTE_MS = 60_000


def decayed(events: list[tuple[int, float]], spans: tuple[int, ...], split: int) -> tuple[int, np.ndarray]:
    """The sums of one profile after the events (ms, amount) in two batches, and the instant they refer to."""
    sums, now = np.zeros((1, len(spans), 1)), 0
    for batch in (events[:split], events[split:]):
        if batch:
            at = np.array([event[0] for event in batch])
            was, now = now or int(at.max()), max(now, int(at.max()))
            amounts = np.array([[event[1]] for event in batch])
            groups = Groups.by(np.zeros(len(batch), dtype=np.int64))
            kept, counted = weights(np.array([now - was]), spans), weights(now - at, spans)
            sums = add_decayed(sums, kept, counted, amounts, groups)
    return now, sums[0, :, 0]


def test_a_request_fades_to_a_third_within_its_span() -> None:
    now, sums = decayed([(1_000, 10.0), (1_000 + HOUR * 1_000, 0.0)], (HOUR, DAY), split=1)
    assert now == 1_000 + HOUR * 1_000
    assert sums == pytest.approx([10 / np.e, 10 * np.exp(-1 / 24)])


def test_a_steady_rate_sums_to_rate_times_span() -> None:
    once_a_second = [(second * 1_000, 1.0) for second in range(1, 1_200)]
    _, sums = decayed(once_a_second, (MINUTE,), split=600)
    assert sums == pytest.approx([60], rel=0.01)


events = st.lists(st.tuples(st.integers(1, 20 * DAY * 1_000), st.floats(0, 1e6)), min_size=1, max_size=30)


@given(events, st.randoms(use_true_random=False), st.integers(0, 30))
def test_any_order_and_any_split_give_the_same_sums(events: list[tuple[int, float]], dice, split: int) -> None:
    shuffled = list(events)
    dice.shuffle(shuffled)
    now, sums = decayed(events, SPANS_SECONDS, len(events))
    assert decayed(shuffled, SPANS_SECONDS, split)[0] == now
    assert decayed(shuffled, SPANS_SECONDS, split)[1] == pytest.approx(sums, rel=1e-9, abs=1e-12)


def ring_after(ring: Ring, instants: list[int], split: int) -> np.ndarray:
    """One profile's counts after the instants (ms) in two batches."""
    counts, now = np.zeros((1, ring.slots), dtype=np.uint16), 0
    for batch in (instants[:split], instants[split:]):
        if batch:
            at = np.array(batch)
            was, now = now or int(at.max()), max(now, int(at.max()))
            groups = Groups.by(np.zeros(len(batch), dtype=np.int64))
            ring.add(counts, np.array([was]), np.array([now]), at, groups)
    return counts[0]


def test_a_ring_counts_the_newest_slots_and_forgets_the_rest() -> None:
    three_slots = Ring(seconds=60, slots=3, most=65_535)
    minutes = [10, 10, 11, 12, 13, 13, 13]  # 12 % 3 == 0, 13 % 3 == 1, 11 % 3 == 2; minute 10 has gone by
    assert ring_after(three_slots, [minute * MINUTE_MS for minute in minutes], split=3).tolist() == [1, 3, 1]


def test_a_late_request_lands_in_its_own_slot_or_nowhere() -> None:
    three_slots = Ring(seconds=60, slots=3, most=65_535)
    minutes = [13, 12, 10]
    assert ring_after(three_slots, [minute * MINUTE_MS for minute in minutes], split=1).tolist() == [1, 1, 0]


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
    st.integers(0, 40),
)
def test_any_order_and_any_split_give_the_same_ring(minutes: list[int], dice, split: int) -> None:
    instants = [minute * MINUTE_MS + minute for minute in minutes]
    shuffled = list(instants)
    dice.shuffle(shuffled)
    assert ring_after(MINUTES, shuffled, split).tolist() == ring_after(MINUTES, instants, len(instants)).tolist()


def test_counts_stop_at_the_largest_number_their_type_holds() -> None:
    small = Ring(seconds=60, slots=3, most=4)
    assert ring_after(small, [60_000] * 9, split=5).tolist() == [0, 4, 0]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0] + [6] * 12, 0.0),  # six every minute: no dispersion at all
        ([0] + [0, 12] * 6, 12 * 12 / 4 / 6 * 12 / 11),  # all or nothing: variance 36 * 12/11 over mean 6
    ],
)
def test_steadiness_is_variance_over_mean_of_finished_minutes(counts: list[int], expected: float) -> None:
    # Slot 0 is the newest tick (unfinished); the others hold the ticks before it.
    dispersion = steadiness(np.array([counts], dtype=float), np.array([13]), np.array([13]))
    assert dispersion == pytest.approx([expected])


def test_steadiness_is_unknown_after_few_minutes() -> None:
    assert np.isnan(steadiness(np.full((1, 60), 5.0), np.array([5]), np.array([100])))[0]


def test_groups_stand_for_ascending_rows() -> None:
    groups = Groups.by(np.array([7, 3, 7, 3, 3]))
    assert groups.rows.tolist() == [3, 7]
    assert groups.starts.tolist() == [0, 3]
    assert groups.of.tolist() == [0, 0, 0, 1, 1]
    assert groups.order.tolist() == [1, 3, 4, 0, 2]
