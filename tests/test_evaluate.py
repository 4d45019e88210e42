"""The arena: what an attacker got, whom we accused wrongly, and that two runs say the same."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from stories import DAY, HOUR, MINUTE, SECOND, T0, Raw, request

from gateway.request import Request, encode
from sinks.policy import Policy
from streams.batch import Record, read
from streams.campaigns import Outcome as Found
from streams.cli import main
from streams.evaluate.arena import Plan, evaluate, jobs, play
from streams.evaluate.away import GROUPS, Away, blind, given_away_by, watcher_name
from streams.evaluate.baselines import DAILY_QUOTA, FixedRules, Prada, RateLimit
from streams.evaluate.hydra import Campaign
from streams.evaluate.judge import (
    LADDER,
    THROTTLE,
    Act,
    Ledger,
    days_at,
    interval,
    median_hours,
    share_before,
    share_of_all_before,
)
from streams.evaluate.membership import Membership, matched
from streams.evaluate.play import Backdrop, Sent, Table, batches, merged, sent, stripped
from streams.evaluate.played import Job, Played
from streams.evaluate.report import encoded, report
from streams.evaluate.tools import moved, recordings_in, tool_name
from streams.evaluate.watchers import Baseline, Seen, Stillwatch, Watcher, watchers
from streams.simulate.accounts import DAY_MS
from streams.simulate.attacks import Scenario, campaign
from streams.simulate.families import FAMILIES, campaigns
from streams.simulate.honest import Spread
from streams.simulate.lookalikes import LOOKALIKES, lookalikes
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY, Stream, simulate
from streams.standing import Standing
from streams.standing import encode as encode_standing

WATCH, VERIFY = LADDER.index("watch") + 1, LADDER.index("verify") + 1
SMALL = Plan(
    families=("search", "hydra 0"), crowds=("class",), days=0.5, calm=0.25, backdrop=12, wide=12, wide_days=0.5,
    crowd_days=0.7, parts=1, crowd=10, each=0, honest_days=0.5,
)  # fmt: skip


def ledger_of(sends: Iterable[tuple[str, int]], acts: Iterable[Act]) -> Ledger:
    """Accounts that send so many requests of 10 reasoning tokens, one a minute, and are then acted on."""
    ledger = Ledger()
    for account, count in sends:
        for number in range(count):
            ledger.send(account, T0 + number * MINUTE, 10, 50)
    for act in acts:
        ledger.act(act)
    return ledger


def test_what_is_sent_after_a_rung_was_wanted_and_not_served_before_it() -> None:
    ledger = ledger_of([("a", 30)], [Act("a", WATCH, T0 + 29 * MINUTE)])
    for number in range(30, 100):
        ledger.send("a", T0 + number * MINUTE, 0, 50)
        if number == 59:
            ledger.act(Act("a", VERIFY, T0 + 59 * MINUTE))
    accounts = list(ledger.accounts.values())
    # 30 of 100 before watch; verify is harsher than throttle, so both came after 60.
    assert [share_before(accounts, height)[0] for height in (WATCH, THROTTLE, VERIFY)] == [0.3, 0.6, 0.6]
    # Only the first 30 requests had reasoning tokens.
    assert share_before(accounts, THROTTLE)[1] == 1.0
    # No degrade came: everything was served before it.
    assert share_before(accounts, VERIFY + 1)[0] == 1.0


def test_a_campaign_is_all_its_accounts_and_cover_traffic_counts_for_nothing() -> None:
    ledger = ledger_of([("a", 10), ("b", 30)], [Act("a", THROTTLE, T0 + 9 * MINUTE)])
    for number in range(10):
        ledger.send("a", T0 + HOUR + number, 10, 50)
        ledger.send("b", T0 + HOUR + number, 999, 50, cover=True)
    # 10 of a's 20 and all of b's 30.
    assert share_before(ledger.accounts.values(), THROTTLE) == (40 / 50, 400 / 500)
    assert share_before([], THROTTLE) == (0.0, 0.0)


def test_a_rung_counts_once_and_the_time_to_it_runs_from_the_first_request() -> None:
    acts = [Act("a", THROTTLE, T0 + 2 * HOUR), Act("a", THROTTLE, T0 + 9 * HOUR), Act("b", THROTTLE, T0 + 4 * HOUR)]
    ledger = ledger_of([("a", 1), ("b", 1), ("c", 1)], acts)
    assert median_hours(ledger.accounts.values(), THROTTLE) == 3.0
    assert median_hours(ledger.accounts.values(), VERIFY) is None
    assert [ledger.height(account) for account in "abcd"] == [THROTTLE, THROTTLE, 0, 0]


def test_an_account_day_is_acted_on_when_a_verdict_came_on_it() -> None:
    ledger = Ledger()
    for day in range(4):
        ledger.send("a", T0 + day * DAY, 0, 1)
    ledger.send("b", T0, 0, 1)
    for day, height in ((1, WATCH), (2, THROTTLE), (2, WATCH)):
        ledger.act(Act("a", height, T0 + day * DAY))
    assert [days_at(ledger.accounts, height) for height in (WATCH, THROTTLE, VERIFY)] == [(2, 5), (1, 5), (0, 5)]


def test_a_stricter_threshold_would_have_served_less() -> None:
    ledger = ledger_of([("a", 4)], [])
    ledger.weigh(["a"], [0.5], T0)
    for number in range(6):
        ledger.send("a", T0 + HOUR + number, 0, 1)
    ledger.weigh(["a"], [0.9], T0 + HOUR)
    ledger.weigh(["a"], [0.2], T0 + HOUR)
    met = ledger.accounts["a"]
    assert [met.served_below(threshold) for threshold in (0.4, 0.5, 0.6, 0.9, 0.95)] == [4, 4, 10, 10, 10]
    assert met.rises == [(0.5, 4), (0.9, 10)]


@pytest.mark.parametrize(
    ("count", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),  # 1 - 0.025^(1/10)
        (10, 10, 0.6915, 1.0),
        (0, 36_888, 0.0, 1e-4),  # so many account-days without an action show fewer than 10 in 100,000
        (1, 10, 0.0025, 0.4450),  # Clopper and Pearson's table
        (5, 10, 0.1871, 0.8129),
    ],
)
def test_intervals_are_those_of_clopper_and_pearson(count: int, trials: int, low: float, high: float) -> None:
    found = interval(count, trials)
    assert found.rate == count / trials
    assert found.low == pytest.approx(low, abs=6e-5)
    assert found.high == pytest.approx(high, abs=6e-5)


def test_an_interval_of_nothing_says_nothing_and_nonsense_is_refused() -> None:
    assert interval(0, 0)[2:] == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="3 of 2 is no proportion"):
        interval(3, 2)


def told(requests: Iterable[Request]) -> list[Raw]:
    return [Raw(encode(one), offset) for offset, one in enumerate(requests)]


def test_the_rate_limit_counts_a_day_and_begins_again_at_midnight() -> None:
    rate_limit = Baseline(RateLimit())

    def acts(day: int, count: int) -> list[Act]:
        records = told(request(id=f"{day}-{count}-{n}", account="a", at=T0 + day * DAY + n) for n in range(count))
        return list(rate_limit.watch(records, ["a"]).acts)

    assert acts(0, DAILY_QUOTA - 1) == []
    assert acts(0, 1) == [Act("a", THROTTLE, T0)]
    assert acts(1, DAILY_QUOTA - 1) == []


def test_fixed_rules_add_up_points() -> None:
    rules = FixedRules()

    def points(account: str, count: int, **fields: object) -> float:
        requests = [request(id=f"{account}{n}", account=account, at=T0 + n * SECOND, **fields) for n in range(count)]
        batch, _ = read(told(requests))
        assert batch is not None
        return rules.weigh(batch, np.arange(count), account)

    assert points("plain", 200, input_tokens=100, output_tokens=100) == 0
    assert points("busy", 1_001, input_tokens=100, output_tokens=100) == 1
    # Long answers to short questions, by an account opened an hour ago.
    assert points("new", 301, input_tokens=100, output_tokens=600, opened_at=T0 - HOUR) == 2
    assert points("probabilities", 100, input_tokens=100, output_tokens=100, top_logprobs=5) == 1


def test_prada_accepts_normal_distances_and_refuses_those_of_repeated_prompts() -> None:
    dice = np.random.default_rng(1)
    honest, repeating = Prada(), Prada()
    for _ in range(30):
        honest.add(np.clip(dice.normal(0, 16, (10, 64)), -127, 127).astype(np.int8))
        repeating.add(np.full((10, 64), 16, np.int8))
    assert honest.normality > Prada.THRESHOLD
    assert repeating.normality == 0.0


class Quota(Watcher):
    """Throttles an account with its tenth request, and remembers which batch each came in."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.sent: dict[str, int] = {}

    def watch(self, records: "Iterable[Record]", accounts: "Iterable[str]") -> Seen:
        names = [msgspec.json.decode(record.value or b"", type=Request) for record in records]
        self.sizes.append(len(names))
        for one in names:
            self.sent[one.account] = self.sent.get(one.account, 0) + 1
        over = [account for account in accounts if self.sent[account] >= 10]
        return Seen([Act(account, THROTTLE, names[-1].at) for account in over], np.zeros(len(set(accounts))))


def test_batches_close_after_five_minutes_or_a_thousand_requests() -> None:
    spaced = [Sent(T0 + number * MINUTE, b"", "a", 0, 0) for number in range(12)]
    assert [len(batch) for batch in batches(spaced)] == [5, 5, 2]
    dense = [Sent(T0 + number, b"", "a", 0, 0) for number in range(2_500)]
    assert [len(batch) for batch in batches(dense)] == [1_000, 1_000, 500]


def hydra(days: float, **changes: object) -> tuple[Stream, Scenario]:
    """Eight places of a hydra with half cover, two hundred requests a day each."""
    scenario = FAMILIES["hydra 50"]._replace(accounts=8, daily=100, requests=None, staggered=0.0, **changes)
    end_at, prompts = MONDAY + int(days * DAY), Prompts(1)
    return Stream(campaign("hydra 50", scenario, 1, MONDAY, end_at, prompts, MONDAY), prompts, MONDAY, end_at), scenario


def played_against(quota: Quota, stream: Stream, scenario: Scenario) -> tuple[Ledger, Campaign]:
    """What a campaign did before a watcher that throttles what exceeds a quota."""
    table, attack = Table(quota), Campaign(stream, 1, stripped(()), scenario)
    for batch in batches(merged(Backdrop(np.zeros(0, np.int64), [], []), 0, 2 * MONDAY, attack.against(table.ledger))):
        table.take(batch)
    return table.ledger, attack


def test_an_account_that_was_throttled_is_replaced_after_some_hours_and_its_cover_goes_with_it() -> None:
    ledger, attack = played_against(Quota(), *hydra(2.0, delivery=Spread(3, 0.0)))
    assert set(ledger.accounts) <= set(attack.names)
    # Eight places, each with its first account and three replacements.
    assert len(ledger.accounts) == attack.accounts_used == 8 * 4
    began = sorted(met.first_at for met in ledger.accounts.values())
    throttled = sorted(met.at[THROTTLE] for met in ledger.accounts.values())
    # The first replacement came three hours after the first throttle was noticed, and not before.
    assert began[8] >= throttled[0] + 3 * HOUR
    # Customers go along: most replacements, too, send for somebody.
    assert sum(met.covered > 0 for met in ledger.accounts.values()) > 16
    # The quota is ten requests; a batch may hold some more. What came while the seller took his time was not served.
    served = [met.served_before(THROTTLE)[0] + met.covered_before[THROTTLE] for met in ledger.accounts.values()]
    assert all(10 <= count < 60 for count in served)
    wanted = sum(met.sent + met.covered for met in ledger.accounts.values())
    assert share_of_all_before(ledger.accounts.values(), THROTTLE) == sum(served) / wanted < 0.5


def test_nothing_that_one_can_buy_stays_with_a_replacement() -> None:
    stream, scenario = hydra(1.0, delivery=Spread(1, 0.0))
    ledger = Ledger()
    attack = Campaign(stream, 1, stripped(()), scenario)
    found: dict[str, list[Request]] = {}
    for one in attack.against(ledger):
        request_ = msgspec.json.decode(one.line, type=Request)
        found.setdefault(one.account, []).append(request_)
        ledger.send(one.account, one.at, 0, 0)
        if len(found[one.account]) == 5:
            ledger.act(Act(one.account, THROTTLE, one.at))
    assert len(found) == 8 * 4
    for field in ("payment", "org", "key", "ip"):
        shown = [{getattr(one, field) for one in requests} - {None} for requests in found.values()]
        assert sum(map(len, shown)) == len(set().union(*shown)), field
    ids = [one.id for requests in found.values() for one in requests]
    assert len(ids) == len(set(ids))


def test_a_hydra_begins_over_days_and_ends_when_it_has_what_it_wants() -> None:
    prompts = Prompts(3)
    stream = Stream(campaigns(["hydra 90"], 3, MONDAY, MONDAY + 14 * DAY, prompts, MONDAY), prompts, MONDAY, 2 * MONDAY)
    cover = {account.tag for account in stream.accounts if account.cover}
    own = [one for one in stream if one.id.partition("-")[0] not in cover]
    # 500 accounts x 400 requests, nine tenths of them cover.
    assert len(own) == pytest.approx(20_000, rel=0.02)
    assert max(one.at for one in own) < MONDAY + 12 * DAY
    first = {one.account: one.at for one in reversed(own)}
    assert len(first) == 500
    # Half of them have begun after a day.
    assert sum(at < MONDAY + DAY for at in first.values()) == pytest.approx(250, abs=40)


def test_honest_traffic_and_a_campaign_are_merged_in_time() -> None:
    honest = [Sent(T0 + number * MINUTE, b"", "honest", 0, 0) for number in range(5)]
    backdrop = Backdrop(np.array([one.at for one in honest]), honest, [])
    attack = [Sent(T0 + minutes * MINUTE, b"", "attack", 0, 0) for minutes in (1, 2, 9)]
    mixed = list(merged(backdrop, T0 + MINUTE, T0 + 5 * MINUTE, iter(attack)))
    assert [one.account[0] for one in mixed] == list("hahahha")
    # Nothing honest from the last minute on.
    assert [one.account[0] for one in merged(backdrop, T0 + MINUTE, T0 + 4 * MINUTE, iter(attack))] == list("hahaha")
    assert all(earlier.at <= later.at for earlier, later in pairwise(mixed))
    assert backdrop.before(T0 + 2 * MINUTE) == 2


def test_a_field_taken_away_is_nowhere_and_required_ones_cannot_be() -> None:
    for one in simulate(1, days=0.05, accounts=20, scenarios=["harvest"]):
        assert {"ip", "sketch"}.isdisjoint(msgspec.json.decode(sent(one, stripped(("ip", "sketch"))).line))
    with pytest.raises(ValueError, match="'account' is no optional field"):
        stripped(("account",))


def test_evidence_that_is_dropped_weighs_nothing() -> None:
    records = told(request(id=str(n), account="a", at=T0 + n * SECOND, opened_at=T0 - HOUR) for n in range(900))
    whole, dropped = Stillwatch(Policy.load()), Stillwatch(Policy.load(), ("volume", "newness"))
    for watcher in (whole, dropped):
        watcher.watch(records, ["a"])
    scores = [float(watcher.pipeline.profiles.table["score"][0]) for watcher in (whole, dropped)]
    assert scores[0] > scores[1]


def test_a_member_is_as_conspicuous_as_its_campaign() -> None:
    detector = Stillwatch(Policy.load())
    first, second = (told([request(id=str(n), account="a", at=T0 + n * SECOND)]) for n in range(2))
    assert detector.watch(first, ["a"]).strengths.tolist() == [0.0]
    standing = Standing(campaign="c1", at=T0, until=T0 + DAY, action="throttle", score=0.9)
    detector.pipeline.stand([("a", encode_standing(standing))])
    assert detector.watch(second, ["a"]).strengths.tolist() == pytest.approx([0.9], abs=0.01)


def test_one_run_tells_what_each_kind_of_evidence_is_worth() -> None:
    records = told(request(id=str(n), account="a", at=T0 + n * SECOND, opened_at=T0 - HOUR) for n in range(900))
    playing = watchers(Policy.load(), ablations=True)
    seen = {name: watcher.watch(records, ["a"]).scores for name, watcher in playing.items()}
    for name in ("volume", "newness"):
        dropped = Stillwatch(Policy.load(), (name,)).watch(records, ["a"]).scores
        assert seen[name] == pytest.approx(dropped, rel=1e-5)
        assert seen[name] < seen["stillwatch"]
    # It has no prompts, so templates were worth nothing.
    assert seen["templates"] == pytest.approx(seen["stillwatch"], rel=1e-5)


def test_a_detector_without_fields_sees_what_it_would_see_had_they_never_been_sent() -> None:
    def asked(**fields: object) -> list[Record]:
        return told(request(id=str(n), account="a", at=T0 + n * SECOND, **fields) for n in range(900))

    blinded = blind(Policy.load())[watcher_name("identity")]
    seen = blinded.watch(asked(opened_at=T0 - HOUR, plan="pro", ip="10.0.0.1"), ["a"]).scores
    assert seen == Stillwatch(Policy.load()).watch(asked(ip="10.0.0.1"), ["a"]).scores
    assert seen < Stillwatch(Policy.load()).watch(asked(opened_at=T0 - HOUR, ip="10.0.0.1"), ["a"]).scores


def test_every_optional_field_belongs_to_one_group_or_is_no_evidence() -> None:
    optional = {field.name for field in msgspec.structs.fields(Request) if not field.required}
    grouped = [name for fields in GROUPS.values() for name in fields]
    assert len(set(grouped)) == len(grouped)
    assert optional - set(grouped) == {"pathway", "operation", "text", "instructions"}


def test_what_gives_a_family_away_is_what_it_gets_much_more_without() -> None:
    found = [
        Away("sketches", ("sketch",), {"bulk": 0.3, "loud": 0.12}, 0),
        Away("payment", ("payment",), {"bulk": 0.11, "loud": 0.1}, 0),
        Away("turns", ("turns",), {"bulk": 0.9, "loud": 0.14}, 0),
    ]
    assert given_away_by("bulk", 0.1, found) == ["turns", "sketches"]
    assert given_away_by("loud", 0.1, found) == []


def test_a_recording_begins_with_the_attacks_and_ends_with_the_arena(tmp_path: Path) -> None:
    path = tmp_path / "some-tool.jsonl"
    asked = [request("a", T0 + hour * HOUR, id=str(hour), opened_at=T0 - HOUR) for hour in (2, 0, 1, 40)]
    path.write_bytes(b"\n".join(encode(one) for one in asked))
    assert recordings_in(tmp_path) == [path]
    assert tool_name(path) == "some-tool"
    played_ = list(moved(path, MONDAY, MONDAY + DAY))
    assert [one.at - MONDAY for one in played_] == [0, HOUR, 2 * HOUR]
    assert {one.opened_at for one in played_} == {MONDAY - HOUR}
    path.write_bytes(encode(asked[0]) + b'\n{"id": "x"}\n')
    with pytest.raises(ValueError, match=r"some-tool\.jsonl, line 2: "):
        list(moved(path, MONDAY, MONDAY + DAY))
    with pytest.raises(ValueError, match=r"no recording; they end in \.jsonl"):
        jobs(Plan(tools=tmp_path / "nothing"))


def test_reliability_counts_days_by_their_highest_score() -> None:
    ledger = ledger_of([("a", 3), ("b", 1)], [])
    for score in (0.2, 0.96, 0.4):
        ledger.believe(["a"], [score], T0)
    ledger.believe(["a", "b"], [0.02, 0.02], T0 + DAY)
    truth = {"a": ("attack", "bulk"), "b": ("honest", "chat")}
    jobs_ = [Job("family", 1, "bulk"), Job("honest", 1, "part 0")]
    names = ("stillwatch", "rate limit", "fixed rules")
    played = [
        Played(job, {name: {account: ledger.accounts[account]} for name in names}, truth)
        for job, account in zip(jobs_, "ab", strict=True)
    ]
    bins = [row for row in report(SMALL, played).reliability if row.account_days]
    assert [(row.low, row.account_days, row.attacks) for row in bins] == [(0.01, 2, 1), (0.95, 1, 1)]
    assert bins[1].mean == 0.96


def test_families_do_what_they_are_called_for() -> None:
    end_at = MONDAY + DAY

    def played(name: str) -> list[Request]:
        prompts = Prompts(2)
        return list(Stream(campaigns([name], 2, MONDAY, end_at, prompts, MONDAY), prompts, MONDAY, end_at))

    refused = [one.finish == "refusal" for one in played("search")]
    assert 0.7 < np.mean(refused[:1_000]) < 0.9
    assert not any(refused[-1_000:])
    pivot = played("pivot")
    assert {one.model for one in pivot if one.at < MONDAY + DAY // 2} != {
        one.model for one in pivot if one.at > MONDAY + DAY // 2
    }
    slow = played("slow pivot")
    asked = [one.model for one in slow]
    assert len(set(asked[: len(asked) // 3])) == 1
    assert 0.4 < np.mean([model != asked[0] for model in asked[-len(asked) // 3 :]]) < 0.6
    sent_by: dict[str, int] = {}
    for one in played("split 500"):
        sent_by[one.account] = sent_by.get(one.account, 0) + 1
    assert len(sent_by) == 500
    assert max(sent_by.values()) <= 50
    assert len({(one.temperature, one.max_tokens) for one in played("randomised")}) > 10
    assert all(one.top_logprobs == 20 for one in played("logprobs"))


def test_cover_traffic_is_a_share_of_what_each_account_sends() -> None:
    end_at = MONDAY + 2 * DAY
    for name, share in (("hydra 0", 0.0), ("hydra 50", 0.5), ("hydra 90", 0.9)):
        prompts = Prompts(3)
        accounts = campaigns([name], 3, MONDAY, end_at, prompts, MONDAY)
        cover = {account.tag for account in accounts if account.cover}
        covered = [one.id.partition("-")[0] in cover for one in Stream(accounts, prompts, MONDAY, end_at)]
        assert np.mean(covered) == pytest.approx(share, abs=0.1)


def test_every_kind_of_lookalike_sends_and_is_labelled_so() -> None:
    end_at = MONDAY + 4 * DAY
    prompts = Prompts(4)
    accounts = lookalikes(4, 2, MONDAY, end_at, prompts)
    assert {account.label.kind for account in accounts} == set(LOOKALIKES)
    assert all(account.label.label != "attack" for account in accounts)
    sending = {one.account for one in Stream(accounts, prompts, MONDAY, end_at)}
    kinds = {account.label.kind for account in accounts if account.label.account in sending}
    assert kinds == set(LOOKALIKES)


def test_an_attack_lacks_no_field_that_honest_accounts_have_and_has_none_that_they_lack() -> None:
    prompts = Prompts(5)
    end_at = MONDAY + DAY_MS // 4
    names = [name for name, scenario in FAMILIES.items() if scenario.plan is None]
    attack = list(Stream(campaigns(names, 5, MONDAY, end_at, prompts, MONDAY), prompts, MONDAY, end_at))
    honest = list(simulate(5, days=1, accounts=200, scenarios=()))
    honest += list(Stream(lookalikes(5, 2, MONDAY, end_at, prompts), prompts, MONDAY, end_at))
    for field in Request.__struct_fields__:
        present = [any(getattr(one, field) is not None for one in side) for side in (attack, honest)]
        absent = [any(getattr(one, field) is None for one in side) for side in (attack, honest)]
        assert present[0] <= present[1], field
        assert absent[0] <= absent[1], field


def test_a_small_arena_is_played_to_the_end_and_twice_alike() -> None:
    first, second = (report(SMALL, evaluate(SMALL)) for _ in range(2))
    assert encoded(first) == encoded(second)
    ours = first.watchers["stillwatch"]
    assert [family.family for family in ours.families] == ["search", "hydra 0"]
    search, hydra = ours.families
    # A quarter of a day of 9,000 a day from each of two accounts.
    assert search.requests == pytest.approx(4_500, rel=0.1)
    assert search.accounts == 2
    assert hydra.group == "replaced accounts"
    # Of 500 accounts an eighth have begun, on average an eighth of a day ago, at 40 requests a day.
    assert hydra.requests == pytest.approx(62 * 0.125 * 40, rel=0.4)
    assert [(row.family, row.requests) for row in first.campaigns] == [("hydra 0", hydra.requests)]
    assert [row.crowd for row in first.crowds] == ["class"]
    assert 40 < first.crowds[0].accounts <= 60
    # Crowds have a table of their own: they are no honest accounts of the other one.
    assert "class" not in {row.kind for row in ours.honest}
    for family in ours.families:
        shares = [family.before[rung] for rung in LADDER]
        assert shares == sorted(shares)
    assert ours.all_honest.accounts > 2
    assert "replaced accounts" not in ours.curves
    for curve in (curve for watched in first.watchers.values() for curve in watched.curves.values()):
        assert all(a.false_actions >= b.false_actions and a.served <= b.served for a, b in pairwise(curve))


def test_processes_side_by_side_find_the_same() -> None:
    plan = Plan(families=("search",), crowds=(), days=0.3, calm=0.25, backdrop=5, parts=0)
    alone, together = (report(plan, evaluate(plan, processes=processes)) for processes in (1, 2))
    assert encoded(alone) == encoded(together)


def test_jobs_and_plans() -> None:
    plan = Plan(seeds=(1, 2), families=("bulk",), crowds=("tool",), parts=1)
    assert jobs(plan) == [
        Job("honest", 1, "part 0"), Job("honest", 2, "part 0"), Job("family", 1, "bulk"), Job("family", 2, "bulk"),
        Job("crowd", 1, "tool"), Job("crowd", 2, "tool"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="unknown family 'bulky'; known: harvest, "):
        Plan(families=("bulky",))
    with pytest.raises(ValueError, match="unknown evidence 'volum'; known: volume, "):
        Plan(dropped=("volum",))
    with pytest.raises(ValueError, match="evidence, fields and traits are taken away in runs of their own"):
        Plan(ablations=True, away=True)


def test_members_are_whoever_was_named_and_keep_the_harshest_that_their_campaign_earned() -> None:
    found = Membership()
    standing = {"campaign": "c1", "until": T0 + DAY, "score": 0.9}
    for at, action in ((T0, "watch"), (T0 + HOUR, "throttle"), (T0 + 2 * HOUR, "watch")):
        told_ = encode_standing(Standing(at=at, action=action, **standing))
        found.hear(Found(standings=[("a", told_), ("b", told_), ("gone", None)]))
    assert found.members == {"a": (THROTTLE, T0), "b": (THROTTLE, T0)}
    match = matched(found.members, {"a": None, "c": None, "d": None, "e": None})
    # One of two named was meant, and one of four meant was named.
    assert (match.precision, match.recall) == (0.5, 0.25)
    assert matched([], {"a": None}).precision == 1.0


def test_bystanders_are_told_from_attackers() -> None:
    played = play(Plan(families=("split 5",), days=0.3, calm=0.25, backdrop=10, parts=0), Job("family", 1, "split 5"))
    labels = [played.truth[account][0] for account in played.accounts["stillwatch"]]
    assert labels.count("attack") == 5
    assert 0 < labels.count("honest") <= 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--family", "bulky"], "unknown family 'bulky'"),
        (["--without-field", "account"], "'account' is no optional field"),
        (["--without", "luck"], "unknown evidence 'luck'"),
        (["--policy", "no-such-file.toml"], "no-such-file.toml: No such file"),
    ],
)
def test_the_command_says_what_is_wrong(options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["evaluate", *options])
    assert result.exit_code == 2
    assert message in result.output


def test_the_picture_is_drawn_in_two_formats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from streams.evaluate.picture import draw

    plan = Plan(
        families=("search",), crowds=(), days=0.3, calm=0.25, backdrop=5, parts=1, crowd=5, each=0, honest_days=0.2
    )
    found = report(plan, evaluate(plan))
    paths = draw(found, tmp_path / "arena.svg")
    assert [path.name for path in paths] == ["arena.png", "arena.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_text().startswith("<?xml")
    first = paths[1].read_bytes()
    draw(found, tmp_path / "arena.svg")
    assert paths[1].read_bytes() == first
