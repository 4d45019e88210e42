"""Prompts: the table of sketches that simulated requests draw from."""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.request import Sketch
from gateway.sketch import VERSION, sketch, sketch_many

from .accounts import dice_for, luck_of

Uints = NDArray[np.uint64]

TEMPLATE_SHARE: Final = 0.05
"""A band or prefix that at least this share of a pool has belongs to the pool's template."""


class Drawn(NamedTuple):
    """Sketches as columns: prefix hashes, eight bands each, topics (64 bytes each, joined), lengths in characters."""

    prefix: Uints
    bands: Uints
    topics: bytes
    chars: NDArray[np.int64]


class Prompts:
    """Texts by pool, sketched once, and any number of variations of each.

    Sketching takes as long as writing twenty requests, so a stream of millions is not sketched text by text. A
    **variation** of a prompt stands for the same text with other names and numbers: what the pool's texts have in
    common (the hash of a long template, the bands that many of them share) stays; the rest of prefix and bands is
    drawn anew from the variation's number; the topic vector moves a little. Variation 0 is the prompt word for word.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pools: dict[str, range] = {}
        self._systems: dict[str, str] = {}
        self._prefix: list[int] = []
        self._bands: list[tuple[int, ...]] = []
        self._topics: list[bytes] = []
        self._chars: list[int] = []
        self._cues: list[tuple[str, ...]] = []
        self._keeps_prefix: list[bool] = []
        self._keeps_band: list[tuple[bool, ...]] = []
        self._table: _Table | None = None

    def pool(self, name: str, size: int, text: Callable[[Random], str]) -> range:
        """The rows of a pool of `size` texts, made when first asked for."""
        if name not in self._pools:
            luck = luck_of(dice_for(self._seed, "prompt", name))
            self.add(name, [text(luck) for _ in range(size)])
        return self._pools[name]

    def add(self, name: str, texts: Sequence[str]) -> range:
        """Sketches texts into a new pool and returns its rows."""
        sketches = sketch_many(texts, [None] * len(texts))
        first = len(self._prefix)
        least = max(2.0, TEMPLATE_SHARE * len(texts))
        prefixes = [int(s.prefix, 16) for s in sketches]
        self._prefix += prefixes
        self._keeps_prefix += _common(np.array(prefixes, np.uint64), least).tolist()
        bands = np.array([s.bands for s in sketches], np.uint64).reshape(-1, 8)
        kept = np.stack([_common(bands[:, i], least) for i in range(8)], axis=1)
        self._keeps_band += [tuple(row) for row in kept.tolist()]
        self._bands += [s.bands or (0,) * 8 for s in sketches]
        self._topics += [s.topic for s in sketches]
        self._chars += [s.chars for s in sketches]
        self._cues += [s.cues or () for s in sketches]
        self._pools[name] = range(first, len(self._prefix))
        self._table = None
        return self._pools[name]

    def system(self, text: str) -> str | None:
        """The hash of a system prompt."""
        if text not in self._systems:
            self._systems[text] = sketch("", text).system or ""
        return self._systems[text] or None

    def chars(self, rows: range) -> NDArray[np.int64]:
        """Lengths of a pool's texts, in characters."""
        return np.array(self._chars[rows.start : rows.stop], np.int64)

    def sketches(
        self, prompt: NDArray[np.int32], variation: Uints, systems: Iterable[str | None]
    ) -> list[Sketch | None]:
        """One sketch for each pair of prompt row and variation, with the system prompt's hash beside it.

        No sketch where the prompt row is negative.
        """
        drawn = self.columns(prompt, variation)
        rows = zip(
            systems,
            drawn.prefix.tolist(),
            drawn.bands.tolist(),
            range(0, len(drawn.topics), 64),
            drawn.chars.tolist(),
            prompt.tolist(),
            strict=True,
        )
        return [
            Sketch(
                v=VERSION,
                system=system,
                prefix=f"{prefix_:016x}",
                bands=tuple(bands_),
                topic=drawn.topics[at : at + 64],
                chars=chars_,
                cues=self._cues[row],
            )
            if row >= 0
            else None
            for system, prefix_, bands_, at, chars_, row in rows
        ]

    def columns(self, prompt: NDArray[np.int32], variation: Uints) -> Drawn:
        """What differs from sketch to sketch, for pairs of prompt row and variation."""
        if self._table is None:
            self._table = _Table(self)
        table = self._table
        varied = np.asarray(variation != 0)
        number = _mixed(variation ^ _mixed(table.prefix[prompt]))[:, None]
        dice = _mixed(number + np.arange(1, 13, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        prefix = np.where(varied & ~table.keeps_prefix[prompt], dice[:, 8], table.prefix[prompt])
        bands = np.where(varied[:, None] & ~table.keeps_band[prompt], dice[:, :8] >> np.uint64(32), table.bands[prompt])
        topics = table.topics[prompt]
        # Eight coordinates a draw, moved by at most 4 (a topic's coordinates have a standard deviation of 16).
        moves = np.ascontiguousarray(_mixed(dice[:, :8] ^ dice[:, 9:10])).view(np.int8) >> 5
        moved = topics + np.where(varied[:, None] & (topics != 0), moves, 0)
        blob = np.clip(moved, -127, 127).astype(np.int8).tobytes()
        chars = table.chars[prompt] + np.where(varied, (dice[:, 10] % np.uint64(7)).astype(np.int64), 0)
        return Drawn(prefix, bands, blob, chars)

    def cues(self, row: int) -> tuple[str, ...]:
        """The cues of a prompt, whatever its variation."""
        return self._cues[row]


class _Table:
    """The pools as arrays."""

    def __init__(self, prompts: Prompts) -> None:
        self.prefix = np.array(prompts._prefix, np.uint64)
        self.bands = np.array(prompts._bands, np.uint64).reshape(-1, 8)
        self.topics = np.frombuffer(b"".join(prompts._topics), np.int8).reshape(-1, 64).astype(np.int16)
        self.chars = np.array(prompts._chars, np.int64)
        self.keeps_prefix = np.array(prompts._keeps_prefix, bool)
        self.keeps_band = np.array(prompts._keeps_band, bool).reshape(-1, 8)


def _common(values: Uints, least: float) -> NDArray[np.bool_]:
    """Which values occur at least `least` times."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[which] >= least


def _mixed(values: Uints) -> Uints:
    """SplitMix64's finaliser: uniform 64-bit numbers from counters (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
