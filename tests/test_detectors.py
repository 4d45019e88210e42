"""Every detector keeps the contract, ours and River's own; and River's own checks accept each."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
from river import anomaly, checks, datasets

from models.detector import Detector
from models.detectors import DETECTORS, build
from models.ecod import Ecod
from models.ensemble import Ensemble
from models.half_space_trees import HalfSpaceTrees
from models.mahalanobis import Mahalanobis
from models.river_detector import RiverDetector
from tests.checks.detectors import CHECKS, FEATURES, Check, Make, in_any_batches

MAKES: dict[str, Make] = {
    "ecod": Ecod,
    "mahalanobis": Mahalanobis,
    "half_space_trees": lambda features: HalfSpaceTrees(features, window_size=256),
    "ensemble": lambda features: Ensemble(features, member_size=512, size=1024),
    "river_half_space_trees": RiverDetector,
    "river_svm": lambda features: RiverDetector(features, "OneClassSVM"),
}

EXACT_IN_ANY_BATCHES = ("ecod", "half_space_trees", "river_half_space_trees")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_contract(make: Make, check: Check) -> None:
    check(make)


@pytest.mark.parametrize("name", EXACT_IN_ANY_BATCHES)
def test_learning_a_batch_is_learning_its_rows(name: str) -> None:
    learned = list(in_any_batches(MAKES[name]))
    assert len({detector.snapshot() for detector, _ in learned}) == 1
    assert len({detector.score_many(X).tobytes() for detector, X in learned}) == 1


def test_mahalanobis_in_any_batches_differs_by_rounding_only() -> None:
    scores = [detector.score_many(X) for detector, X in in_any_batches(Mahalanobis)]
    assert np.allclose(scores[0], scores[1], rtol=1e-9)
    assert np.allclose(scores[0], scores[2], rtol=1e-9)


def test_a_snapshot_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="snapshot of 'ecod', not of 'mahalanobis'"):
        Mahalanobis.restore(Ecod(FEATURES).snapshot())


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_in_the_table_can_be_built(name: str) -> None:
    assert build(name, FEATURES, seed=3).features == FEATURES


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(ValueError, match="unknown detector 'ecodd'; did you mean 'ecod'"):
        build("ecodd", FEATURES)
    with pytest.raises(ValueError, match="'Loda' is not one of"):
        RiverDetector(FEATURES, "Loda")


def test_rivers_detectors_stand_in_an_ensemble_by_name() -> None:
    ensemble = Ensemble(FEATURES, others=("river.OneClassSVM",))
    dice = np.random.default_rng(0)
    for _ in range(10):
        ensemble.learn_many(dice.normal(0.4, 0.1, (200, len(FEATURES))))
    assert ensemble.ready
    assert ensemble.score_many(np.full((1, len(FEATURES)), 0.95))[0] > 0.95


def test_rivers_detectors_rank_through_the_adapter_as_without_it() -> None:
    dice = np.random.default_rng(0)
    adapted, bare = RiverDetector(FEATURES, "LODA", seed=5), anomaly.LODA(seed=5)
    X = dice.random((150, len(FEATURES)))
    expected = []
    for row in X.tolist():
        named = dict(zip(FEATURES, row, strict=True))
        expected.append(bare.score_one(named))
        bare.learn_one(named)
    found = []
    for row in X:
        found.append(adapted.score_many(row[None])[0])
        adapted.learn_many(row[None])
    assert np.argsort(found, kind="stable").tolist() == np.argsort(expected, kind="stable").tolist()


def test_a_long_learned_river_detector_restores_from_its_last_rows() -> None:
    dice = np.random.default_rng(0)
    detector = RiverDetector(FEATURES, remembered=500)
    detector.learn_many(dice.normal(0.4, 0.05, (1_000, len(FEATURES))))
    restored = RiverDetector.restore(detector.snapshot())
    X = dice.random((50, len(FEATURES)))
    # 1,000 and 500 rows both end with a full window of 250, and only that one scores.
    assert restored.score_many(X).tolist() == detector.score_many(X).tolist()


# River's checks of an anomaly detector ask for the credit card set, a download. Tests stay offline, so they
# get a stream of the same shape: the same names, a few frauds, values as our contract has them (0 to 1).
# Fewer rows than the checks would take, because nothing they look at needs more; and no fraud before the
# longest warm-up is over, whose zeros River's check of the AUC would count as verdicts.
CARD_FEATURES = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount")


class CardLike:
    def __iter__(self) -> Iterator[tuple[dict[str, float], int]]:
        dice = np.random.default_rng(7)
        for second in range(800):
            fraud = second > 650 and bool(dice.random() < 0.1)
            values = np.clip(dice.normal(0.75 if fraud else 0.5, 0.1, len(CARD_FEATURES)), 0.0, 1.0)
            values[0] = second / 800
            yield dict(zip(CARD_FEATURES, values.tolist(), strict=True)), int(fraud)

    def take(self, rows: int) -> Iterator[tuple[dict[str, float], int]]:
        return islice(self, rows)


def river_checks(detector: Detector) -> dict[str, Callable[[Detector], None]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "CreditCard", CardLike)
        return {check.__name__: check for check in checks.yield_checks(detector)}


@pytest.mark.parametrize("name", river_checks(Ecod(CARD_FEATURES)))
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_rivers_own_checks(make: Make, name: str) -> None:
    detector = make(CARD_FEATURES)
    river_checks(detector)[name](detector.clone())
