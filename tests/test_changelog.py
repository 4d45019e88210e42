"""Changelog: profiles stored and read back, whoever wrote them in whatever order."""

from collections.abc import AsyncIterator

import pytest
from brokers import Broker

from streams import topics
from streams.engine.changelog import Changelog
from streams.settings import Settings


@pytest.fixture
async def changelog(broker: Broker) -> AsyncIterator[Changelog]:
    """An empty one."""
    settings = Settings.read(broker.environment())
    await topics.create(settings)
    async with settings.producer() as producer:
        yield Changelog(producer, settings, topics.PROFILES)


async def test_what_is_written_is_read_back(changelog: Changelog) -> None:
    empty = await changelog.read(2)
    rows = [(f"account-{n}", b"%d" % n * 100) for n in range(5_000)]  # a few batches

    end = await changelog.write(2, 7, rows)
    stored = await changelog.read(2)

    assert (empty.rows, empty.position, empty.end) == ([], 0, 0)
    assert (stored.rows, stored.position, stored.end) == (rows, 7, end)
    assert end == 5_000
    assert (await changelog.read(1)).rows == []


async def test_the_newest_row_of_an_account_counts_and_a_forgotten_one_is_gone(changelog: Changelog) -> None:
    await changelog.write(0, 10, [("ada", b"1"), ("bob", b"1"), ("eve", b"1")])
    await changelog.write(0, 20, [("ada", b"2"), ("eve", None)])

    assert (await changelog.read(0)).rows == [("ada", b"2"), ("bob", b"1")]


async def test_a_row_written_late_by_a_worker_that_was_frozen_does_not_win(changelog: Changelog) -> None:
    await changelog.write(0, 20, [("ada", b"now"), ("bob", b"now")])
    await changelog.write(0, 10, [("ada", b"long ago")])

    stored = await changelog.read(0)
    assert dict(stored.rows) == {"ada": b"now", "bob": b"now"}
    # And compaction, which keeps what stands last, is given the right row to keep.
    assert stored.end == 4
    assert (await changelog.read(0)).end == 4


async def test_models_stand_beside_the_rows(changelog: Changelog) -> None:
    assert (await changelog.read(0)).models is None
    await changelog.write(0, 20, [("ada", b"1")], models=b"m" * 500_000)
    await changelog.write(0, 30, [("ada", b"2")])

    stored = await changelog.read(0)
    assert (stored.rows, stored.models, stored.position) == ([("ada", b"2")], b"m" * 500_000, 30)


async def test_writing_nothing_is_nothing(changelog: Changelog) -> None:
    await changelog.write(0, 20, [])

    assert (await changelog.read(0)).end == 0
