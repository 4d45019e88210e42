"""An id that comes twice within a moment counts once."""

from hypothesis import given
from hypothesis import strategies as st

from streams.repeats import BUCKETS, Repeats


def test_the_first_of_equal_ids_is_new() -> None:
    repeats = Repeats()
    assert repeats.first_seen(["a", "b", "a"]).tolist() == [True, True, False]
    assert repeats.first_seen(["b", "c"]).tolist() == [False, True]


@given(st.lists(st.lists(st.integers(0, 30).map(str), max_size=20), max_size=10))
def test_any_split_finds_the_same_repeats(batches: list[list[str]]) -> None:
    repeats, seen = Repeats(), set[str]()
    for batch in batches:
        expected = [one not in batch[:position] and one not in seen for position, one in enumerate(batch)]
        assert repeats.first_seen(batch).tolist() == expected
        seen.update(batch)


def test_the_share_of_missed_repeats_is_as_stated() -> None:
    repeats = Repeats()
    ids = [f"request-{number}" for number in range(10_000)]
    repeats.first_seen(ids)
    for start in range(0, 2 * BUCKETS, 4_096):
        repeats.first_seen([f"other-{start + number}" for number in range(4_096)])
    missed = int(repeats.first_seen(ids).sum())
    assert missed < 10_000 * 0.003
