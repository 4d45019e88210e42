"""Perturbed probabilities: still a distribution, in the same order, within the bound, and no longer true."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dice import derived, uniforms
from gateway.perturb import Vector, bounded_random, content_of, reverse_sigmoid

KEY = derived("sixteen letters!", b"perturb", "account:ada")
Perturb = Callable[[Vector, float], Vector]


def drawn(p: Vector, bound: float) -> Vector:
    return bounded_random(p, bound, KEY, content_of([str(place) for place in range(len(p))], p))


WAYS: list[Perturb] = [reverse_sigmoid, drawn]
ways = pytest.mark.parametrize("perturb", WAYS)


@st.composite
def distributions(draw: st.DrawFn) -> Vector:
    """One to thirty probabilities with a sum of at most 1, some equal, some 0, in any order."""
    weights = draw(st.lists(st.sampled_from([0, 1, 1, 2, 7, 1_000]) | st.floats(0, 1e6), min_size=1, max_size=30))
    whole = np.array(weights, np.float64)
    if whole.sum() <= 1e-9:
        whole[0] = 1.0
    return whole / whole.sum() * draw(st.sampled_from([1.0, 0.9, 0.01]))


@ways
@given(distributions(), st.floats(0.001, 1))
def test_order_sum_and_bound_hold(perturb: Perturb, p: Vector, bound: float) -> None:
    told = perturb(p, bound)
    assert np.abs(told - p).max() <= bound + 1e-12
    assert told.min() >= 0
    if len(p) > 1:
        assert told.sum() == pytest.approx(p.sum())
    assert told.sum() <= 1 + 1e-9
    order = np.argsort(-p, kind="stable")
    assert (np.diff(told[order]) <= 1e-12).all()
    apart = np.diff(p[order]) < -1e-6
    assert (np.diff(told[order])[apart] < 0).all(), "what was apart stays apart"
    assert np.allclose(np.diff(told[order])[np.diff(p[order]) == 0], 0, atol=1e-12), "what was equal stays equal"
    assert np.argmax(told) in np.flatnonzero(np.isclose(p, p.max(), rtol=0, atol=1e-9))


@ways
def test_one_probability_alone_changes_too_and_keeps_its_side_of_a_half(perturb: Perturb) -> None:
    for value in (0.02, 0.4, 0.6, 0.98):
        (told,) = perturb(np.array([value]), 0.3)
        assert told != value
        assert (told > 0.5) == (value > 0.5)


@ways
@pytest.mark.parametrize("wrong", [[], [0.0, 0.0], [0.9, 0.9], [1.1, -0.1]])
def test_what_is_no_distribution_is_refused(perturb: Perturb, wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilities with a sum of"):
        perturb(np.array(wrong, np.float64), 0.5)


def test_repeats_tell_the_same_and_another_key_or_content_something_else() -> None:
    p = np.array([0.7, 0.2, 0.1])
    first = bounded_random(p, 0.5, KEY, b"a")
    assert (bounded_random(p, 0.5, KEY, b"a") == first).all()
    assert not np.allclose(bounded_random(p, 0.5, KEY, b"b"), first)
    assert not np.allclose(bounded_random(p, 0.5, derived("sixteen letters!", b"perturb", "account:eve"), b"a"), first)


def test_content_is_the_order_of_the_names_and_hardly_the_numbers() -> None:
    p = np.array([0.71, 0.2, 0.09])
    content = content_of(["a", "b", "c"], p)
    assert content_of(["c", "a", "b"], p[[2, 0, 1]]) == content
    assert content_of(["a", "b", "c"], np.array([0.69, 0.19, 0.12])) == content
    assert content_of(["a", "c", "b"], p) != content
    assert content_of(["a", "b", "c"], np.array([0.9, 0.06, 0.04])) != content


@ways
def test_calibration_is_lost(perturb: Perturb) -> None:
    """A model that is right as often as it says, in 2,000 answers; afterwards it is not by 0.1 and more."""
    dice = np.random.default_rng(7)
    truth = dice.dirichlet(np.full(10, 0.3), 2_000)
    right = np.array([dice.choice(10, p=p) == p.argmax() for p in truth])
    told = np.array([perturb(p, 0.5).max() for p in truth])
    assert abs(truth.max(1).mean() - right.mean()) < 0.03
    bins = np.digitize(told, np.linspace(0.1, 0.9, 9))
    gaps = [abs(told[bins == each].mean() - right[bins == each].mean()) for each in np.unique(bins)]
    weights = [float((bins == each).mean()) for each in np.unique(bins)]
    assert np.dot(gaps, weights) > 0.1


def test_the_bound_is_used_where_there_is_something_to_change() -> None:
    p = np.array([0.9, 0.05, 0.03, 0.02])
    changes = [np.abs(bounded_random(p, 0.2, KEY, str(n).encode()) - p).max() for n in range(200)]
    assert np.isclose(changes, 0.2).mean() > 0.5


def test_dice_are_even_and_keyed() -> None:
    numbers = uniforms(KEY, b"x", 20_000)
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(np.full(10, 2_000), abs=250)
    assert (uniforms(KEY, b"x", 5) == numbers[:5]).all()
    assert derived("s", b"p", "ab", "c") != derived("s", b"p", "a", "bc")
