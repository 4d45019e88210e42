"""Composed streams: what was recorded is kept, and what was not is said in the label."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gateway.request import Request, decode, encode
from gateway.sketch import sketch
from streams.simulate.accounts import dice_for
from streams.simulate.recordings import Recording, arrivals, recordings, tokens
from streams.simulate.stream import MONDAY
from streams.simulate.traces import recorded

DAY = 86_400_000
WINDOW = 600_000
QUANTILES = ("p5", "p25", "p50", "p75", "p95", "p99")


def table(path: Path, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()))


def texts(path: Path, prompts: Iterable[str], **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(json.dumps({"prompt": prompt, **more}) for prompt in prompts)
    path.write_bytes(gzip.compress(lines.encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clients: `busy` sends a request a second for the first hour, `small` ten in ten minutes of day 9."""
    traces, prompts = tmp_path / "traces", tmp_path / "prompts"
    clients = [("m-large", "busy", 3_600), ("m-small", "small", 10)]
    table(traces / "servegen_clients.csv.gz", "model,client,est_requests", clients)
    windows = [("m-large", "busy", 600 * i, 1.0, "Gamma", 4.0, 0.25) for i in range(6)]
    windows += [("m-small", "small", 9 * 86_400, 10 / 600, "Weibull", 0.8, 50)]
    table(traces / "servegen_client_windows.csv.gz", "model,client,t_s,rate_rps,arrival_pat,p1,p2", windows)
    names = [f"{side}_{level}" for side in ("in", "out") for level in QUANTILES]
    counts = [("m-large", "busy", 0, 10, 20, 30, 40, 50, 60, 100, 200, 300, 400, 500, 600)]
    table(traces / "servegen_client_tokens_6h.csv.gz", ",".join(["model,client,t_s", *names]), counts)
    table(traces / "azure2023_conv.csv.gz", "t_s,in_tok,out_tok", [(0, 7, 8), (1, 7, 8)])
    texts(prompts / "benign" / "talk.jsonl.gz", [f"What is the story of number {i}?" for i in range(20)])
    texts(prompts / "lookalike" / "exam.jsonl.gz", [f"Question: {i}\nAnswer:" for i in range(5)])
    texts(prompts / "extraction" / "bare.jsonl.gz", [f"How much is {i}?" for i in range(30)], ref_output_chars=400)
    return tmp_path


def by_source(folder: Path, keep: int = 25, again: int = 100, days: float = 14) -> dict[str, list[Request]]:
    """Requests by the recorded client, the lookalike's runs or the scenario in the label."""
    stream = recorded(folder, 1, keep=keep, again=again, days=days)
    story = {label.account: label.scenario or label.source for label in stream.labels}
    found = defaultdict(list)
    for request in stream:
        found[story[request.account].split(",")[0]].append(request)
    return found


def test_it_is_a_stream_like_any_other(folder: Path) -> None:
    stream, again = recorded(folder, 1), recorded(folder, 1)
    requests = list(stream)
    assert requests == list(again)
    assert all(earlier.at <= later.at for earlier, later in pairwise(requests))
    assert all(decode(encode(request)) == request for request in requests)
    assert {request.account for request in requests} <= {label.account for label in stream.labels}


def test_labels_tell_what_was_recorded(folder: Path) -> None:
    labels = recorded(folder, 1, keep=36, again=2).labels
    assert [label.label for label in labels] == ["honest"] * 4 + ["lookalike"] * 3 + ["attack"]
    assert labels[0].source == "m-large busy, thinned to 0.1; prompts talk; tokens recorded"
    assert labels[3].source == "m-small small, thinned to 1, weeks exchanged; prompts talk; tokens azure2023_conv"
    assert labels[7].scenario == "bare"


def test_a_client_sends_when_it_was_recorded_to_send(folder: Path) -> None:
    found = by_source(folder, keep=10_000, again=0)
    busy = found["m-large busy"]
    assert len(busy) == pytest.approx(3_600, rel=0.05)
    assert all(0 <= request.at - MONDAY < 3_600_000 for request in busy)
    small = found["m-small small"]
    assert 1 <= len(small) <= 40
    assert all(9 * DAY <= request.at - MONDAY < 9 * DAY + WINDOW for request in small)


def test_thinning_keeps_the_root(folder: Path) -> None:
    # Of 3,600 requests sqrt(3,600 x 36) = 360 are kept.
    assert len(by_source(folder, keep=36, again=0)["m-large busy"]) == pytest.approx(360, rel=0.15)


def test_a_second_time_the_weeks_are_exchanged(folder: Path) -> None:
    stream = recorded(folder, 1, keep=10_000, again=2)
    second = {label.account for label in stream.labels if "weeks exchanged" in label.source}
    days = {(request.at - MONDAY) // DAY for request in stream if request.account in second}
    assert days == {7, 2}


def test_longer_than_recorded_it_starts_over(folder: Path) -> None:
    found = by_source(folder, keep=10_000, again=0, days=28)
    assert {(request.at - MONDAY) // DAY for request in found["m-large busy"]} == {0, 14}


def test_tokens_lie_between_the_recorded_quantiles(folder: Path) -> None:
    client = recordings(folder / "traces")[0]
    read, written = tokens(
        dice_for(1), client, (np.zeros(0, int), np.zeros(0, int)), np.zeros(4_000, int), shifted=False
    )
    assert (read.min(), read.max()) == (10, 60)
    assert np.median(read) == pytest.approx(30, abs=1)
    assert np.percentile(written, 75) == pytest.approx(400, abs=15)


def test_a_client_without_token_counts_borrows_pairs(folder: Path) -> None:
    assert {request.input_tokens for request in by_source(folder)["m-small small"]} == {7}


@pytest.mark.parametrize(("shape", "weibull", "cv"), [(0.25, False, 2.0), (4.0, False, 0.5), (1.0, True, 1.0)])
def test_gaps_have_the_recorded_rate_and_shape(shape: float, weibull: bool, cv: float) -> None:
    # Two requests a second all day: a Gamma of shape k has a CV of 1 / sqrt(k), a Weibull of shape 1 of 1.
    windows = 144
    client = Recording(
        name="even",
        requests=172_800,
        at=np.arange(windows) * WINDOW,
        rate=np.full(windows, 2.0),
        shape=np.full(windows, shape),
        weibull=np.full(windows, weibull),
        tokens_at=np.zeros(0, int),
        tokens_in=np.zeros((0, 6)),
        tokens_out=np.zeros((0, 6)),
    )
    settled_at, at = next(arrivals(dice_for(2), client, 1.0, shifted=False))
    assert settled_at == DAY
    assert len(at) == pytest.approx(172_800, rel=0.03)
    gaps = np.diff(at)
    assert gaps.min() >= 0
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(cv, rel=0.05)


def test_a_text_is_sent_word_for_word_once_and_then_varied(folder: Path) -> None:
    busy = by_source(folder, keep=10_000, again=0)["m-large busy"]
    known = {sketch(f"What is the story of number {i}?").prefix for i in range(20)}
    often = Counter(request.sketch.prefix for request in busy if request.sketch)
    assert {often[prefix] for prefix in known} == {1}
    assert len(often) == len(busy)


def test_an_evaluation_is_word_for_word_the_same_in_every_run(folder: Path) -> None:
    found = by_source(folder)["prompts exam"]
    runs = Counter(request.account for request in found)
    assert sorted(runs.values()) == [5, 20, 70]
    assert len({request.sketch.prefix for request in found if request.sketch}) == 5


def test_an_extraction_set_is_sent_in_file_order_by_a_new_account_that_then_is_silent(folder: Path) -> None:
    found = by_source(folder)["bare"]
    asked = [request.sketch.prefix for request in found if request.sketch]
    assert asked == [sketch(f"How much is {i}?").prefix for i in range(30)]
    assert all(r.opened_at is not None and r.at - r.opened_at < 3 * DAY for r in found)


def test_simulated_campaigns_can_join(folder: Path) -> None:
    stream = recorded(folder, 1, scenarios=["sweep"], days=1)
    assert Counter(label.scenario for label in stream.labels)["sweep"] == 12


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    texts(folder / "prompts" / "benign" / "none.jsonl.gz", [])
    with pytest.raises(ValueError, match=r"none\.jsonl\.gz: no prompts"):
        recorded(folder)
    table(folder / "traces" / "azure2023_conv.csv.gz", "t_s,in_tok", [(0, 7)])
    with pytest.raises(ValueError, match=r"azure2023_conv\.csv\.gz: no column 'out_tok'"):
        recorded(folder)
    with pytest.raises(FileNotFoundError):
        recorded(folder / "elsewhere")
