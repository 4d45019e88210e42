"""Same source: two means of one list are told from two of different lists, and no more is said than is known."""

import numpy as np
import pytest

from models.same_source import BANDS, BITS, Sources
from models.snapshot import SnapshotError

SIZE = 64


def world(seed: int, accounts: int, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Accounts with interests of their own: two means of each, from separate prompts."""
    dice = np.random.default_rng(seed)
    interests = 0.25 * dice.standard_normal((accounts, SIZE)) * np.linspace(1.5, 0.1, SIZE)
    noise = 0.6 * dice.standard_normal((2, accounts, SIZE)) / np.sqrt(prompts)
    return interests + noise[0], interests + noise[1]


def taught(prompts: int = 40, seed: int = 1) -> tuple[Sources, np.ndarray, np.ndarray]:
    before, after = world(seed, 400, prompts)
    sources = Sources()
    sources.learn(before, after, np.full(400, float(prompts)), np.full(400, float(prompts)))
    sources.fit(np.concatenate((before, after)), np.full(800, float(prompts)))
    return sources, before, after


def factors(sources: Sources, one: np.ndarray, other: np.ndarray, prompts: float) -> np.ndarray:
    n = np.full(len(one), prompts)
    return sources.log_bayes_factor(sources.place(one), sources.place(other), n, n)


def test_one_list_is_told_from_two() -> None:
    sources, before, after = taught()
    same = factors(sources, before, after, 40)
    apart = factors(sources, before[:-1], after[1:], 40)
    assert np.mean(same > 0) > 0.95
    assert np.mean(apart < 0) > 0.95


def test_the_factor_is_honest_about_strangers() -> None:
    """Of strangers at most one in k gets a Bayes factor of k and more (Markov; two standard errors allowed)."""
    sources, before, after = taught(prompts=10)
    strangers = np.concatenate([factors(sources, before, np.roll(after, shift, axis=0), 10) for shift in range(1, 20)])
    for k in (3, 10, 30):
        assert np.mean(strangers >= np.log(k)) <= 1 / k + 2 * np.sqrt(1 / k / 400)


def test_few_prompts_say_little() -> None:
    sources, before, after = taught(prompts=40)
    many = factors(sources, before, after, 40).mean()
    few = factors(sources, before, after, 4).mean()
    assert 0 < few < 0.6 * many


def test_means_of_one_list_share_a_region_far_more_often_than_others() -> None:
    sources, before, after = taught()
    one, other = sources.regions(sources.place(before)), sources.regions(sources.place(after))
    assert one.shape == (400, BANDS)
    assert one.min() >= 0
    assert one.max() < 2**BITS
    together = (one == other).any(axis=1).mean()
    strangers = (one == np.roll(other, 1, axis=0)).any(axis=1).mean()
    assert together > 0.9
    assert strangers < 0.25


def test_the_variance_within_is_learned_from_stretches() -> None:
    sources, *_ = taught()
    assert np.sqrt(np.diag(sources.within / sources.blocks)).mean() == pytest.approx(0.6, rel=0.1)


def test_without_accounts_nothing_is_known() -> None:
    sources = Sources()
    sources.fit(np.zeros((1, SIZE)), np.ones(1))
    assert sources.place(np.zeros((3, SIZE))).shape == (3, 0)


def test_a_snapshot_goes_on_where_it_was_taken() -> None:
    sources, before, _ = taught()
    again = Sources.restore(sources.snapshot())
    again.fit(before, np.full(400, 40.0))
    sources.fit(before, np.full(400, 40.0))
    assert again.place(before[:5]).tolist() == sources.place(before[:5]).tolist()


@pytest.mark.parametrize("stored", [b"", b"short", bytes(24), b"\x00" * 25])
def test_what_is_no_snapshot_is_refused(stored: bytes) -> None:
    with pytest.raises(SnapshotError, match="no snapshot of sources"):
        Sources.restore(stored)
