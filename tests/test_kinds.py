"""What campaigns get when accounts show nothing of one kind of trait."""

from test_campaigns import MEMBERS, campaign, settled

from gateway.request import encode
from models.rarity import GROUPS, KINDS
from sinks.policy import Policy
from streams.evaluate.judge import Ledger
from streams.evaluate.kinds import NOTHING, TAKEN, Overhears, missed, watcher_name
from streams.evaluate.play import Sent, Table, batches
from streams.evaluate.played import Job, Played
from streams.evaluate.watchers import Stillwatch


def test_an_agent_that_hears_all_finds_what_the_detector_finds_and_one_kind_alone_is_no_campaign() -> None:
    detector = Stillwatch(Policy.load())
    everything = tuple(KINDS)
    placeless = tuple(name for name in everything if KINDS[name].group != "place")
    agents = {
        watcher_name(NOTHING): Overhears(detector, Policy.load(), ()),
        watcher_name("place"): Overhears(detector, Policy.load(), TAKEN["place"]),
        watcher_name("identity"): Overhears(detector, Policy.load(), everything),
        watcher_name("software"): Overhears(detector, Policy.load(), placeless),
    }
    tables = [Table(detector), *(Table(agent) for agent in agents.values())]
    requests = sorted([*settled(), *campaign()], key=lambda one: one.at)
    for batch in batches(Sent(one.at, encode(one), one.account, one.output_tokens, 0) for one in requests):
        for table in tables:
            table.take(batch)
    named = [set(agent.membership.members) for agent in agents.values()]
    assert named[0] == set(detector.membership.members) == set(MEMBERS)
    # They share a card and settings too; nothing at all, or their place alone, ties nobody.
    assert named[1] == set(MEMBERS)
    assert named[2] == named[3] == set()


def test_every_kind_is_in_one_group_and_all_groups_are_taken() -> None:
    taken = [name for group in GROUPS for name in TAKEN[group]]
    assert sorted(taken) == sorted(KINDS)
    assert TAKEN[NOTHING] == ()


def test_what_is_missed_is_told_for_each_family() -> None:
    ledgers = {}
    for taken in TAKEN:
        ledger = ledgers[watcher_name(taken)] = Ledger()
        for account, count in (("eve", 8), ("ada", 4)):
            for number in range(count):
                ledger.send(account, number, 0, 1)
    accounts = {name: ledger.accounts for name, ledger in ledgers.items()}
    truth = {"eve": ("attack", "split 5"), "ada": ("honest", "chat")}
    rows = missed([Played(Job("family", 1, "split 5"), accounts, truth), Played(Job("honest", 1, "part 0"), {}, {})])
    assert [(row.name, row.taken) for row in rows] == [("split 5", taken) for taken in TAKEN]
    assert {(row.before_throttle, row.named, row.precision, row.recall) for row in rows} == {(1.0, 0, 1.0, 0.0)}
