"""The experiment with thieves: its parts do what they say; its figures stand in the gateway's README."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from tests.countermeasures import digits, marked, theft
from tests.countermeasures.digits import calibration_error
from tests.countermeasures.language import Ngram
from tests.countermeasures.network import Network
from tests.countermeasures.report import Found, tables
from tests.countermeasures.shields import none, shields, withhold
from tests.countermeasures.theft import Answers, targets

README = (Path(__file__).parents[1] / "gateway" / "README.md").read_text("utf-8")


def test_a_network_learns_probabilities() -> None:
    x = np.eye(3, dtype=np.float32)
    wanted = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
    assert np.allclose(Network(3, 3, seed=1, hidden=16).fit(x, wanted, steps=400).probabilities(x), wanted, atol=0.02)


def test_counts_become_probabilities_smoothed_by_shorter_contexts() -> None:
    model = Ngram(vocabulary=4, prior=1.0).learn([1, 2, 1, 2, 1, 3])
    # Alone: 3, 2 and 1 of 6, and a quarter of one more each. After 1: of 3 times 2 twice, 3 once.
    alone = np.array([0.25, 3.25, 2.25, 1.25]) / 7
    assert model.after([]) == pytest.approx(alone)
    assert model.after([1]) == pytest.approx((np.array([0, 0, 2, 1]) + alone) / 4)
    assert model.bits([2]) == pytest.approx(-np.log2(alone[2]))
    dice = random.Random(7)
    drawn = np.bincount([model.draw([1], dice) for _ in range(8_000)], minlength=4) / 8_000
    assert drawn == pytest.approx(model.after([1]), abs=0.02)


def test_parts_of_counts_count() -> None:
    model = Ngram(vocabulary=3, prior=1.0).learn([1], [{1: 0.5, 2: 0.25}])
    assert model.after([]) == pytest.approx(np.array([1 / 3, 0.5 + 1 / 3, 0.25 + 1 / 3]) / 1.75)


def test_what_a_thief_counts_is_right_in_the_mean() -> None:
    """Listed tokens by their probability, an unlisted one when it is said: their means are the truth."""
    truth = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02])
    dice = np.random.default_rng(3)
    said = [theft.drawn(truth, dice) for _ in range(4_000)]
    rows = Answers(said, np.tile(np.arange(5), (4_000, 1)), np.tile(truth[:5], (4_000, 1)))
    total = np.zeros(7)
    for counts in targets(rows, rows.true):
        for token, weight in counts.items():
            total[token] += weight
    assert total / 4_000 == pytest.approx(truth, abs=0.01)


def test_who_is_told_everything_copies_better_than_who_is_told_labels() -> None:
    have = digits.split(1)
    everything, nothing = (
        digits.plain(digits.Api(have.teacher, shield), have, 60, 1).argmax(1) for shield in (none, withhold)
    )
    assert (everything == have.test[1]).mean() > (nothing == have.test[1]).mean() + 0.02


def test_no_thief_asks_more_than_its_budget_and_no_shield_changes_a_top_choice() -> None:
    have = digits.split(1)
    for name, shield in shields().items():
        api = digits.Api(have.teacher, shield)
        told = api.ask(have.test[0][:50])
        assert (told.argmax(1) == have.teacher.predict_proba(have.test[0][:50]).argmax(1)).all(), name
    for thief in (digits.repeats, digits.accounts, digits.recalibrated):
        api = digits.Api(have.teacher, none)
        thief(api, have, 60, 1)
        assert api.asked <= 60


def test_calibration_error_is_the_gap_between_words_and_deeds() -> None:
    said, right = np.array([0.95] * 10 + [0.65] * 10), np.array([True] * 10 + [True] * 4 + [False] * 6)
    assert calibration_error(said, right) == pytest.approx((0.05 + 0.25) / 2)


def test_paraphrasing_replaces_the_share_it_should() -> None:
    teacher = Ngram(vocabulary=50).learn(list(range(50)))
    texts = [[1] * 200 for _ in range(10)]
    changed = marked.paraphrased(teacher, texts, 0.3, random.Random(1))
    assert np.mean(np.array(changed) != 1) == pytest.approx(0.3, abs=0.05)
    assert marked.paraphrased(teacher, texts, 0.0, random.Random(1)) == texts


def found() -> Found:
    """A report of numbers that one can follow."""
    stolen = [
        digits.Result(shield, thief, budget, 1, 0.96, 0.5 if thief == "plain" else 0.6, 0.5)
        for shield in shields()
        for thief in digits.THIEVES
        for budget in (50, 200)
    ]
    kept = [theft.Result(shield, thief, 100, 1, 0.25) for shield in shields() for thief in theft.THIEVES]
    nan = float("nan")
    marks = [
        marked.Result(mark, 1, texts, share, replaced, -3.0 * share, -6.0 * share, -0.1)
        for mark in marked.MARKS
        for texts, share, replaced in [
            *((10, each, 0.0) for each in marked.SHARES),
            *((10, 0.2, each) for each in marked.REPLACED),
            (200, 1 / marked.LARGER, 0.0),
        ]
    ]
    return Found(
        seeds=(1,), corpus="x", digits=stolen, digits_at=200,
        digits_honest=[digits.Honest(name, 1.0, nan, nan) for name in shields()],
        tokens=kept, tokens_at=100, tokens_honest=[theft.Honest(name, 1.0, 0.5, 0.1) for name in shields()],
        public_bits=7.0, teacher_bits=4.0, marks=marks, costs=[marked.Cost(mark, 1.0, -9.0) for mark in marked.MARKS],
        texts=10,
    )  # fmt: skip


def test_tables_have_a_row_for_each_countermeasure_and_mark() -> None:
    text = tables(found())
    assert "| none | 50 | 50 | 60 | 60 labels |  |" in text
    assert "| withhold | 25 | 25 | 25 plain | 0.50 |" in text
    assert "| tournament | +100 % | 10^-9 | 1.00 | 0.93 (0.87) |" in text


def test_the_readme_shows_what_the_command_prints() -> None:
    section = README.partition("## Measured")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \|", section, re.M)
    for name in [*shields(), *shields(), *marked.MARKS]:
        rows.remove(name)
    heads = re.findall(r"^\| (?:countermeasure|mark) \|.*$", section, re.M)
    expected = re.findall(r"^\| (?:countermeasure|mark) \|.*$", tables(found()), re.M)
    assert [len(head.split("|")) for head in heads[2:]] == [len(head.split("|")) for head in expected[2:]]
