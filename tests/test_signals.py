"""Signals: evidence rises with what is seen, stops at its cap, and is silent about what is absent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import score as scoring
from models.signals import SIGNALS, WORDS, evidence, full_swing, log_ramp, ramp
from streams.features import LIMITS, features
from streams.profiles import blank

BLANK = features(blank(1))


COUNTS = ("requests_minute", "requests_hour", "requests_day", "requests_week", "requests_total")


def profile(**known: float) -> dict[str, np.ndarray]:
    """The features of one account of which only these are known."""
    absent = dict.fromkeys(BLANK, np.nan) | dict.fromkeys(COUNTS, 0.0)
    return {name: np.array([value]) for name, value in (absent | known).items()}


HARVESTER = dict(
    requests_minute=60, requests_hour=3_000, requests_day=15_000, requests_week=16_000, requests_total=16_000,
    output_per_input=20, output_length=4_000, capped_share=0.6, reasoning_share=0.9, waking_share=1, steadiness=0.1,
    settings=1, addresses=400, networks=40, clients=2, prompts=4_000, fresh_share=1, single_turn_share=1,
    topic_spread=0.95, similar_share=0, template_share=0, text_repeats=4,
    refused_share=0.1, pivot=0.5, appeared_days=1, reasoning_cue_share=1, inline_tags_cue_share=0,
    rationale_cue_share=0, grading_cue_share=0, age_days=2, logprobs_share=0, many_choices_share=0,
)  # fmt: skip


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_sees_a_harvester_or_can_and_stops_at_its_cap(name: str) -> None:
    loud = profile(**{**HARVESTER, "similar_share": 1.0, "inline_tags_cue_share": 1.0, "logprobs_share": 1.0})
    weight = evidence(loud, 1).weights[0, list(SIGNALS).index(name)]
    assert 0.5 < weight <= SIGNALS[name].cap


def test_nothing_known_is_no_evidence() -> None:
    found = evidence(profile(), 1)
    assert not found.weights.any()
    assert (found.terms == -1).all()


@pytest.mark.parametrize("absent", [name for name in HARVESTER if not name.startswith("requests")])
def test_what_is_absent_never_adds_evidence(absent: str) -> None:
    whole = evidence(profile(**HARVESTER), 1).weights
    without = evidence(profile(**{name: value for name, value in HARVESTER.items() if name != absent}), 1).weights
    assert (without <= whole).all()


@pytest.mark.parametrize("name", SIGNALS)
def test_every_term_has_words_and_limits(name: str) -> None:
    for term in SIGNALS[name].terms(profile()):
        assert "{observed" in WORDS[term]
        assert term in LIMITS


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_says_what_misleads_it(name: str) -> None:
    assert "Misleads:" in (SIGNALS[name].terms.__doc__ or "")


def test_no_two_kinds_alone_reach_a_throttle() -> None:
    by_kind: dict[str, float] = {"model": scoring.ANOMALY_CAP}
    for signal in SIGNALS.values():
        by_kind[signal.kind] = by_kind.get(signal.kind, 0) + signal.cap
    two_largest = sorted(by_kind.values())[-2:]
    log_odds_of_a_throttle = np.log(0.9 / 0.1)
    assert scoring.PRIOR + sum(two_largest) < log_odds_of_a_throttle


def test_a_launch_of_short_answers_is_less_new_than_a_harvest() -> None:
    launch = profile(requests_day=8_000, requests_hour=800, age_days=1, output_length=200, logprobs_share=0)
    harvest = profile(requests_day=8_000, requests_hour=800, age_days=1, output_length=900, logprobs_share=0)
    newness = list(SIGNALS).index("newness")
    assert evidence(launch, 1).weights[0, newness] == pytest.approx(0.3 * 1.6)
    assert evidence(harvest, 1).weights[0, newness] == pytest.approx(1.6)


def test_probabilities_of_one_token_are_no_harvest() -> None:
    asked = {"requests_week": 3_000, "logprobs_share": 1}
    harvest = list(SIGNALS).index("harvest")
    assert evidence(profile(**asked, output_length=3), 1).weights[0, harvest] == 0
    assert evidence(profile(**asked, output_length=60), 1).weights[0, harvest] > 1.9


@pytest.mark.parametrize(("refused", "found"), [(0.03, 0.0), (0.2, 1.2), (0.6, 0.0)])
def test_refusals_count_when_volume_follows_them(refused: float, found: float) -> None:
    # 3 % is everyday, 60 % is a red team; 17 % of 5,000 beyond the everyday are 850.
    seen = evidence(profile(requests_week=5_000, requests_day=3_000, refused_share=refused), 1)
    assert seen.weights[0, list(SIGNALS).index("search")] == pytest.approx(found)


@pytest.mark.parametrize("absent", ["single_turn_share", "busy_hours", "output_length"])
def test_full_swing_needs_hours_single_turns_and_answers_worth_collecting(absent: str) -> None:
    known = {"single_turn_share": 1.0, "busy_hours": 8.0, "output_length": 600.0}
    assert full_swing(profile(**known)) == 1
    assert full_swing(profile(**known, logprobs_share=0) | {absent: np.array([0.0])}) == 0


@pytest.mark.parametrize(("day", "expected"), [(4_500, 0.0), (6_000, 0.5), (8_000, 1.0)])
def test_thousands_in_one_go_are_full_swing_in_whatever_few_hours(day: float, expected: float) -> None:
    # 6,000 is the geometric mean of 4,500 and 8,000. A tool that asks 128 a minute has sent so many within an hour.
    known = {"single_turn_share": 1.0, "busy_hours": 1.0, "output_length": 600.0}
    assert full_swing(profile(**known, requests_day=day))[0] == pytest.approx(expected)
    assert full_swing(profile(**known | {"output_length": 150.0}, requests_day=day))[0] == 0


def test_probabilities_of_more_than_a_label_are_worth_collecting_whatever_is_known_of_turns() -> None:
    known = {"single_turn_share": 0.0, "busy_hours": 8.0, "logprobs_share": 1.0}
    assert [full_swing(profile(**known, output_length=length))[0] for length in (3.0, 40.0)] == pytest.approx([0, 1])


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (10, 0), (15, 0.5), (20, 1), (99, 1), (np.nan, 0)])
def test_a_ramp_rises_between_its_ends(value: float, expected: float) -> None:
    assert ramp(np.array([value]), 10, 20)[0] == expected


def test_a_ramp_may_fall_and_a_log_ramp_halves_at_the_geometric_mean() -> None:
    assert ramp(np.array([0.3, 0.6, 0.9]), 0.9, 0.3) == pytest.approx([1, 0.5, 0])
    assert log_ramp(np.array([10.0, 100.0, 1_000.0]), 10, 1_000) == pytest.approx([0, 0.5, 1])


def weights(**known: float) -> np.ndarray:
    return np.array([[known.get(name, 0.0) for name in scoring.NAMES]])


def test_without_evidence_the_score_is_the_prior() -> None:
    assert scoring.score(weights())[0] == pytest.approx(1 / (1 + np.exp(6)))


def test_evidence_adds_up_in_log_odds() -> None:
    assert scoring.score(weights(volume=2, cues=4))[0] == pytest.approx(0.5)


def test_kinds_count_what_is_independent() -> None:
    # breadth, templates and cues are all content; churn is too weak to count.
    assert scoring.kinds(weights(breadth=1, templates=0.6, cues=2, churn=0.4))[0] == 1
    assert scoring.kinds(weights(breadth=1, volume=0.5, anomaly=2))[0] == 3


def test_held_evidence_fades_to_a_third_in_six_hours() -> None:
    six_hours = np.array([6 * 3_600_000])
    held = scoring.hold(weights(volume=0.1), weights(volume=1, cues=2), six_hours)
    assert held == pytest.approx(weights(volume=1 / np.e, cues=2 / np.e))


@given(st.floats(1e-9, 1), st.floats(1e-9, 1))
def test_rarer_is_stranger_within_the_cap(p: float, q: float) -> None:
    less, more = scoring.anomaly(np.array([max(p, q), min(p, q)]))
    assert 0 <= less <= more <= scoring.ANOMALY_CAP
