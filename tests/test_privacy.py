"""Differentially private probabilities: the promise itself, measured, and the account of many."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_perturb import distributions

from gateway.perturb import Vector
from gateway.privacy import Ledger, composed, private

KEY = b"k" * 32


@given(distributions(), st.floats(0.1, 50), st.booleans(), st.integers(0, 99))
def test_order_and_sum_hold(p: Vector, epsilon: float, whole: bool, n: int) -> None:
    told = private(p, epsilon, KEY, b"%d" % n, whole=whole)
    assert told.min() > 0
    assert told.sum() == pytest.approx(1) if whole else told.sum() <= 1 + 1e-9
    order = np.argsort(-p, kind="stable")
    assert (np.diff(told[order]) < 0).all()


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
@pytest.mark.parametrize(("one", "other"), [([1.0, 0.0], [0.5, 0.5]), ([0.9, 0.1, 0.0], [0.34, 0.33, 0.33])])
def test_no_answer_tells_two_models_apart_by_more_than_it_promises(
    epsilon: float, one: list[float], other: list[float]
) -> None:
    """The furthest models, 20,000 answers each: no event is more than e^epsilon times as likely under one of them."""
    told = [
        np.array([private(np.array(p), epsilon, KEY, b"%d/%d" % (which, n))[0] for n in range(5_000)])
        for which, p in enumerate((one, other))
    ]
    edges = np.quantile(np.concatenate(told), np.linspace(0, 1, 21)[1:-1])
    for below in (True, False):
        for edge in edges:
            a, b = (float(((each <= edge) == below).mean()) for each in told)
            noise = 3 * math.sqrt(max(a, b) / 5_000)
            assert a <= math.exp(epsilon) * b + noise * math.exp(epsilon)
            assert b <= math.exp(epsilon) * a + noise * math.exp(epsilon)


def test_less_epsilon_more_noise() -> None:
    p = np.array([0.7, 0.2, 0.1])
    off = [np.mean([abs(private(p, e, KEY, b"%d" % n)[0] - 0.7) for n in range(500)]) for e in (1.0, 10.0, 100.0)]
    assert off[0] > 2 * off[1] > 4 * off[2]


def test_repeats_tell_the_same() -> None:
    p = np.array([0.7, 0.2, 0.1])
    assert (private(p, 1.0, KEY, b"a") == private(p, 1.0, KEY, b"a")).all()
    assert not np.allclose(private(p, 1.0, KEY, b"a"), private(p, 1.0, KEY, b"b"))


def test_composition_is_the_smaller_of_two_bounds() -> None:
    assert composed(3.0, 4.5) == 3.0, "one position of 3: the plain sum"
    # 10,000 positions of 0.1: plainly 1,000; rho = 50, so 50 + 2 sqrt(50 ln 10^6) = 102.6.
    assert composed(1_000.0, 50.0) == pytest.approx(102.57, abs=0.01)


def test_a_budget_is_spent_by_one_subject_and_not_by_another() -> None:
    ledger = Ledger(10.0)
    granted = [ledger.spend("account:ada", 4.0) for _ in range(4)]
    assert granted == [True, True, False, False]
    assert (ledger.spent("account:ada"), ledger.exhausted("account:ada", 4.0)) == (8.0, True)
    assert not ledger.exhausted("account:ada", 2.0)
    assert ledger.spend("account:bob", 4.0)


def test_the_ledger_forgets_who_was_silent_longest() -> None:
    ledger = Ledger(10.0, most=2)
    for subject in ("a", "b", "a", "c"):
        ledger.spend(subject, 1.0)
    assert [ledger.spent(subject) for subject in "abc"] == [2.0, 0.0, 1.0]
