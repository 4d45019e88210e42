"""Microseconds a row to score and learn, ours and River's, in one run: `python -m tests.bench.detectors`.

CPU time of this process, the median over the batches of each size, warm-up left out. A busy machine slows all of
them, so compare lines of one run, not runs.
"""

import time
from collections.abc import Callable

import click
import numpy as np
from river import anomaly
from river.base import AnomalyDetector

from models.detector import FloatMatrix, Member
from models.detectors import build
from models.ensemble import Ensemble

FEATURES = tuple(f"feature{i:02}" for i in range(12))
BATCHES = (64, 512, 1024, 4096)
WARM_UP = 20_480
ROWS = 81_920
RIVER_ROWS = 2_000


def microseconds(step: Callable[[FloatMatrix], object], X: FloatMatrix, batch: int) -> float:
    """The median over batches of the CPU time of `step`, for each row."""
    taken = []
    for start in range(0, len(X) - batch + 1, batch):
        before = time.process_time_ns()
        step(X[start : start + batch])
        taken.append(time.process_time_ns() - before)
    return float(np.median(taken)) / batch / 1_000


def observing(member: Member) -> Callable[[FloatMatrix], object]:
    """Scores and learns, finding the rows once, as an ensemble does."""

    def step(X: FloatMatrix) -> None:
        places = member.locate(X)
        member.score_at(places)
        member.learn_at(places)

    return step


def by_rows(model: AnomalyDetector) -> Callable[[FloatMatrix], object]:
    """Scores and learns one row after another, as River does."""

    def step(X: FloatMatrix) -> None:
        for row in X.tolist():
            named = dict(zip(FEATURES, row, strict=True))
            model.score_one(named)
            model.learn_one(named)

    return step


def main() -> None:
    X = np.clip(np.random.default_rng(0).normal(0.4, 0.15, (WARM_UP + ROWS, len(FEATURES))), 0.0, 1.0)
    click.echo(f"{'us a row, in batches of':34}" + "".join(f"{batch:>9,}" for batch in BATCHES))
    ours: dict[str, float] = {}
    for name in ("ecod", "mahalanobis", "half_space_trees", "ensemble"):
        found = []
        for batch in BATCHES:
            if name == "ensemble":
                ensemble = Ensemble(FEATURES)
                ensemble.learn_many(X[:WARM_UP])
                step: Callable[[FloatMatrix], object] = ensemble.observe_many
            else:
                member = build(name, FEATURES)
                member.learn_many(X[:WARM_UP])
                step = observing(member)
            found.append(microseconds(step, X[WARM_UP:], batch))
        ours[name] = found[BATCHES.index(1024)]
        click.echo(f"{name:34}" + "".join(f"{value:9.2f}" for value in found))

    click.echo(f"\n{'River, one row at a time':34} {'us':>8}  of the ensemble at 1,024")
    for label, model in {
        "HalfSpaceTrees (10 x 8, 250)": anomaly.HalfSpaceTrees(seed=0),
        "HalfSpaceTrees (25 x 8, 1,024)": anomaly.HalfSpaceTrees(25, 8, 1024, seed=0),
        "LODA": anomaly.LODA(seed=0),
        "OneClassSVM": anomaly.OneClassSVM(),
    }.items():
        value = microseconds(by_rows(model), X[:RIVER_ROWS], 200)
        click.echo(f"{label:34} {value:8.2f} {value / ours['ensemble']:8.1f} times")


if __name__ == "__main__":
    main()
