"""Traits: what an account showed, as 64-bit hashes that differ from kind to kind."""

from typing import Final

import numpy as np

from models.detector import IntVector
from models.rarity import NAMES

from .distinct import Hashes, mix

STRANDS: Final = 8
"""Generation settings are told apart by three bits of their trait: two that share a strand are seen as one."""

_SALTS: Final = {
    name: mix(np.array([number + 1], dtype=np.uint64) << np.uint64(40))[0] for number, name in enumerate(NAMES)
}


def traits(kind: str, hashes: Hashes) -> Hashes:
    """The traits of one kind for what was shown: equal hashes are equal traits, and never those of another kind."""
    return mix(hashes ^ _SALTS[kind])


def strand(settings: Hashes) -> IntVector:
    """The strand of requests with such settings: a place below STRANDS, from the settings' trait."""
    return strand_of_trait(traits("settings", settings))


def strand_of_trait(trait: Hashes) -> IntVector:
    """The strand of what carries a trait of the kind "settings"."""
    chosen: IntVector = (trait & np.uint64(STRANDS - 1)).astype(np.int64)
    return chosen
