"""Acks: never past an unprocessed record, and never stuck."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.engine.acks import Acks, Span


def test_only_what_is_done_from_the_front_may_be_committed() -> None:
    acks = Acks()
    first, second, third = acks.fetched(0, 9), acks.fetched(10, 19), acks.fetched(20, 20)

    second.done = True
    assert acks.committable() is None
    first.done = True
    assert acks.committable() == 20
    acks.commit(20)
    assert acks.committable() is None
    third.done = True
    assert acks.committable() == 21


def test_a_partition_whose_first_batch_is_one_record_at_offset_0_commits_1() -> None:
    acks = Acks()
    acks.fetched(0, 0).done = True

    assert acks.committable() == 1


def test_offsets_without_records_hold_nothing_up() -> None:
    acks = Acks()
    acks.seek(5)
    acks.fetched(8, 8).done = True
    acks.fetched(100, 200).done = True

    assert acks.committable() == 201


def test_an_ack_from_before_a_seek_changes_nothing() -> None:
    acks = Acks()
    old = acks.fetched(0, 9)
    acks.seek(None)
    acks.fetched(0, 4)
    old.done = True

    assert acks.committable() is None


def test_records_out_of_order_are_a_fault() -> None:
    acks = Acks()
    acks.fetched(0, 9)

    with pytest.raises(ValueError, match="records 9-12 do not follow offset 9"):
        acks.fetched(9, 12)


# Named: hypothesis reads the source of a lambda, which CPython 3.11 refuses after deep recursion in C.
def flying(consumer: "Consumer") -> bool:
    return bool(consumer.flying)


def orphaned(consumer: "Consumer") -> bool:
    return bool(consumer.orphans)


class Consumer(RuleBasedStateMachine):
    """A log with holes, read in micro-batches, processed in any order, committed and sought at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.acks = Acks()
        self.log: list[int] = []
        self.committed = 0
        self.position = 0
        self.flying: list[tuple[Span, set[int]]] = []
        self.orphans: list[Span] = []
        self.processed: set[int] = set()

    @rule(holes=st.lists(st.integers(0, 3), min_size=1, max_size=6))
    def produce(self, holes: list[int]) -> None:
        end = self.log[-1] + 1 if self.log else 0
        for hole in holes:
            end += hole
            self.log.append(end)
            end += 1

    @rule(most=st.integers(1, 5))
    def fetch(self, most: int) -> None:
        piece = [offset for offset in self.log if offset >= self.position][:most]
        if piece:
            self.flying.append((self.acks.fetched(piece[0], piece[-1]), set(piece)))
            self.position = piece[-1] + 1

    @precondition(flying)
    @rule(which=st.integers(0, 100))
    def process(self, which: int) -> None:
        span, records = self.flying.pop(which % len(self.flying))
        span.done = True
        self.processed |= records

    @precondition(orphaned)
    @rule()
    def late_ack(self) -> None:
        self.orphans.pop().done = True

    @rule()
    def commit(self) -> None:
        offset = self.acks.committable()
        if offset is not None:
            assert offset > self.committed
            self.acks.commit(offset)
            self.committed = offset

    @rule()
    def seek(self) -> None:
        """A rebalance: what was fetched is fetched again, by us or by another."""
        self.acks.seek(self.committed or None)
        self.orphans += [span for span, _ in self.flying]
        self.flying.clear()
        self.position = self.committed

    @invariant()
    def nothing_unprocessed_lies_behind_the_commit(self) -> None:
        assert all(offset in self.processed for offset in self.log if offset < self.committed)

    @invariant()
    def all_done_means_all_committable(self) -> None:
        if not self.flying and self.position > self.committed:
            assert self.acks.committable() == self.position


TestConsumer = Consumer.TestCase
