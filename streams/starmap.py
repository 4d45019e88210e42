"""Starmap: a constellation drawn, accounts on the left and what they share on the right."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from models.detector import FloatVector
from models.rarity import GROUP_OF, GROUPS, NAMES

from .constellation import Constellation, Star

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS: Final = (".svg", ".png")

MOST_NAMED: Final = 3
"""Accounts of one star whose names are written out."""

_INCHES: Final = 0.34
"""Height of a row."""


def draw(found: Constellation, out: Path) -> Path:
    """Draw it as SVG or PNG, as the name of the file ends; the same constellation gives the same bytes.

    Raises ValueError for another ending, ImportError without matplotlib (the extra `pictures`), OSError where the file
    cannot be written.
    """
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"{out}: a picture ends in {' or '.join(ENDINGS)}")
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "stillwatch"
    mpl.rcParams["svg.fonttype"] = "none"  # words stay words: they can be searched, and take little room
    from matplotlib import pyplot

    rows = max(len(found.stars), len(found.traits), 4)
    figure, axes = pyplot.subplots(figsize=(12, 2.0 + _INCHES * rows), layout="constrained")
    stars = _apart(len(found.stars))
    traits = _heights(found, stars)
    _edges(axes, found, stars, traits)
    _stars(axes, found, stars)
    _traits(axes, found, traits)
    axes.set_xlim(-0.62, 1.85)
    axes.set_ylim(-0.08, 1.08)
    axes.axis("off")
    campaign = found.campaign
    figure.suptitle(
        f"{campaign.id}: {campaign.members:,} accounts behave as one (score {campaign.score:.2f}, "
        f"{campaign.exposure.requests:,.0f} requests)",
        fontsize="medium",
    )
    figure.supxlabel(_key(found), fontsize="small")
    metadata = {"Date": None} if out.suffix.lower() == ".svg" else {"Software": None}
    figure.savefig(out, dpi=120, metadata=metadata)
    pyplot.close(figure)
    return out


def _key(found: Constellation) -> str:
    said = "circle: accounts, by requests    square: a trait, by rarity    line: how many of the accounts have it"
    return f"{said}    not drawn: {found.unseen} more shared traits" if found.unseen else said


def _heights(found: Constellation, stars: FloatVector) -> FloatVector:
    """Traits by group, and within it where the accounts that have them are: fewer lines cross."""
    holds = np.array([star.holds for star in found.stars]).reshape(len(found.stars), len(found.traits))
    weights = holds * np.array([len(star.accounts) for star in found.stars])[:, None]
    middle = (weights * stars[:, None]).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-9)
    order = np.lexsort((-middle, [_group(found, i) for i in range(len(found.traits))]))
    heights = np.zeros(len(found.traits))
    heights[order] = _apart(len(order))
    return heights


def _apart(count: int) -> FloatVector:
    """Heights from top to bottom; one alone is in the middle."""
    return np.linspace(1, 0, count) if count != 1 else np.array([0.5])


def _group(found: Constellation, trait: int) -> int:
    return int(GROUP_OF[NAMES.index(found.traits[trait].kind)])


def _edges(axes: "Axes", found: Constellation, stars: FloatVector, traits: FloatVector) -> None:
    for star, height in zip(found.stars, stars.tolist(), strict=True):
        for trait, share in enumerate(star.holds):
            if share > 0:
                axes.plot(
                    (0, 1), (height, traits[trait]), color=f"C{_group(found, trait)}",
                    linewidth=0.4 + 2.2 * share, alpha=0.15 + 0.45 * share, solid_capstyle="round", zorder=1,
                )  # fmt: skip


def _stars(axes: "Axes", found: Constellation, stars: FloatVector) -> None:
    most = max((star.requests for star in found.stars), default=1.0)
    for star, height in zip(found.stars, stars.tolist(), strict=True):
        size = 30 + 370 * star.requests / max(most, 1.0)
        axes.scatter([0], [height], s=size, color="#444444", zorder=3)
        axes.text(-0.05, height, _named(star), ha="right", va="center", fontsize=8, parse_math=False)


def _named(star: Star) -> str:
    served = f"{star.requests:,.0f} requests"
    if len(star.accounts) <= MOST_NAMED:
        return f"{', '.join(name if len(name) <= 24 else name[:23] + '…' for name in star.accounts)}: {served}"
    return f"{len(star.accounts):,} accounts: {served}"


def _traits(axes: "Axes", found: Constellation, traits: FloatVector) -> None:
    named = set()
    for number, (shared, height) in enumerate(zip(found.traits, traits.tolist(), strict=True)):
        rarity = min(max(-np.log(max(shared.background, 1e-6)), 0.0), 12.0)
        group = _group(found, number)
        label = None if group in named else GROUPS[group]
        named.add(group)
        axes.scatter([1], [height], s=20 + 20 * rarity, marker="s", color=f"C{group}", label=label, zorder=3)
        others = f"1 in {1 / shared.background:,.0f}" if shared.background > 0 else "none"
        text = f"{shared.kind} {shared.trait:016x}: {shared.share:.0%} of its accounts, {others} of others"
        axes.text(1.05, height, text, ha="left", va="center", fontsize=8)
    if named:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(named), fontsize="small", frameon=False)
