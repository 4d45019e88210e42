"""Microseconds a row to score and learn, ours and River's, in one run: `python -m tests.bench.detectors`.

CPU time of this process, the median over the batches of each size, warm-up left out. A busy machine slows all of
them, so compare lines of one run, not runs. The table in docs/models.md is what it prints.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

import click
import numpy as np
from river import anomaly
from river.base import AnomalyDetector
from river.drift import ADWIN
from river.linear_model import LogisticRegression

from models.detector import FloatMatrix, Member
from models.detectors import build
from models.drift import Drift
from models.ensemble import Ensemble
from models.judgement import KEPT, Judgement, step

FEATURES: Final = tuple(f"feature{i:02}" for i in range(12))
BATCHES: Final = (64, 512, 4096)
WARM_UP: Final = 20_480
ROWS: Final = 40_960
RIVER_ROWS: Final = 2_000
"""Rows that River's detectors are given, one at a time: their cost does not depend on batches."""

Step = Callable[[FloatMatrix], object]


def microseconds(take: Step, X: FloatMatrix, batch: int) -> float:
    """The median over batches of the CPU time of `take`, for each row."""
    taken = []
    for start in range(0, len(X) - batch + 1, batch):
        before = time.process_time_ns()
        take(X[start : start + batch])
        taken.append(time.process_time_ns() - before)
    return float(np.median(taken)) / batch / 1_000


def observing(name: str, X: FloatMatrix) -> Step:
    """A warm detector of ours that scores and learns, finding the rows once, as in an ensemble."""
    if name == "ensemble":
        ensemble = Ensemble(FEATURES)
        ensemble.learn_many(X)
        return ensemble.observe_many
    member = build(name, FEATURES)
    assert isinstance(member, Member)
    member.learn_many(X)

    def take(rows: FloatMatrix) -> None:
        places = member.locate(rows)
        member.score_at(places)
        member.learn_at(places)

    return take


def by_rows(model: AnomalyDetector) -> Step:
    """Scores and learns one row after another, as River does."""

    def take(X: FloatMatrix) -> None:
        for row in X.tolist():
            named: dict[Hashable, Any] = dict(zip(FEATURES, row, strict=True))
            model.score_one(named)
            model.learn_one(named)

    return take


def judging(X: FloatMatrix) -> Step:
    """Our opinion on rows, once all labels that it keeps are learned."""
    judgement = Judgement(FEATURES)
    judgement.learn_labels(X[:KEPT], X[:KEPT, 0] > 0.4, np.arange(KEPT))
    return judgement.weigh


def stepping(rows: FloatMatrix) -> object:
    """One mini-batch step of our logistic regression."""
    labels = (rows[:, 0] > 0.4).astype(np.int64)
    return step(np.zeros(len(FEATURES)), rows, labels, np.full(len(rows), 1.0 / len(rows)))


def regressing() -> Step:
    """River's logistic regression, one row at a time: its mini-batches need pandas, which we do not install."""
    model = LogisticRegression()

    def take(X: FloatMatrix) -> None:
        for row in X.tolist():
            model.learn_one(dict(zip(FEATURES, row, strict=True)), row[0] > 0.4)

    return take


def drifting() -> Step:
    """River's ADWIN for each feature and row, where ours takes means of rows."""
    windows = [ADWIN() for _ in FEATURES]  # type: ignore[no-untyped-call]

    def take(X: FloatMatrix) -> None:
        for row in X.tolist():
            for window, value in zip(windows, row, strict=True):
                window.update(value)  # type: ignore[no-untyped-call]

    return take


def line(name: str, found: Mapping[int, float]) -> None:
    click.echo(f"| {name} | " + " | ".join(f"{found[batch]:,.2f}" for batch in BATCHES) + " |")


def main() -> None:
    X = np.clip(np.random.default_rng(0).normal(0.4, 0.15, (WARM_UP + ROWS, len(FEATURES))), 0.0, 1.0)
    warm, rows = X[:WARM_UP], X[WARM_UP:]
    click.echo("| microseconds a row, in batches of | " + " | ".join(f"{batch:,}" for batch in BATCHES) + " |")
    click.echo("| --- |" + " --- |" * len(BATCHES))
    for name in ("ecod", "mahalanobis", "half_space_trees", "ensemble"):
        line(f"`{name}`", {batch: microseconds(observing(name, warm), rows, batch) for batch in BATCHES})
    for label, model in {
        "River's HalfSpaceTrees, 10 x 8, window 250": anomaly.HalfSpaceTrees(seed=0),
        "River's HalfSpaceTrees, 25 x 8, window 1,024": anomaly.HalfSpaceTrees(25, 8, 1024, seed=0),
        "River's LODA": anomaly.LODA(seed=0),
        "River's OneClassSVM": anomaly.OneClassSVM(),
    }.items():
        line(label, dict.fromkeys(BATCHES, microseconds(by_rows(model), rows[:RIVER_ROWS], 200)))
    line("`judgement`: opinion", {batch: microseconds(judging(warm), rows, batch) for batch in BATCHES})
    line("`judgement`: one step", {batch: microseconds(stepping, rows, batch) for batch in BATCHES})
    line("River's LogisticRegression", dict.fromkeys(BATCHES, microseconds(regressing(), rows[:RIVER_ROWS], 200)))
    line("`drift` of the crowd", {batch: microseconds(Drift(FEATURES).learn_many, rows, batch) for batch in BATCHES})
    line("River's ADWIN for each row", dict.fromkeys(BATCHES, microseconds(drifting(), rows[:RIVER_ROWS], 200)))


if __name__ == "__main__":
    main()
