"""The partition of links: kept safe like profiles, and what it holds is what the standings topic says."""

import asyncio

import numpy as np
from faust.types import TP
from stories import DAY, T0, Raw, request
from test_watch import POLICY, REQUESTS, ZERO, Shelf, chunk, new_watch

from gateway.feedback import Feedback
from gateway.feedback import encode as encode_feedback
from gateway.request import encode
from streams.campaign import Campaign
from streams.campaigns import Campaigns
from streams.engine.acks import Acks
from streams.engine.register import Register
from streams.engine.transport import Chunk
from streams.engine.watch import Watch
from streams.settings import Settings

LINKS = TP("stillwatch.links", 0)


async def given(watch: Watch, *tps: TP) -> None:
    """Give the watch partitions and wait until all are released."""
    released: set[TP] = set()
    done = asyncio.Event()

    def release(tp: TP) -> None:
        released.add(tp)
        if released == set(tps):
            done.set()

    watch.release = release
    watch.assigned(set(tps))
    await asyncio.wait_for(done.wait(), 5)


def links(acks: Acks, messages: list[bytes]) -> Chunk:
    records = [Raw(value, offset=n, timestamp=T0) for n, value in enumerate(messages)]
    return Chunk(LINKS, records, acks.fetched(0, len(messages) - 1, 0.0))  # type: ignore[arg-type]


def shelf_with_a_campaign() -> Shelf:
    """A changelog in which "ada" and "bob" are one campaign that is watched until tomorrow."""
    campaigns = Campaigns(POLICY)
    watch_messages = sightings("ada") + sightings("bob")
    campaigns.process([Raw(message) for message in watch_messages])
    one = Campaign(id="c0000000000aa", found_at=T0, at=T0, score=0.9, members=2, rung=1, until=T0 + DAY, seq=1)
    campaigns.found[one.id] = one
    rows = np.array([campaigns.known.find("ada"), campaigns.known.find("bob")])
    campaigns.known.table["campaign"][rows], campaigns.known.table["belonging"][rows] = one.number, 1.0
    campaigns.known.touch(rows)
    campaigns._changed.add(one.id)
    shelf = Shelf()
    shelf.rows[0] = [(name, row) for name, row in campaigns.snapshot_dirty() if row is not None]
    return shelf


def sightings(account: str) -> list[bytes]:
    """What a pipeline tells of an account with a payment of its own."""
    from streams.pipeline import Pipeline

    made = [encode(request(account, T0 + n, id=f"{account}{n}", payment=f"card of {account}")) for n in range(3)]
    told = Pipeline(POLICY).process([Raw(value, offset=n) for n, value in enumerate(made)]).sightings
    assert told is not None
    return [told]


async def test_sightings_are_acked_with_their_requests_and_links_when_what_they_led_to_is_stored() -> None:
    shelf = Shelf()
    watch, wire = new_watch(Settings(), campaigns=shelf)
    await given(watch, ZERO, LINKS)
    acks = Acks()
    await watch.take(chunk(Acks(), REQUESTS[:10], 0))
    assert len(wire.sightings) == 1

    await watch.take(links(acks, wire.sightings))
    assert acks.committable() is None
    await watch.drain()

    assert acks.committable() == 1
    assert [name for _, names in shelf.writes for name in names] == ["account:ada"]
    after, _ = new_watch(Settings(), campaigns=shelf)
    await given(after, LINKS)
    assert after.partitions[LINKS].memory.known.find("ada") is not None
    assert after.ready, "a worker with links alone has work"


async def test_who_takes_campaigns_over_says_what_holds_and_takes_back_what_does_not() -> None:
    register = Register(partitions=1)
    watch, wire = new_watch(Settings(partitions=1), campaigns=shelf_with_a_campaign(), register=register)
    told: list[tuple[bytes | None, bytes | None, int]] = []
    send = wire.send

    async def listen(topic, value, key, *, headers=None):  # type: ignore[no-untyped-def]
        if topic == "stillwatch.standings":
            told.append((key, value, int(dict(headers)["term"])))
        return await send(topic, value, key, headers=headers)

    watch._new["stillwatch.links"].keywords["means"].outbox._send = listen  # type: ignore[attr-defined]
    from test_register import hear, said

    await hear(register, said("eve", b"of a campaign that is no more", T0 + 500))
    await given(watch, LINKS)

    assert {(key, value is None) for key, value, _ in told} == {(b"ada", False), (b"bob", False), (b"eve", True)}
    # In office later than whoever spoke last, even if that one's clock was ahead.
    assert {term for *_, term in told} == {T0 + 501}
    assert wire.topics.count("stillwatch.enforcement") == 1  # the campaign's verdict, once more
    assert "stillwatch.audit" not in wire.topics

    told.clear()
    await hear(register, said("ada", b"now", T0 + 501), said("ada", b"from a worker that woke up", T0 + 1))
    assert told == [(b"ada", b"now", T0 + 501)]


async def test_members_are_told_to_the_partition_that_has_them_also_one_that_comes_later() -> None:
    campaigns = Campaigns(POLICY)
    rows = shelf_with_a_campaign().rows[0]
    campaigns.restore(rows)
    standing = dict(campaigns.standings())["ada"]
    register = Register(partitions=1)
    watch, wire = new_watch(Settings(partitions=1), register=register)
    from test_register import hear, said

    await hear(register, said("ada", standing, 1))  # before anybody here has a partition
    await given(watch, ZERO)
    await watch.take(chunk(Acks(), REQUESTS[:1], 0))
    assert wire.topics == ["stillwatch.enforcement", "stillwatch.audit"]  # at her first request, not her hundredth


async def test_whom_people_clear_leaves_the_campaign_and_hearing_it_again_changes_nothing() -> None:
    watch, wire = new_watch(Settings(partitions=1), campaigns=shelf_with_a_campaign())
    await given(watch, LINKS)
    wire.topics.clear()
    said = Feedback(
        id="1", at=T0 + 5_000, scope="account", value="ada", kind="false_alarm", by="eve", reason="a customer"
    )  # fmt: skip
    record = Raw(encode_feedback(said), offset=0, timestamp=T0 + 5_000)

    await watch.hear(0, [record])  # type: ignore[list-item]
    assert wire.topics == ["stillwatch.standings"]
    await watch.hear(0, [record])  # type: ignore[list-item]
    assert wire.topics == ["stillwatch.standings"]
    known = watch.partitions[LINKS].memory.known
    assert known.table["campaign"][known.find("ada")] == 0
    assert known.table["campaign"][known.find("bob")] != 0


async def test_feedback_changes_a_profile_once_and_garbage_is_set_aside_once() -> None:
    shelf = Shelf()
    watch, wire = new_watch(Settings(), shelf)
    await given(watch, ZERO)
    said = Feedback(id="1", at=T0, scope="account", value="ada", kind="add", by="eve", reason="known",
                    until=T0 + DAY, action="throttle")  # fmt: skip
    told = [Raw(b"garbage", 0, b"x", T0), Raw(encode_feedback(said), 1, b"ada", T0)]
    await watch.hear(0, told)  # type: ignore[arg-type]
    assert sorted(wire.topics) == ["stillwatch.audit", "stillwatch.enforcement", "stillwatch.unreadable"]
    wire.take_all()
    await watch.drain()

    after, wire = new_watch(Settings(), shelf)
    await given(after, ZERO)
    wire.topics.clear()
    await after.hear(0, told)  # type: ignore[arg-type]
    assert wire.topics == []
