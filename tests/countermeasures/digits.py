"""Digits: a classifier is copied: 8 x 8 images of digits, a logistic regression as teacher, small networks as
students.

The thief has 727 unlabelled images of the same kind, which it shifts and blurs with noise into as many different
questions as its budget allows, and 20 labelled ones of its own to choose by.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from .network import Network
from .shields import Shield, shields

NAMES: Final = [str(digit) for digit in range(10)]
ACCOUNTS: Final = 5

Images = NDArray[np.float64]
Rows = NDArray[np.float64]


class Split(NamedTuple):
    """Who has which images; `own` are the thief's labelled ones."""

    teacher: LogisticRegression
    pool: Images
    own: tuple[Images, NDArray[np.int64]]
    test: tuple[Images, NDArray[np.int64]]


class Api:
    """The teacher behind a shield, which counts its questions."""

    def __init__(self, teacher: LogisticRegression, shield: Shield) -> None:
        self.asked = 0
        self._teacher = teacher
        self._shield = shield

    def ask(self, x: Images, account: str = "thief") -> Rows:
        """Answers as a client can use them: probabilities, or 1 for the label where nothing else is told."""
        self.asked += len(x)
        answers = []
        for image, p in zip(x, self._teacher.predict_proba(x), strict=True):
            told = self._shield(NAMES, p, account, image.tobytes())
            answers.append(np.eye(10)[p.argmax()] if told is None else _filled(told))
        return np.array(answers)


def split(seed: int) -> Split:
    """A teacher and everybody's images."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order] / 16, y[order]
    teacher = LogisticRegression(C=3.0, max_iter=1_000).fit(x[:650], y[:650])
    return Split(teacher, x[650:1377], (x[1377:1397], y[1377:1397]), (x[1397:], y[1397:]))


def questions(pool: Images, many: int, dice: np.random.Generator) -> Images:
    """Different images out of a pool: each shifted by up to a pixel, with some noise."""
    chosen = pool[dice.permutation(np.arange(many) % len(pool))].reshape(-1, 8, 8)
    moved = [
        np.roll(image, tuple(dice.integers(-1, 2, 2)), (0, 1)) if number >= len(pool) else image
        for number, image in enumerate(chosen)
    ]
    return np.clip(np.array(moved).reshape(many, 64) + dice.normal(0, 0.05, (many, 64)), 0, 1)


Thief = Callable[[Api, Split, int, int], Rows]
"""Copies a teacher with a budget of questions and a seed; gives its probabilities of the test images."""


def plain(api: Api, have: Split, budget: int, seed: int) -> Rows:
    """Trains on what it is told."""
    x = questions(have.pool, budget, np.random.default_rng(seed))
    return _student(x, api.ask(x), have, seed)


def labels(api: Api, have: Split, budget: int, seed: int) -> Rows:
    """Trains on the top choice alone."""
    x = questions(have.pool, budget, np.random.default_rng(seed))
    return _student(x, np.eye(10)[api.ask(x).argmax(1)], have, seed)


def repeats(api: Api, have: Split, budget: int, seed: int) -> Rows:
    """Asks each question five times, slightly changed, and averages."""
    dice = np.random.default_rng(seed)
    x = questions(have.pool, budget // 5, dice)
    told = [api.ask(np.clip(x + dice.normal(0, 0.01, x.shape), 0, 1)) for _ in range(5)]
    return _student(x, np.mean(told, axis=0), have, seed)


def accounts(api: Api, have: Split, budget: int, seed: int) -> Rows:
    """Asks each question through five accounts that nobody has linked, and averages."""
    x = questions(have.pool, budget // ACCOUNTS, np.random.default_rng(seed))
    told = [api.ask(x, f"thief-{number}") for number in range(ACCOUNTS)]
    return _student(x, np.mean(told, axis=0), have, seed)


def ensemble(api: Api, have: Split, budget: int, seed: int) -> Rows:
    """Trains three students and averages them."""
    x = questions(have.pool, budget, np.random.default_rng(seed))
    told = api.ask(x)
    rows: Rows = np.mean([_student(x, told, have, seed + 1_000 * each) for each in range(3)], axis=0)
    return rows


def recalibrated(api: Api, have: Split, budget: int, seed: int) -> Rows:
    """Sharpens what it is told (p to some power), as its own labelled images say is best; those cost questions too."""
    x = questions(have.pool, budget - len(have.own[0]), np.random.default_rng(seed))
    told, own = api.ask(x), api.ask(have.own[0])
    powers = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 32.0)
    power = max(powers, key=lambda each: _log_likelihood(_raised(own, each), have.own[1]))
    return _student(x, _raised(told, power), have, seed)


THIEVES: Final[dict[str, Thief]] = {
    "plain": plain,
    "labels": labels,
    "repeats": repeats,
    "accounts": accounts,
    "ensemble": ensemble,
    "recalibrated": recalibrated,
}


def _filled(told: Rows) -> Rows:
    """What is not told, taken to be even."""
    silent = np.isnan(told)
    return np.where(silent, (1 - np.nansum(told)) / max(silent.sum(), 1), told)


def _student(x: Images, targets: Rows, have: Split, seed: int) -> Rows:
    found: Rows = Network(64, 10, seed).fit(x, targets).probabilities(have.test[0]).astype(np.float64)
    return found


def _raised(rows: Rows, power: float) -> Rows:
    sharp = np.maximum(rows, 1e-6) ** power
    found: Rows = sharp / sharp.sum(axis=1, keepdims=True)
    return found


def _log_likelihood(rows: Rows, labels: NDArray[np.int64]) -> float:
    return float(np.log(rows[np.arange(len(labels)), labels]).mean())


class Result(NamedTuple):
    """What one thief got behind one shield: accuracies of teacher and student, and how often they agree."""

    shield: str
    thief: str
    budget: int
    seed: int
    teacher: float
    student: float
    agreement: float


class Honest(NamedTuple):
    """What an honest customer loses behind a shield. Without probabilities there is nothing to calibrate: NaN."""

    shield: str
    top_choice_kept: float
    calibration_error: float
    mean_change: float


def experiment(budgets: tuple[int, ...], adaptive: int, seeds: tuple[int, ...]) -> list[Result]:
    """Every shield: the plain thief at each budget, and every thief at the `adaptive` budget."""
    found = []
    for seed in seeds:
        have = split(seed)
        truth = have.teacher.predict(have.test[0])
        for name in shields():
            cases = {("plain", budget) for budget in budgets} | {(thief, adaptive) for thief in THIEVES}
            for thief, budget in sorted(cases):
                api = Api(have.teacher, shields()[name])
                guess = THIEVES[thief](api, have, budget, seed).argmax(1)
                if api.asked > budget:
                    raise AssertionError(f"{thief} asked {api.asked} questions of {budget}")
                accuracy, agreement = (float((guess == each).mean()) for each in (have.test[1], truth))
                teacher = float((truth == have.test[1]).mean())
                found.append(Result(name, thief, budget, seed, teacher, accuracy, agreement))
    return found


def honest(seed: int) -> list[Honest]:
    """What honest customers of each shield get, on the test images."""
    have = split(seed)
    true = have.teacher.predict_proba(have.test[0])
    found = []
    for name, shield in shields().items():
        rows = [shield(NAMES, p, "honest", image.tobytes()) for image, p in zip(have.test[0], true, strict=True)]
        known = np.array([row is not None for row in rows])
        if not known.any():
            found.append(Honest(name, 1.0, float("nan"), float("nan")))
            continue
        told = np.array([row for row in rows if row is not None])
        top, right = np.nanargmax(told, 1), have.test[1][known]
        found.append(
            Honest(
                name,
                float((top == true[known].argmax(1)).mean()),
                calibration_error(np.nanmax(told, 1), top == right),
                float(np.nanmax(np.abs(told - true[known]), 1).mean()),
            )
        )
    return found


def calibration_error(said: Rows, right: NDArray[np.bool_]) -> float:
    """Mean distance between what was said and how often it was so, in ten bins (ECE)."""
    bins = np.minimum((said * 10).astype(int), 9)
    gaps = [
        abs(said[bins == each].mean() - right[bins == each].mean()) * (bins == each).mean() for each in np.unique(bins)
    ]
    return float(np.sum(gaps))
