"""A campaign as a picture: who shares what, small enough to look at."""

from pathlib import Path

import numpy as np
import pytest

from streams.campaign import Campaign, Member, Shared
from streams.constellation import MOST_STARS, constellation

CARD, PLACE, SETTINGS, TOPIC = (
    Shared("payment", 1, 0.5, 0.0001), Shared("place", 2, 0.25, 0.001), Shared("settings", 3, 1.0, 0.01),
    Shared("topic", 4, 0.9, 0.02),
)  # fmt: skip
CAMPAIGN = Campaign(id="c0", found_at=0, at=0, members=4, score=0.97, shared=(SETTINGS, TOPIC, CARD, PLACE))


def member(name: str, requests: float) -> Member:
    return Member(name, 1.0, requests, 0)


def test_accounts_that_share_the_same_are_one_star() -> None:
    members = [member("a", 30), member("b", 10), member("c", 5), member("d", 1)]
    held = {"a": {1, 3}, "b": {1, 3}, "c": {3, 2}, "d": {3}}
    found = constellation(CAMPAIGN, members, held)
    # Topics are in nobody's memory, so they are counted and not drawn.
    assert [trait.kind for trait in found.traits] == ["settings", "payment", "place"]
    assert found.unseen == 1
    assert [(star.accounts, star.requests, star.holds) for star in found.stars] == [
        (("a", "b"), 40, (1.0, 1.0, 0.0)), (("c",), 5, (1.0, 0.0, 1.0)), (("d",), 1, (1.0, 0.0, 0.0)),
    ]  # fmt: skip


def many(accounts: int = 500) -> tuple[Campaign, list[Member], dict[str, set[int]]]:
    """Accounts that share settings, and each some of fourteen prompts of their own: all different."""
    dice = np.random.default_rng(3)
    prompts = [Shared("prompt", 100 + n, 0.3, 0.0005) for n in range(14)]
    shared = (SETTINGS, Shared("stack", 4, 0.8, 0.002), *prompts)
    held = {
        f"acct-{n}": {3} | ({4} if n % 5 else set()) | {100 + int(i) for i in np.flatnonzero(dice.random(14) < 0.3)}
        for n in range(accounts)
    }
    campaign = Campaign(id="c1", found_at=0, at=0, members=accounts, score=0.99, shared=shared)
    return campaign, [member(name, 400 - n / 2) for n, name in enumerate(held)], held


def test_five_hundred_accounts_are_few_stars_and_none_is_lost() -> None:
    campaign, members, held = many()
    found = constellation(campaign, members, held)
    assert 1 < len(found.stars) <= MOST_STARS
    assert sorted(name for star in found.stars for name in star.accounts) == sorted(held)
    # What tells stars apart is all or nothing; the other traits say how many of a star's accounts have them.
    for star in found.stars:
        assert star.holds[0] == 1.0
        assert star.holds[1] in (0.0, 1.0)
    for trait, shared in enumerate(found.traits):
        having = sum(star.holds[trait] * len(star.accounts) for star in found.stars)
        assert having == pytest.approx(sum(shared.trait in own for own in held.values()))


def test_nobody_and_nothing_shared_are_no_error() -> None:
    assert constellation(CAMPAIGN, [], {}).stars == ()
    found = constellation(CAMPAIGN, [member("a", 1)], {"a": set()})
    assert (found.traits, len(found.stars), found.unseen) == ((), 1, 4)


def test_it_is_drawn_with_everybody_counted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="make .venv/pictures installs matplotlib")
    from streams.starmap import draw

    found = constellation(*many())
    drawn = draw(found, tmp_path / "campaign.svg").read_bytes()
    assert b"<svg" in drawn
    assert draw(found, tmp_path / "again.svg").read_bytes() == drawn
    assert len(drawn) < 500_000
    assert draw(found, tmp_path / "campaign.png").read_bytes().startswith(b"\x89PNG")
    assert draw(constellation(CAMPAIGN, [], {}), tmp_path / "nobody.png").exists()
    with pytest.raises(ValueError, match=r"campaign.gif: a picture ends in .svg or .png"):
        draw(found, tmp_path / "campaign.gif")
