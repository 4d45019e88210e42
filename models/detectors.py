"""DETECTORS: every detector an ensemble can be made of, by name."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Final, TypeAlias

from models.detector import Member
from models.ecod import Ecod
from models.half_space_trees import HalfSpaceTrees
from models.mahalanobis import Mahalanobis
from models.river_detector import NAMES, RiverDetector

Build: TypeAlias = Callable[[tuple[str, ...], int], Member]
"""Makes a detector of feature names and a seed."""


def _river(name: str, features: tuple[str, ...], seed: int) -> Member:
    return RiverDetector(features, name, seed)


DETECTORS: Final[dict[str, Build]] = {
    "ecod": lambda features, _: Ecod(features),
    "mahalanobis": lambda features, _: Mahalanobis(features),
    "half_space_trees": lambda features, seed: HalfSpaceTrees(features, seed=seed),
    **{f"river.{name}": partial(_river, name) for name in NAMES},
}
"""One line adds a detector. All of River's are here as `river.LODA` and the like."""


def build(name: str, features: tuple[str, ...], seed: int = 0) -> Member:
    """The detector of that name, having learned nothing. Raises `ValueError` for a name not in the table."""
    if name not in DETECTORS:
        near = get_close_matches(name, DETECTORS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(DETECTORS)}"
        raise ValueError(f"unknown detector {name!r}{hint}")
    return DETECTORS[name](features, seed)
