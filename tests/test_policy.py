"""What a score earns, and what a policy file may not say."""

import re
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.verdict import Verdict
from sinks.policy import PACKAGED, Decision, Policy, PolicyError, Ruling

POLICY = Policy.load()
TEXT = PACKAGED.read_text("utf-8")
LADDER = [rung.action for rung in POLICY.rungs]
WATCH, THROTTLE, VERIFY, DEGRADE, SUSPEND = range(1, 6)


def rung(score, requests=10_000, kinds=5, share=0.0, now=0, exempt=False, policy=POLICY, haste=0.0):
    """The rung of one subject."""
    return int(
        policy.rungs_for(
            np.array([score]),
            np.array([requests]),
            np.array([kinds]),
            np.array([share]),
            np.array([now], np.int8),
            np.array([exempt]),
            haste=np.array([haste]),
        )[0]
    )


def changed(old: str, new: str) -> Policy:
    assert old in TEXT
    return Policy.parse(TEXT.replace(old, new, 1), "policy.toml")


# --- the ladder ---


def test_the_packaged_ladder_is_mildest_first_and_suspends_nobody():
    assert LADDER == ["watch", "throttle", "verify", "degrade", "suspend"]
    assert rung(1.0) == DEGRADE


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.0, 0),
        (0.49, 0),
        (0.5, WATCH),
        (0.84, WATCH),
        (0.85, THROTTLE),
        (0.93, VERIFY),
        (0.99, DEGRADE),
        (1.0, DEGRADE),
    ],
)
def test_a_rung_is_entered_at_its_score(score, expected):
    assert rung(score) == expected


def test_a_rung_waits_for_its_floor_of_requests():
    assert [rung(0.95, requests=n) for n in (0, 199, 200, 201)] == [WATCH, WATCH, THROTTLE, THROTTLE]


def test_a_share_of_the_budget_is_the_other_way_to_meet_the_floor():
    assert [rung(0.95, requests=1, share=share) for share in (0.0, 0.019, 0.02)] == [WATCH, WATCH, THROTTLE]


def test_one_or_two_kinds_of_evidence_are_never_more_than_watched():
    assert [rung(0.9999, kinds=kinds) for kinds in (0, 1, 2, 3)] == [0, WATCH, WATCH, DEGRADE]


def test_a_subject_stays_until_its_score_falls_below_leave():
    assert [rung(score, now=THROTTLE) for score in (0.92, 0.84, 0.65)] == [THROTTLE] * 3
    assert rung(0.64, now=THROTTLE) == WATCH


def test_a_falling_subject_lands_on_the_highest_rung_it_still_holds():
    # Below leave of verify (0.8) but not of throttle (0.65), which a newcomer would enter only at 0.85.
    assert rung(0.79, now=VERIFY) == THROTTLE
    assert rung(0.79, now=0) == WATCH


def test_in_haste_less_evidence_reaches_a_throttle_and_a_question_but_no_more():
    # 0.85 is odds of 17 to 3; 4 log-odds less are 0.1038 to 1, a probability of 0.0940.
    assert [rung(score, haste=1.0) for score in (0.09, 0.10)] == [0, THROTTLE]
    assert [rung(score, haste=0.5) for score in (0.43, 0.44)] == [0, THROTTLE]
    assert [rung(score, haste=1.0) for score in (0.19, 0.20, 0.98, 0.99)] == [THROTTLE, VERIFY, VERIFY, DEGRADE]
    assert rung(0.9, haste=1.0, kinds=2) == WATCH
    assert rung(0.9, haste=1.0, exempt=True) == WATCH


def test_haste_rises_with_the_share_of_the_budget_that_a_day_takes():
    share = np.array([0.0, 0.08, np.sqrt(0.08 * 0.14), 0.14, 9.0, np.nan])
    assert POLICY.haste(share, np.ones(6)) == pytest.approx([0, 0, 0.5, 1, 1, 0])
    assert POLICY.haste(np.full(3, 0.14), np.array([0.3, 0.0, np.nan])) == pytest.approx([0.3, 0, 0])


def test_a_score_that_is_no_number_earns_nothing():
    assert rung(float("nan"), now=DEGRADE) == 0


def test_an_exempt_subject_is_watched_and_no_more():
    assert rung(1.0, exempt=True) == WATCH
    assert rung(1.0, exempt=True, now=DEGRADE) == WATCH


def test_a_rung_switched_off_lets_go_of_those_on_it():
    assert rung(1.0, now=SUSPEND) == DEGRADE


def test_an_exemption_ends_at_its_instant():
    policy = Policy.parse(
        TEXT + '\n[[exempt]]\nscope = "account"\nvalue = "acme"\nuntil = 2027-01-01T00:00:00Z\n',
        "policy.toml",
    )
    end = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert policy.exempts("account", "acme", end - 1)
    assert not policy.exempts("account", "acme", end)
    assert not policy.exempts("org", "acme", end - 1)


subjects = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 6_000),
        st.integers(0, 6),
        st.floats(0, 1.5),
        st.integers(0, 5),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


def columns(rows):
    score, requests, kinds, share, now, exempt = map(np.array, zip(*rows, strict=True))
    return score, requests, kinds, share, now.astype(np.int8), exempt


@given(subjects)
def test_a_batch_is_decided_as_its_rows_are(rows):
    batch = POLICY.rungs_for(*columns(rows))
    assert batch.dtype == np.int8
    assert batch.tolist() == [rung(*row) for row in rows]


@given(subjects)
def test_at_a_constant_score_the_first_step_is_the_last(rows):
    score, requests, kinds, share, now, exempt = columns(rows)
    once = POLICY.rungs_for(score, requests, kinds, share, now, exempt)
    twice = POLICY.rungs_for(score, requests, kinds, share, once, exempt)
    assert once.tolist() == twice.tolist()


@given(subjects, st.floats(0, 1), st.integers(0, 1_000), st.integers(0, 3), st.floats(0, 1))
def test_more_of_anything_never_means_a_milder_rung(rows, score_up, requests_up, kinds_up, share_up):
    score, requests, kinds, share, now, exempt = columns(rows)
    before = POLICY.rungs_for(score, requests, kinds, share, now, exempt)
    higher = np.minimum(score + score_up, 1.0)
    after = POLICY.rungs_for(higher, requests + requests_up, kinds + kinds_up, share + share_up, now, exempt)
    assert (after >= before).all()


# --- how long ---


def seconds(rung_now: int, strikes: float, draw: float = 0.5, policy: Policy = POLICY) -> float:
    found = policy.seconds_for(np.array([rung_now], np.int8), np.array([strikes]), np.array([draw]))
    return float(found[0])


def test_each_further_time_lasts_twice_as_long_up_to_a_week():
    hours = [seconds(THROTTLE, strikes) / 3600 for strikes in (0, 1, 2, 3, 4, 5, 6, 7, 255)]
    assert hours == [6, 6, 12, 24, 48, 96, 168, 168, 168]


def test_the_jitter_stays_within_its_bounds():
    assert [seconds(THROTTLE, 1, draw) / 3600 for draw in (0, 0.5, 1)] == pytest.approx([5.4, 6, 6.6])


def test_a_rung_that_lasts_longer_than_the_longest_is_not_cut():
    policy = changed("longest_seconds = 604_800", "longest_seconds = 60")
    assert seconds(THROTTLE, 5, policy=policy) == 21_600


@given(st.integers(1, 5), st.integers(0, 255), st.floats(0, 1, exclude_max=True))
def test_a_longer_history_never_means_a_shorter_verdict(rung_now, strikes, draw):
    shorter, longer = (seconds(rung_now, n, draw) for n in (strikes, strikes + 1))
    base = POLICY.rulings[rung_now].seconds
    assert shorter <= longer
    assert 0.9 * base <= shorter <= 1.1 * max(base, POLICY.timing.longest_seconds)


@given(st.integers(0, 255), st.integers(0, 10**13))
def test_strikes_are_forgotten_one_a_month_and_never_come_back(strikes, since):
    (left,) = POLICY.strikes_left(np.array([strikes]), np.array([since])).tolist()
    assert left == max(strikes - since // (30 * 86_400_000), 0)


# --- what people said, and what was served ---


def counted(score: float, verified: bool = False, cleared: bool = False, crowd: float = 0, policy: Policy = POLICY):
    return float(policy.counted(np.array([score]), np.array([verified]), np.array([cleared]), crowd)[0])


def test_odds_are_divided_for_whom_people_spoke():
    assert counted(0.93) == 0.93
    # Odds of 13.3 become 0.66, twice divided 0.033.
    assert counted(0.93, verified=True) == pytest.approx(0.399, abs=0.001)
    assert counted(0.93, verified=True, cleared=True) == pytest.approx(0.032, abs=0.001)


def test_above_its_limit_the_crowd_counts_for_more_and_the_verified_do_not():
    policy = changed("# [exposure.crowd]\n# share = 50.0\n# odds = 2.0", "[exposure.crowd]\nshare = 50.0\nodds = 2.0")
    assert counted(0.5, crowd=49.9, policy=policy) == 0.5
    assert counted(0.5, crowd=50.0, policy=policy) == pytest.approx(2 / 3)
    assert counted(0.5, crowd=50.0, verified=True, policy=policy) == pytest.approx(1 / 21)


@given(st.floats(0, 1), st.booleans(), st.booleans(), st.floats(0, 1e9))
def test_what_counts_stays_a_probability_and_trust_never_raises_it(score, verified, cleared, crowd):
    found = counted(score, verified, cleared, crowd)
    assert 0 <= found <= 1
    assert found <= score or crowd >= 50
    assert counted(score, True, cleared, crowd) <= counted(score, False, cleared, crowd)


def budgeted(share: float, score: float, verified: bool = False, exempt: bool = False) -> int:
    columns = (np.array([value]) for value in (score, share, verified, exempt))
    return int(POLICY.budgeted(*columns)[0])


def test_who_had_a_whole_budget_and_is_likelier_an_attacker_than_not_is_asked():
    assert [budgeted(share, 0.5) for share in (0.99, 1.0, 7.0)] == [0, VERIFY, VERIFY]
    assert budgeted(1.0, 0.49) == 0
    assert budgeted(1.0, 1.0, verified=True) == budgeted(1.0, 1.0, exempt=True) == 0


# --- what a rung publishes ---


def test_each_rung_publishes_its_action():
    assert [ruling.action for ruling in POLICY.rulings] == ["allow", *LADDER]
    assert POLICY.rulings[THROTTLE] == Ruling("throttle", "enforce", 21_600, {"rpm": 20})


def test_in_shadow_mode_every_rung_is_shadow():
    shadow = changed('mode = "enforce"', 'mode = "shadow"')
    assert [ruling.mode for ruling in shadow.rulings] == ["shadow"] * 6
    assert [ruling.action for ruling in shadow.rulings] == ["allow", *LADDER]


def test_trying_out_a_harsher_rung_keeps_the_milder_one_enforced():
    trial = Policy.parse(
        re.sub('(rungs]]\naction = "(verify|degrade|suspend)")', '\\1\\nmode = "shadow"', TEXT),
        "policy.toml",
    )
    assert trial.rulings[VERIFY] == Ruling("throttle", "enforce", 21_600, {"rpm": 20, "shadow": "verify"})
    assert trial.rulings[DEGRADE].parameters["shadow"] == "degrade"


def test_a_verdict_of_allow_is_a_lifted_one():
    verdict = Verdict(
        id="v1",
        at=1,
        seq=2,
        scope="account",
        value="a",
        action="allow",
        score=0.1,
        expires_at=1,
        policy="p",
        model="m",
    )
    assert Decision(verdict).lifted
    assert not Decision(msgspec.structs.replace(verdict, action="watch")).lifted


# --- exposure ---


def test_the_share_of_the_budget_is_that_of_the_unit_furthest_along():
    # 1,700 of 17,000 requests; 25.5 of 51 million output tokens; 0 of 34 million reasoning tokens.
    share = POLICY.share_of_budget(np.array([1_700.0]), np.array([25.5e6]), np.array([0.0]))
    assert share.tolist() == [0.5]


def test_a_model_without_a_price_of_its_own_has_the_usual_one():
    policy = changed("output = 15.0", 'output = 15.0\n[prices.models."small.1"]\ninput = 0.25\noutput = 1.25')
    input_price, output_price = policy.prices.per_token(["small.1", "other"])
    assert (input_price * 1e6).tolist() == [0.25, 3.0]
    assert (output_price * 1e6).tolist() == [1.25, 15.0]


# --- what is refused ---


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seconds =", "secs =", 'unknown field "secs" in rungs[0]; did you mean "seconds"?'),
        ("version =", "versoin =", 'unknown field "versoin"; did you mean "version"?'),
        ("output = 15.0", "", '"output" is missing in prices'),
        ("haste = 4.0", "haste = 5", "rungs[1].haste: 5.0 is not between 0 and 4"),
        ("haste = 4.0", "haste = -1", "rungs[1].haste: -1.0 is not between 0 and 4"),
        ("leave = 0.9\n", "leave = 0.9\nhaste = 1.0\n", "rungs[3].haste: 1.0; what a degrade takes"),
        ("low = 0.08 ", "low = 0.2 ", "pace: low 0.2 and high 0.14 are not two rising shares above 0"),
        ("high = 0.14", "hihg = 0.14", 'unknown field "hihg" in pace; did you mean "high"?'),
        ("score = 0.93", "score = 1.4", "rungs[2].score: 1.4 is not between 0 and 1"),
        ("score = 0.93", "score = -0.1", "rungs[2].score: -0.1 is not between 0 and 1"),
        ("score = 0.93", "score = nan", "rungs[2].score: nan is not between 0 and 1"),
        ("score = 0.93", 'score = "high"', "rungs[2].score: expected float, got str"),
        ("score = 0.93", "score = 0.85", "rungs[2].score: 0.85 does not rise above 0.85 of rungs[1]"),
        ("leave = 0.8\n", "leave = 0.93\n", "rungs[2].leave: 0.93 is not below the score 0.93"),
        ("requests = 1_000", "requests = 100", "rungs[2].requests: 100 is below 200 of rungs[1]"),
        ("requests = 200", "requests = -1", "rungs[1].requests: -1 is negative"),
        ("share = 0.1\n", "share = 1.5\n", "rungs[2].share: 1.5 is not between 0 and 1"),
        ("share = 0.1\n", "share = 0.01\n", "rungs[2].share: 0.01 is below 0.02 of rungs[1]"),
        ("seconds = 86_400", "seconds = 0", "rungs[0].seconds: 0 is not between 1 and"),
        ('"verify"', '"verifi"', 'rungs[2].action: unknown action "verifi"; did you mean "verify"?'),
        ('"verify"', '"allow"', 'rungs[2].action: unknown action "allow"; one of watch, throttle'),
        ('"degrade"', '"verify"', 'rungs[3].action: "verify" is there already'),
        ('"degrade"', '"watch"', 'rungs[3].action: "watch" is there already'),
        ("rpm = 20", "rpm = 0", "rungs[1].parameters.rpm: 0.0 is not a rate above 0"),
        ("parameters = { rpm = 20 }", "", "rungs[1].parameters: a throttle states its rate"),
        ('mode = "enforce"', 'mode = "shadwo"', 'mode: unknown value "shadwo"; did you mean "shadow"?'),
        (
            '"throttle"',
            '"throttle"\nmode = "shadow"',
            'rungs[2].mode: enforced above rungs[1], which is only "shadow"',
        ),
        ("input = 3.0", "input = -3.0", "prices.input: -3.0 is not a price"),
        ("requests = 17_000 ", "requests = 0 ", "budget.requests: 0 is not above 0"),
        ('version = "2026-11-4"', 'version = ""', "version: empty"),
        ('version = "2026-11-4"', f'version = "{"x" * 65}"', "version: 65 characters; every verdict names it"),
        ("growth = 2.0", "growth = 0.5", "timing.growth: 0.5 is not between 1 and 100"),
        ("jitter = 0.1", "jitter = 0.6", "timing.jitter: 0.6 is not between 0 and 0.5"),
        ("jitter = 0.1", "jiter = 0.1", 'unknown field "jiter" in timing; did you mean "jitter"?'),
        ("forget_days = 30", "forget_days = 0", "timing.forget_days: 0.0 is not between 1"),
        ("accounts = 0.05", "accounts = 0", "brake.accounts: 0.0 is not a share above 0"),
        ("traffic = 0.25", "traffic = 25", "brake.traffic: 25.0 is not a share above 0"),
        ("least = 100", "least = 0", "brake.least: 0 is not between 1 and"),
        ("seconds = 3_600 ", "seconds = 60 ", "brake.seconds: 60 is not between 3,600 and"),
        ("share = 1.0\nscore = 0.5", "share = -1.0\nscore = 0.5", "exposure.account.share: -1.0 is not between 0"),
        (
            'score = 0.5\naction = "verify"',
            'score = 0.5\naction = "suspend"',
            'exposure.account.action: "suspend"; mere volume may be asked to verify, and nothing more',
        ),
        (
            "# [exposure.crowd]",
            "[exposure.crowd]\nshare = 5\nodds = 0.5\n",
            "exposure.crowd.odds: 0.5 is not between 1",
        ),
        ('confirmed = "degrade"', 'confirmed = "degrad"', 'feedback.confirmed: unknown action "degrad"; did you mean'),
        ("appeal_days = 3", "appeal_days = -3", "feedback.appeal_days: -3.0 is not between 0 and 366"),
        ("days = 365, odds = 20", "days = 365, odds = 0.5", "feedback.verified.odds: 0.5 does not divide"),
        ("days = 30, odds = 20", "days = 0, odds = 20", "feedback.cleared.days: 0.0 is not between 0"),
        (
            "days = 30, odds = 20",
            "days = 30, ods = 20",
            'unknown field "ods" in feedback.cleared; did you mean "odds"?',
        ),
        ("[budget]", "[budget", "not TOML: "),
        (
            "output = 15.0",
            'output = 15.0\n[prices.models."a.b"]\ninput = 1\noutput = -2',
            'prices.models."a.b".output',
        ),
        (
            "output = 15.0",
            'output = 15.0\n[prices.models."a.b"]\ninput = 1\noutpu = 2',
            'in prices.models."a.b"; did you',
        ),
        (
            "# [[exempt]]",
            '[[exempt]]\nscope = "acount"\nvalue = "a"',
            'exempt[0].scope: unknown value "acount"; did you',
        ),
        ("# [[exempt]]", '[[exempt]]\nscope = "org"\nvalue = ""', "exempt[0].value: empty"),
        (
            "# [[exempt]]",
            '[[exempt]]\nscope = "org"\nvalue = "a"\nuntil = 2027-01-01T00:00:00',
            "exempt[0].until: 2027-01-01 00:00:00 has no time zone",
        ),
    ],
)
def test_what_is_unknown_or_impossible_is_refused_with_its_place(old, new, complaint):
    with pytest.raises(PolicyError) as refused:
        changed(old, new)
    message = str(refused.value)
    assert message.startswith("policy.toml: ")
    assert complaint in message


def test_suspension_needs_two_kinds_of_evidence():
    with pytest.raises(PolicyError, match="suspension needs at least 2 independent kinds"):
        Policy.parse(
            """
            version = "v"
            budget = { requests = 1, output_tokens = 1, reasoning_tokens = 1 }
            prices = { input = 1.0, output = 1.0 }
            [[rungs]]
            action = "suspend"
            score = 0.9
            leave = 0.1
            seconds = 60
            kinds = 1
            """,
            "policy.toml",
        )


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"nowhere\.toml: No such file"):
        Policy.load(tmp_path / "nowhere.toml")


def test_a_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "policy.toml").write_bytes(b"version = '\xff'")
    with pytest.raises(PolicyError, match="not UTF-8 at byte 11"):
        Policy.load(tmp_path / "policy.toml")
