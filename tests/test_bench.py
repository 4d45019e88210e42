"""The bench at a tiny size: its figures mean nothing here, but it runs to its end."""

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import streams.pipeline
from gateway.request import decode
from tests.bench.campaigns import costs
from tests.bench.failures import Case, frozen, play
from tests.bench.full_size import measured
from tests.bench.gate import bodies
from tests.bench.multitude import Multitude, Size
from tests.bench.stages import NEWEST_AT, STAGES, records_of, stages
from tests.bench.traffic import DAY_MS, Traffic

ROOT = Path(__file__).parents[1]


def test_every_contestant_reads_everything(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    names = ("consumer", "stillwatch", "signals", "replay")
    command = [sys.executable, "-m", "tests.bench", "--embedded", "--partitions", "2", "--records", "3000"]
    command += ["--seconds", "0", "--profiles", "1000", "--json", str(out)]
    command += [word for name in names for word in ("--only", name)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(out.read_text())
    assert [row["records"] for row in found["rows"]] == [3000] * len(names)
    consumer, *others = found["rows"]
    for row in others:
        assert row["ratio_to_consumer"] == pytest.approx(row["requests_per_s"] / consumer["requests_per_s"])
    assert found["shelves"][0]["profiles"] == 1000
    assert "embedded" in found["machine"]["broker"]


def test_the_stages_of_the_pipeline_add_up() -> None:
    original = vars(streams.pipeline)["read"]
    taken = records_of(Traffic(2_000, NEWEST_AT))
    *parts, whole, bare = stages(taken[:1_000], taken[1_000:], chunk=500)
    assert tuple(part.name for part in parts) == STAGES
    assert sum(part.us for part in parts) == pytest.approx(whole.us)
    assert 0 < bare.us < whole.us
    assert vars(streams.pipeline)["read"] is original


def test_the_traffic_is_a_crowd_with_a_few_attackers_in_it() -> None:
    sent = list(Traffic(5_000, NEWEST_AT, accounts=100))
    assert len({request.id for request in sent}) == 5_000
    assert sent[-1].at == NEWEST_AT
    assert all(earlier.at < later.at for earlier, later in pairwise(sent))
    attackers = [request for request in sent if request.account >= "acct-0000100"]
    assert len(attackers) == pytest.approx(100, abs=50)  # 2 %
    assert all(request.opened_at == NEWEST_AT - DAY_MS for request in attackers)


@pytest.mark.parametrize(
    ("case", "waiting"),
    [(Case("Kafka hangs", frozen), True), (Case("the detector is gone, the verdict ends", lasts_ms=4_000), False)],
    ids=["hangs", "gone"],
)
async def test_replies_flow_whatever_fails_and_no_verdict_outlives_it(case: Case, waiting: bool) -> None:
    """500 replies over 5 seconds; whoever was suspended is let pass once nobody stands by the verdict any more."""
    row = await play(case, 100, 5.0, bodies(random.Random(1)))
    assert (row.replies, row.eve) == (500, (403, 200))
    assert (row.counts["faults"], row.counts["dropped"], row.counts["refused"]) == (0, 0, 1)
    assert (row.counts["waiting"] > 100) == waiting


def test_a_multitude_in_small_is_read_by_the_detector_to_its_end() -> None:
    size = Size(honest=60, attackers=30, exchanges=12, days=0.8, calm=0.3)
    lines = b"".join(Multitude.of(size).blocks()).splitlines()
    sent = [decode(line) for line in lines]
    assert all(earlier.at <= later.at for earlier, later in pairwise(sent))
    assert len({one.id for one in sent}) == len(sent)
    found = measured(size)
    assert found.requests == len(sent)
    attack = [group for group in found.groups if group.group in ("small", "middle", "large")]
    # Three labs with three, five and 24 accounts, each of which got its twelve answers.
    assert [group.accounts for group in attack] == [3, 5, 24]
    assert [group.requests for group in attack] == [36, 60, 288]
    assert sum(group.requests for group in found.groups) == len(sent)
    whole = Multitude.of(size)
    kind = {account.label.account: name for account, name in zip(whole.accounts, whole.group, strict=True)}
    days = {(one.account, one.at // DAY_MS) for one in sent if kind[one.account] not in whole.lists}
    assert sum(group.account_days for group in found.groups) == len(days)


def test_what_campaigns_cost_is_measured_where_there_is_something_to_tell() -> None:
    first, second = costs(records=6_000, accounts=500, chunk=1_000, quarters=2)
    assert first.links > second.links > 0  # most was told before
    assert second.accounts >= first.accounts > 400
    assert second.traits >= first.traits > first.accounts
    assert min(first.watching, first.linking, first.hearing) > 0
    assert first.linking < first.watching
