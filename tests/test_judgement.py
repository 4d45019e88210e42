"""People's judgement: rare and biased labels help, and cannot harm much."""

import numpy as np
import pytest
from river.linear_model import LogisticRegression
from river.optim import SGD

from models.judgement import CAP, HALF, KEPT, RATE, SHRINK, SPAN, Judgement, step
from models.snapshot import SnapshotError

COLUMNS = ("volume", "templates", "cues", "newness")
ATTACK, SUITE = np.array([[1.5, 0.0, 2.0, 1.6]]), np.array([[1.5, 1.4, 0.0, 1.6]])
"""An attack that asks for reasoning, and an evaluation suite: both are loud and new."""


def taught(attacks: int, suites: int) -> Judgement:
    judgement = Judgement(COLUMNS)
    rows = np.concatenate((np.repeat(ATTACK, attacks, axis=0), np.repeat(SUITE, suites, axis=0)))
    judgement.learn_labels(rows, np.arange(attacks + suites) < attacks, np.arange(attacks + suites))
    return judgement


def opinion(judgement: Judgement, row: np.ndarray) -> float:
    return float(judgement.weigh(row)[0])


def test_a_step_is_rivers() -> None:
    dice = np.random.default_rng(3)
    rows, labels = dice.uniform(0, 2, (200, 4)), dice.integers(0, 2, 200)
    river, weights = LogisticRegression(optimizer=SGD(RATE), l2=SHRINK, intercept_lr=0.0), np.zeros(4)
    for row, label in zip(rows, labels, strict=True):
        river.learn_one(dict(zip(COLUMNS, row.tolist(), strict=True)), bool(label))
        weights = step(weights, row[None], np.array([label]), np.ones(1))
    assert weights == pytest.approx([river.weights[column] for column in COLUMNS], rel=1e-12)


def test_what_was_confirmed_weighs_more_and_what_was_cleared_less() -> None:
    judgement = taught(HALF, HALF)
    assert opinion(judgement, ATTACK) == pytest.approx(CAP / 2)
    assert opinion(judgement, SUITE) == pytest.approx(-CAP / 2)
    terms = judgement.terms(ATTACK[0])
    assert terms["cues"] > 1 > abs(terms["volume"])
    assert terms["templates"] == 0


@pytest.mark.parametrize(("attacks", "suites"), [(0, 0), (50, 0), (0, 50)])
def test_labels_of_one_kind_alone_say_nothing(attacks: int, suites: int) -> None:
    assert opinion(taught(attacks, suites), ATTACK) == 0


def test_few_labels_say_little_and_the_rarer_kind_decides() -> None:
    assert [taught(200, few).most for few in (1, 10, 30)] == pytest.approx([CAP / 11, CAP / 2, CAP * 0.75])
    # That people confirm forty times as often as they clear is no evidence against the next account.
    assert opinion(taught(400, 10), SUITE) == pytest.approx(opinion(taught(10, 10), SUITE), abs=0.05)


def test_what_came_out_as_its_score_said_teaches_next_to_nothing() -> None:
    judgement = Judgement(COLUMNS)
    rows = np.concatenate((np.repeat(ATTACK * 2.4, 40, axis=0), np.repeat(SUITE * 0.3, 40, axis=0)))
    judgement.learn_labels(rows, np.arange(80) < 40, np.arange(80))
    assert judgement.weigh(np.concatenate((ATTACK, SUITE))) == pytest.approx([0, 0], abs=0.2)


def test_that_people_look_at_the_loudest_does_not_speak_against_an_attack_in_its_first_hours() -> None:
    """What was cleared had less of everything than what was confirmed, and so has an attack that has just begun."""
    judgement = Judgement(COLUMNS)
    confirmed, cleared = np.array([[1.5, 1.0, 2.0, 1.6]]), np.array([[1.5, 0.9, 0.1, 0.1]])
    rows = np.concatenate((np.repeat(confirmed, 30, axis=0), np.repeat(cleared, 30, axis=0)))
    judgement.learn_labels(rows, np.arange(60) < 30, np.arange(60))
    assert opinion(judgement, np.array([[1.5, 0.9, 0.3, 0.3]])) > 0


def test_about_accounts_that_nobody_would_look_at_it_has_no_opinion() -> None:
    judgement = taught(30, 30)
    quiet = np.array([[0.2, 0.4, 0.0, 0.0]])
    assert opinion(judgement, quiet) == 0
    least = float(SUITE.sum())
    rows = np.array([[least, 0, 0, 0], [least - SPAN / 2, 0, 0, 0], [least - SPAN, 0, 0, 0]])
    whole = judgement.terms(np.array([1.0, 0, 0, 0]))["volume"]
    expected = [whole * least, whole * (least - SPAN / 2) / 2, 0]
    assert judgement.weigh(rows) == pytest.approx(np.clip(expected, -judgement.most, judgement.most))


def test_an_account_teaches_once_and_a_changed_mind_counts() -> None:
    judgement = taught(HALF, HALF)
    judgement.learn_labels(np.repeat(ATTACK, 900, axis=0), np.zeros(900, bool), np.full(900, 7))
    assert judgement.labels == 2 * HALF
    assert judgement.most == pytest.approx(CAP * (HALF - 1) / (2 * HALF - 1))


def test_a_label_that_is_unlearned_leaves_no_trace() -> None:
    judgement = taught(HALF, HALF)
    judgement.learn_labels(np.array([[0.1, 0.9, 0.4, 0.0]]), np.array([True]), np.array([99]))
    assert judgement.snapshot() != taught(HALF, HALF).snapshot()
    judgement.forget(99)
    assert judgement.snapshot() == taught(HALF, HALF).snapshot()


def test_the_order_of_labels_does_not_matter_and_the_oldest_go() -> None:
    dice = np.random.default_rng(5)
    rows, labels = dice.uniform(0, 2, (60, 4)), dice.random(60) < 0.5
    order = dice.permutation(60)
    one, other = Judgement(COLUMNS), Judgement(COLUMNS)
    one.learn_labels(rows, labels, np.arange(60))
    for position in order.tolist():
        other.learn_labels(rows[[position]], labels[[position]], np.array([position]))
    assert one.weigh(rows).tolist() == other.weigh(rows).tolist()
    one.learn_labels(np.repeat(ATTACK, KEPT, axis=0), np.ones(KEPT, bool), np.arange(1_000, 1_000 + KEPT))
    assert (one.labels, one.most) == (KEPT, 0)


def test_it_survives_a_restart_and_a_release_with_other_signals() -> None:
    judgement = taught(20, 30)
    again = Judgement.restore(judgement.snapshot(), COLUMNS)
    assert again.weigh(ATTACK).tolist() == judgement.weigh(ATTACK).tolist()
    assert again.snapshot() == judgement.snapshot()
    later = Judgement.restore(judgement.snapshot(), ("cues", "pivot", "volume"))
    assert later.weigh(ATTACK[:, [2, 1, 0]])[0] > 0.5
    with pytest.raises(SnapshotError, match="not a detector's snapshot"):
        Judgement.restore(b"nonsense", COLUMNS)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        Judgement(COLUMNS).learn_labels(np.zeros((2, 2)), np.ones(2, bool), np.arange(2))
