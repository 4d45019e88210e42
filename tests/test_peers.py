"""Peers: what many like it do, speaks against nobody; what few do, speaks as loudly as before."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.peers import ENOUGH, LEANS, MODELS, MOST_PLANS, STEPS, Group, Peers

CAPS = np.array([1.5, 2.0])
VOLUME = np.array([True, False])
"""Two signals: one about how much is sent, one about anything else."""

PRO, SCALE = 11, 22


def group(count: int, plan: int = PRO, model: int = 0, day: float = 10.0) -> Group:
    return Group(np.full(count, plan), np.full(count, model), np.full(count, day))


def peers(*crowds: tuple[Group, list[float], float]) -> Peers:
    """Crowds of accounts that all show the same evidence and the same value of two features (the first is volume)."""
    groups = [crowd[0] for crowd in crowds]
    return Peers(
        Group(*(np.concatenate(columns) for columns in zip(*groups, strict=True))),
        np.concatenate([np.tile(np.array(shown), (len(one.plan), 1)) for one, shown, _ in crowds]),
        CAPS,
        VOLUME,
        np.concatenate([np.full((len(one.plan), 2), value) for one, _, value in crowds]),
        VOLUME,
    )


def worth(found: Peers, of: Group, *weights: float) -> list[float]:
    return found.bounded(np.array([weights]), of)[0].tolist()


def test_what_every_large_customer_of_a_plan_does_says_nothing_of_the_next_one() -> None:
    found = peers((group(5_000), [0, 0], 1.0), (group(1_000, SCALE, day=5_000), [0, 1.8], 9.0))
    assert worth(found, group(1, SCALE, day=9_000), 1.4, 1.8)[1] < 0.05
    assert worth(found, group(1, SCALE, day=9_000), 1.4, 2.0)[1] > 1.9  # none of them shows quite as much
    assert worth(found, group(1, PRO, day=40), 1.4, 1.7) == [1.4, 1.7]


def test_how_much_is_sent_is_compared_with_accounts_of_any_size() -> None:
    found = peers((group(5_000), [0, 0], 1.0), (group(200, day=5_000), [1.5, 2.0], 9.0))
    assert worth(found, group(1, day=5_000), 1.5, 2.0) == [1.5, pytest.approx(0, abs=0.25)]


def test_evidence_is_worth_the_rarity_of_as_much_among_peers() -> None:
    found = peers((group(60_000), [0, 0], 1.0), (group(20_000), [0, 1.0], 1.0), (group(20_000), [0, 2.0], 1.0))
    assert worth(found, group(1), 0, 2.0)[1] == pytest.approx(np.log(5), abs=0.01)
    assert worth(found, group(1), 0, 1.0)[1] == pytest.approx(np.log(2.5), abs=0.01)
    assert worth(found, group(1), 0, 0.5)[1] == 0.5  # worth as much as 1.0 is; it is less


def test_a_few_peers_lean_on_those_around_them() -> None:
    few = int(LEANS)
    found = peers((group(20_000), [0, 0], 1.0), (group(few, SCALE, day=5_000), [0, 2.0], 1.0))
    # Of their size there are no others: half for the size, half for nobody; the plan and the model say the same again.
    assert worth(found, group(1, SCALE, day=5_000), 0, 2.0)[1] == pytest.approx(-np.log(7 / 8), abs=0.01)
    one = peers((group(20_000), [0, 0], 1.0), (group(1, SCALE, day=5_000), [0, 2.0], 1.0))
    assert worth(one, group(1, SCALE, day=5_000), 0, 2.0) == [0, 2.0]


@pytest.mark.parametrize("plan", [0, 99])
def test_who_is_on_no_plan_that_others_are_on_is_compared_with_all_of_its_size(plan: int) -> None:
    crowds = [(group(200, number), [0, 0], 1.0) for number in range(1, MOST_PLANS + 1)]
    found = peers(*crowds, (group(150, 99), [0, 2.0], 3.0), (group(50, 0), [0, 0], 1.0))
    share = (150 + LEANS * 150.5 / 3_401) / (3_400 + LEANS)
    assert worth(found, group(1, plan), 0, 2.0)[1] == pytest.approx(min(2.0, -np.log(share)))
    assert found.median(1, group(1, plan)) == 1.0


def test_too_few_accounts_bound_nothing_and_are_not_typical() -> None:
    found = peers((group(ENOUGH - 1), [1.5, 2.0], 7.0))
    assert worth(found, group(1), 1.5, 2.0) == [1.5, 2.0]
    assert found.median(0, group(1)) is None
    none = peers((group(0), [0, 0], 0.0))
    assert worth(none, group(1), 1.5, 2.0) == [1.5, 2.0]


def test_typical_is_the_median_of_the_narrowest_group_with_enough_in_it() -> None:
    found = peers(
        (group(1_000), [0, 0], 1.0),
        (group(100, SCALE, model=1, day=5_000), [0, 0], 50.0),
        (group(150, SCALE, model=2, day=5_000), [0, 0], 70.0),
        (group(60, SCALE, model=2), [0, 0], 1.0),
    )
    assert found.median(1, group(1, SCALE, model=1, day=4_000)) == 50.0
    assert found.median(1, group(1, SCALE, model=2, day=4_000)) == 70.0
    assert found.median(1, group(1, SCALE, model=3, day=4_000)) == 70.0  # of the plan and the size
    assert found.median(1, group(1, PRO, model=3, day=4_000)) == 70.0  # of the size
    assert found.median(1, group(1, SCALE, model=2, day=40)) == 1.0  # of all: nobody is of that size
    assert found.median(0, group(1, PRO, model=1, day=4_000)) == 1.0  # how much is sent: of the plan, whatever size


def test_a_value_that_nobody_has_is_not_typical() -> None:
    found = Peers(group(200), np.zeros((200, 2)), CAPS, VOLUME, np.full((200, 2), np.nan), VOLUME)
    assert found.median(1, group(1)) is None


@given(
    shown=arrays(np.float64, (400, 2), elements=st.floats(0, 1)),
    plans=arrays(np.int64, 400, elements=st.integers(0, 3)),
    models=arrays(np.int64, 400, elements=st.integers(0, MODELS - 1)),
    days=arrays(np.float64, 400, elements=st.sampled_from([0.0, 30.0, 299.0, 3_000.0, 1e6])),
)
def test_peers_only_ever_take_away_and_more_evidence_is_never_worth_less(
    shown: np.ndarray, plans: np.ndarray, models: np.ndarray, days: np.ndarray
) -> None:
    of = Group(plans, models, days)
    found = Peers(of, shown * CAPS, CAPS, VOLUME, shown, VOLUME)
    steps = [found.bounded(np.tile(CAPS * step / (2 * STEPS), (400, 1)), of) for step in range(2 * STEPS + 1)]
    for step, bounded in enumerate(steps):
        assert (bounded >= 0).all()
        assert (bounded <= CAPS * step / (2 * STEPS)).all()
    for less, more in itertools.pairwise(steps):
        assert (more >= less - 1e-12).all()
