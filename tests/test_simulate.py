"""Simulated streams: the same seed tells the same story, and everybody in it behaves as what they are."""

import asyncio
import gzip
import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
import zstandard
from stories import T0

from gateway.request import decode, encode
from streams.simulate import grammar, rhythm
from streams.simulate.accounts import Account, Label, Rows, dice_for, empty, in_order
from streams.simulate.attacks import SCENARIOS
from streams.simulate.honest import KINDS, REASONS, Seat
from streams.simulate.live import Due, compressed, live, produce, steady
from streams.simulate.output import labels_path, write
from streams.simulate.places import HOMES
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY, SLICE, simulate

DAY = 86_400_000
HOUR = 3_600_000

WRITE = """
import sys
from pathlib import Path
from streams.simulate.output import write
from streams.simulate.stream import simulate
write(simulate(7, days=0.1, accounts=12), Path(sys.argv[1]))
"""


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_one_seed_gives_the_same_bytes_in_every_process(tmp_path: Path, ending: str) -> None:
    for name, hashed in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        out = tmp_path / name / f"stream.jsonl{ending}"
        subprocess.run([sys.executable, "-c", WRITE, out], check=True, env=os.environ | {"PYTHONHASHSEED": hashed})
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(digests(tmp_path / "a")) == 2


def test_another_seed_is_another_stream() -> None:
    first, second = (next(iter(simulate(seed, days=0.1, accounts=10))) for seed in (1, 2))
    assert first != second


def test_one_account_more_leaves_the_others_as_they_are() -> None:
    small, large = simulate(3, days=0.1, accounts=20), simulate(3, days=0.1, accounts=21)
    joined = large.labels[20].account
    assert [label for label in large.labels if label.account != joined] == small.labels
    assert [request for request in large if request.account != joined] == list(small)


def test_requests_come_in_time_order_within_the_stream_and_can_be_read() -> None:
    stream = simulate(4, days=0.2, accounts=40)
    last, ids = MONDAY, set()
    for request in stream:
        assert decode(encode(request)) == request
        assert last <= request.at < MONDAY + DAY // 5
        last = request.at
        ids.add(request.id)
        assert request.sketch is None or request.sketch.chars >= -1
    assert len(ids) > 1_000


def test_every_account_has_a_label_and_every_kind_and_scenario_its_accounts() -> None:
    stream = simulate(5, days=0.2, accounts=150)
    truth = {label.account: label for label in stream.labels}
    assert len(truth) == 150 + sum(scenario.accounts for scenario in SCENARIOS.values())
    assert {request.account for request in stream} <= truth.keys()
    assert {label.kind for label in truth.values() if label.label != "attack"} == set(KINDS)
    assert {label.label for label in truth.values() if label.kind in {"batch", "evaluation", "agent"}} == {"lookalike"}
    attackers = Counter(label.scenario for label in truth.values() if label.label == "attack")
    assert attackers == {name: scenario.accounts for name, scenario in SCENARIOS.items()}


def test_an_account_does_not_say_by_its_name_what_it_is() -> None:
    names = [label.account for label in simulate(5, days=0.1, accounts=30).labels]
    assert {len(name) for name in names} == {17}
    assert {name[:5] for name in names} == {"acct-"}


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown scenario 'harvst'; known: harvest, sweep, reasoning"):
        simulate(scenarios=["harvst"])


def test_attacks_start_when_told_and_keep_their_daily_rate() -> None:
    stream = simulate(6, days=1, accounts=0, attack_after=6 * 3_600)
    at = defaultdict(list)
    campaign = {label.account: label.scenario for label in stream.labels}
    for request in stream:
        at[campaign[request.account]].append(request.at - MONDAY)
    for name, scenario in SCENARIOS.items():
        assert 6 * HOUR <= at[name][0] < 6 * HOUR + 5_000
        # Three quarters of a day; one worker more or less than a cycle at either end.
        assert len(at[name]) == pytest.approx(0.75 * scenario.daily * scenario.accounts, rel=0.1)


def test_a_reasoning_harvest_asks_each_question_four_times_and_shares_the_list() -> None:
    stream = simulate(6, days=0.2, accounts=0, scenarios=["reasoning"], attack_after=0)
    seen = [request.sketch.prefix for request in stream if request.sketch]
    often = Counter(Counter(seen).values())
    assert often[4] > 0.9 * sum(often.values())


def test_a_new_attacker_account_is_at_full_rate_at_once() -> None:
    stream = simulate(6, days=1, accounts=0, scenarios=["harvest"], attack_after=12 * 3_600)
    for request in stream:
        assert request.opened_at is None or request.at - request.opened_at < 3 * DAY


def sent_by(kind: str, accounts: int, days: int) -> list[Account]:
    """Accounts of one kind."""
    prompts = Prompts(8)
    seats = [
        Seat(f"{kind}-{i}", kind, dice_for(8, kind, i), MONDAY, MONDAY + days * DAY, prompts) for i in range(accounts)
    ]
    return [KINDS[kind].build(seat) for seat in seats]


def test_people_sleep_and_have_weekends() -> None:
    hours, days = np.zeros(24), np.zeros(7)
    for account in sent_by("coding", 40, 14):
        # A country of one time zone tells the clock on the wall.
        zones = {zone for zone, country in HOMES if country == account.places[0].country}
        if len(zones) != 1:
            continue
        for rows in account.rows:
            local = rows["at"] - MONDAY + min(zones) * HOUR
            hours += np.bincount(local // HOUR % 24, minlength=24)
            days += np.bincount(local // DAY % 7, minlength=7)
    assert 0 < 5 * hours[1:5].sum() < hours[10:14].sum()
    assert days[5] + days[6] < days[1]


def test_an_agent_works_round_the_clock() -> None:
    for account in sent_by("agent", 3, 4):
        hours = np.concatenate([rows["at"] // HOUR % 24 for rows in account.rows])
        assert np.bincount(hours, minlength=24).min() > 0


def test_a_rhythm_follows_the_local_clock() -> None:
    # A thousand requests on one day from 12:00 UTC; in Tokyo (UTC+9) it is then 21:00.
    only_at_eight = np.zeros(24)
    only_at_eight[8] = 1.0
    at = rhythm.instants(dice_for(1), MONDAY + 12 * HOUR, np.array([1_000]), 9, only_at_eight)
    assert set((at // HOUR + 9) % 24) == {8}
    assert rhythm.day_weights(MONDAY, 7, 0, np.arange(7.0)).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert rhythm.day_weights(MONDAY, 2, -5, np.arange(7.0)).tolist() == [6, 0]


def test_sizes_of_honest_accounts_have_a_heavy_tail() -> None:
    stream = simulate(9, days=1, accounts=200, scenarios=[])
    sizes = sorted(Counter(request.account for request in stream).values(), reverse=True)
    assert sizes[0] > 50 * sizes[len(sizes) // 2]
    assert sum(sizes[:15]) > 0.4 * sum(sizes)


def test_some_gateways_leave_fields_out_for_honest_and_attacking_accounts_alike() -> None:
    stream = simulate(10, days=0.1, accounts=100)
    lacking = Counter(a.label.label == "attack" for a in stream.accounts if a.lacks)
    assert lacking[True] > 0
    assert lacking[False] > 0
    without = {account.label.account for account in stream.accounts if "sketch" in account.lacks}
    for request in stream:
        assert (request.sketch is None) == (request.account in without)


def test_a_batch_job_writes_far_more_than_it_reads() -> None:
    accounts = [account for account in sent_by("batch", 20, 7) if account.settings[0].model != REASONS]
    rows = np.concatenate([chunk for account in accounts for chunk in account.rows])
    assert 45 < np.median(rows["input"]) < 60
    assert 1_300 < np.median(rows["output"]) < 1_800


def test_only_a_slice_of_a_stream_is_in_memory() -> None:
    sizes = [len(batch) for batch in simulate(12, days=1, accounts=4, scenarios=["reasoning"]).batches()]
    assert sum(sizes) > 2 * SLICE
    assert max(sizes) <= SLICE
    for kind in ("chat", "coding", "support", "agent"):
        for account in sent_by(kind, 3, 120):
            assert max(len(rows) for rows in account.rows) < 4_000


def test_ten_years_begin_at_once() -> None:
    assert len(list(islice(simulate(12, days=3_650, accounts=3), 100))) == 100


def test_rows_that_spill_over_wait_for_their_turn() -> None:
    def chunk(*at: int) -> Rows:
        rows = empty(len(at))
        rows["at"] = at
        return rows

    chunks = iter([(10, chunk(3, 12, 1)), (20, chunk(11, 25)), (30, chunk(24, 29, 40))])
    found = list(in_order(chunks, 2, 28))
    assert [rows["at"].tolist() for rows in found] == [[3], [11, 12], [24, 25]]
    assert [rows["number"].tolist() for rows in found] == [[0], [1, 2], [3, 4]]


def test_a_variation_keeps_the_template_and_changes_the_rest() -> None:
    prompts = Prompts(1)
    texts = ["Grade this answer from 1 to 10 and say why. " * 8 + grammar.grow("graded", Random(i)) for i in range(50)]
    pool = prompts.add("graded", texts)
    row = np.full(3, pool.start, np.int32)
    once, again, other = prompts.sketches(row, np.array([0, 7, 8], np.uint64), [None] * 3)
    assert once is not None
    assert again is not None
    assert other is not None
    assert once.prefix == again.prefix == other.prefix  # The first 256 characters are the template.
    assert len({again.bands, other.bands, once.bands}) == 3
    assert set(again.bands or ()) & set(other.bands or ())
    assert once.cues == again.cues == other.cues
    near = (
        np.frombuffer(once.topic or b"", np.int8).astype(float),
        np.frombuffer(again.topic or b"", np.int8).astype(float),
    )
    assert near[0] @ near[1] > 0.95 * 127**2


def test_two_prompts_of_one_variation_number_have_nothing_in_common() -> None:
    prompts = Prompts(1)
    pool = prompts.pool("cooking", 40, lambda luck: grammar.grow("cooking", luck))
    rows = np.arange(pool.start, pool.stop, dtype=np.int32)
    found = prompts.sketches(rows, np.ones(40, np.uint64), [None] * 40)
    assert len({sketch.prefix for sketch in found if sketch}) == 40


def test_every_rule_of_the_grammar_grows() -> None:
    for rule in grammar.RULES:
        for i in range(30):
            assert "{#}" not in grammar.grow(rule, Random(i))


def test_a_subject_gives_nearly_unlimited_texts() -> None:
    for subject in grammar.SUBJECTS:
        assert len({grammar.passage(subject, Random(i)) for i in range(500)}) > 400


def test_a_file_and_its_labels(tmp_path: Path) -> None:
    expected = list(simulate(13, days=0.1, accounts=20, scenarios=["sweep"]))
    told: list[int] = []
    for name, opened in (
        ("x.jsonl", lambda path: path.read_bytes()),
        ("x.jsonl.gz", lambda path: gzip.decompress(path.read_bytes())),
        ("x.jsonl.zst", lambda path: zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()),
    ):
        stream = simulate(13, days=0.1, accounts=20, scenarios=["sweep"])
        told.clear()
        written = write(stream, tmp_path / name, progress=told.append)
        content = opened(tmp_path / name)
        requests = [decode(line) for line in content.splitlines()]
        assert requests == expected
        assert (written.requests, written.plain) == (len(requests), len(content)) == (sum(told), written.plain)
        assert (written.first_at, written.last_at) == (requests[0].at, requests[-1].at)
        assert written.labels == tmp_path / "x.labels.jsonl"
        decoder = msgspec.json.Decoder(Label)
        assert [decoder.decode(line) for line in written.labels.read_bytes().splitlines()] == stream.labels


def test_label_files_lie_beside_their_output() -> None:
    assert labels_path(Path("a/b.jsonl.zst")) == Path("a/b.labels.jsonl")
    assert labels_path(Path("b")) == Path("b.labels.jsonl")


def test_live_traffic_is_a_day_that_ends_now_with_an_attack_when_told() -> None:
    stream = live(1, seconds=120, rate=600, attack_after=30, now=T0)
    attackers = {label.account for label in stream.labels if label.label == "attack"}
    assert len(stream.labels) - len(attackers) > 60
    due = list(compressed(stream, 120))
    assert 0.5 * 120 * 600 < len(due) < 2 * 120 * 600
    assert all(earlier.seconds <= later.seconds for earlier, later in pairwise(due))
    assert 0 <= due[0].seconds < due[-1].seconds < 120
    assert all(T0 - DAY <= decode(each.message).at < T0 for each in due)
    assert 30 <= min(each.seconds for each in due if each.account in attackers) < 30.1


@pytest.mark.parametrize("pace", [steady, compressed])
def test_a_pace_must_be_positive(pace: object) -> None:
    with pytest.raises(ValueError, match="cannot send"):
        pace(simulate(days=0.1, accounts=1), 0.0)  # type: ignore[operator]


class Outbox:
    """A producer whose deliveries are settled at `flush`; `fails` names the message that is lost."""

    def __init__(self, clock: "Clock", fails: bytes = b"") -> None:
        self.clock, self.fails = clock, fails
        self.sent: list[tuple[float, str, bytes, bytes]] = []
        self.deliveries: list[tuple[bytes, asyncio.Future[object]]] = []

    async def send(self, topic: str, /, *, value: bytes, key: bytes) -> asyncio.Future[object]:
        self.sent.append((self.clock.now, topic, key, value))
        delivery: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.deliveries.append((value, delivery))
        return delivery

    async def flush(self) -> None:
        for value, delivery in self.deliveries:
            if value == self.fails:
                delivery.set_exception(OSError("lost"))
            else:
                delivery.set_result(None)


class Clock:
    """Seconds that pass only while somebody sleeps."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_requests_are_sent_when_due_and_keyed_by_account() -> None:
    clock = Clock()
    outbox = Outbox(clock)
    traffic = [Due(0.0, "ada", b"1"), Due(0.01, "bob", b"2"), Due(2.0, "ada", b"3")]
    assert await produce(traffic, outbox, "requests", clock=clock, sleep=clock.sleep) == 3
    assert outbox.sent == [
        (100.0, "requests", b"ada", b"1"),
        (100.0, "requests", b"bob", b"2"),
        (102.0, "requests", b"ada", b"3"),
    ]


async def test_a_lost_delivery_is_not_passed_over() -> None:
    clock = Clock()
    with pytest.raises(OSError, match="lost"):
        await produce([Due(0.0, "ada", b"1")], Outbox(clock, fails=b"1"), "requests", clock=clock, sleep=clock.sleep)


def test_a_steady_rate_spaces_requests_evenly() -> None:
    due = list(islice(steady(simulate(days=0.5, accounts=20), 50.0), 3))
    assert [each.seconds for each in due] == [0.0, 0.02, 0.04]
