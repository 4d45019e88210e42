"""Sketch: a prompt as numbers, never as words.

What a sketch gives away. No word of the prompt can be read from it, but a guess can be tested: whoever
guesses a whole system prompt or the first 256 characters of a message can confirm it by its hash, unless
the hashes are keyed (`key`); a guessed prompt can be confirmed by its bands, keyed or not; and the topic
tells roughly what a prompt is about to anybody who has texts to compare it with. Cues say what their names
say. So a sketch is far less than a prompt, and still not public.

The recipe, VERSION 1, gives the same bytes in every process and on every machine (only characters that are
newer than the Unicode version of Python may differ):

- Text is cut to its first and last 8,192 characters and put into NFC; every run of white space becomes one
  space.
- `system` and `prefix` are BLAKE2b hashes of 8 bytes over that text, case kept.
- `bands` and `topic` work on its lower-case UTF-8. A word begins at a letter or digit after something else;
  from U+0800 on, where many scripts need no spaces, every character begins one.
- A shingle is the 16 bytes from the beginning of a word. Of 16 MinHash values over the shingles each two
  make a band: texts of Jaccard similarity s share at least one of the 8 with probability 1 - (1 - s^2)^8
  (Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman, Ullman, "Mining of
  Massive Datasets", section 3.4). A band of 0 means that there was no word: it matches nothing.
- `topic` sums over words and pairs of neighbours. A hash gives each its one of 64 coordinates and its sign
  (Weinberger and others, "Feature hashing for large scale multitask learning", 2009), and its weight grows
  with its length and the logarithm of its count. The sum is scaled to length 127, so that means over
  requests are comparable; without a word it is all zero.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from .cues import cues_in
from .request import Sketch

VERSION: Final = 1
"""Version of the recipe. Only sketches of one version can be compared."""

PREFIX_CHARS: Final = 256
"""So many characters of the last user message, white space collapsed, go into `prefix`."""

KEPT_CHARS: Final = 8_192
"""So many characters from each end of a text are looked at: it bounds the work for a long one."""

BANDS: Final = 8
DIMENSIONS: Final = 64
LENGTH: Final = 127
"""Euclidean length of `topic`, up to rounding of its coordinates."""

_Words = npt.NDArray[np.uint64]

_SHINGLE: Final = 16
_GAP: Final = bytes(_SHINGLE)  # Between texts, so that no shingle reaches into the next one.
_CHUNK: Final = 32 * 1024  # Bytes at a time: the arrays of one chunk stay in the cache.
_LONGEST_CHUNK: Final = 4_096  # Texts at a time; 16 bits number them.


def sketch(text: str, instructions: str | None = None, *, key: bytes | None = None) -> Sketch:
    """The sketch of one prompt: `text` is the last user message, `instructions` the system prompt.

    Any string will do, lone surrogates included. `key` (up to 64 bytes) makes `system` and `prefix`
    useless to whoever does not have it; all gateways of one deployment need the same.
    """
    return sketch_many((text,), (instructions,), key=key)[0]


def sketch_many(texts: Sequence[str], instructions: Sequence[str | None], *, key: bytes | None = None) -> list[Sketch]:
    """The sketches of many prompts, each as `sketch` would give it; several times faster than one by one."""
    # Most system prompts of a batch are the same few.
    systems = {each: _system(each, key) for each in set(instructions) if each}
    spoken = [_collapse(text) for text in texts]
    lowered = [text.lower() for text in spoken]
    sketches: list[Sketch] = []
    for first, last in _chunks(lowered):
        bands, topics = _project([text.encode("utf-8", "surrogatepass") for text in lowered[first:last]])
        for index, row, topic in zip(range(first, last), bands.tolist(), topics, strict=True):
            system, system_cues = systems.get(instructions[index] or "", (None, frozenset[str]()))
            sketches.append(
                Sketch(
                    v=VERSION,
                    system=system,
                    prefix=_hash(spoken[index][:PREFIX_CHARS], b"prefix", key),
                    bands=tuple(row),
                    topic=topic.tobytes(),
                    chars=len(texts[index]),
                    cues=tuple(sorted(cues_in(lowered[index]) | system_cues)),
                )
            )
    return sketches


def _system(instructions: str, key: bytes | None) -> tuple[str, frozenset[str]]:
    text = _collapse(instructions)
    return _hash(text, b"system", key), cues_in(text.lower())


def _collapse(text: str) -> str:
    if len(text) > 2 * KEPT_CHARS:
        text = f"{text[:KEPT_CHARS]} {text[-KEPT_CHARS:]}"
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def _hash(text: str, person: bytes, key: bytes | None) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key or b"", person=person).hexdigest()


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    first, size = 0, 0
    for index, text in enumerate(texts):
        if index > first and (size + len(text) > _CHUNK or index - first == _LONGEST_CHUNK):
            yield first, index
            first, size = index, 0
        size += len(text)
    if first < len(texts):
        yield first, len(texts)


def _splitmix64(seed: int, count: int) -> _Words:
    """Constants of the recipe (Steele and others, "Fast splittable pseudorandom number generators", 2014)."""
    drawn = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
        drawn.append(z ^ z >> 31)
    return np.array(drawn, dtype=np.uint64)


_ODD: Final = _splitmix64(1, 8) | np.uint64(1)
_ROWS: Final = _splitmix64(2, 2 * BANDS)[:, None]
_ROW_FACTORS: Final = (_splitmix64(3, 2 * BANDS) | np.uint64(1))[:, None]
_BAND_SEEDS: Final = _splitmix64(4, BANDS)[:, None]
_MASKS: Final = np.array([2 ** (8 * n) - 1 for n in range(9)], dtype=np.uint64)

_IN_WORD: Final = np.zeros(256, dtype=np.bool_)
_IN_WORD[[*b"0123456789abcdefghijklmnopqrstuvwxyz", *range(0x80, 0x100)]] = True
# U+0080-00BF, U+2000-2FFF and U+F000-FFFF are punctuation and symbols, all but a few letters.
_SYMBOLS: Final = ((0xC2, 2), (0xE2, 3), (0xEF, 3))

# Whole numbers as weights: sums of them are exact, so no machine rounds another way than the next.
# A word's weight grows with its length, for short words are the glue of every topic; 1 to 15.
_WEIGHT: Final = np.array([1, 1, 2, 6, 9, 11, 13, *[14] * (2 * _SHINGLE)], dtype=np.uint64)
_DAMPED: Final = np.array([0, *(round(16 * (1 + math.log(n))) for n in range(1, 256))], dtype=np.int64)


def _mix(x: _Words) -> _Words:
    """Every bit of the result hangs on every bit of `x`: the finaliser of MurmurHash3 (Appleby, 2011)."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


def _project(texts: Sequence[bytes]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int8]]:
    """Bands (texts x 8) and topics (texts x 64) of lower-case UTF-8."""
    joined = _GAP + _GAP.join(texts) + _GAP
    content = np.frombuffer(joined, dtype=np.uint8)
    begins, ends = _word_bounds(content, ascii_only=joined.isascii())
    limits = np.cumsum([len(text) + len(_GAP) for text in texts]) + (len(_GAP) - 1)
    counts = np.searchsorted(begins, limits)
    counts[1:] -= counts[:-1].copy()

    # The 16 bytes from each beginning, as two little-endian numbers read at unaligned places.
    eights = np.ndarray((len(joined) - 7,), dtype="<u8", buffer=joined, strides=(1,))
    low, high = eights[begins], eights[begins + 8]
    return _bands(low, high, counts), _topics(low, high, ends - begins, counts)


def _word_bounds(
    content: npt.NDArray[np.uint8], *, ascii_only: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each word begins and ends; `content` begins and ends with a gap."""
    inside = _IN_WORD[content]
    before = np.zeros_like(inside)
    if ascii_only:
        before[1:] = inside[:-1]
        return np.flatnonzero(inside & ~before), np.flatnonzero(before & ~inside)
    for lead, size in _SYMBOLS:
        places = np.flatnonzero(content == lead)
        for step in range(size):
            inside[places + step] = False
    before[1:] = inside[:-1]
    alone = inside & (content >= 0xE0)
    return np.flatnonzero(inside & ~before | alone), np.flatnonzero(before & (~inside | alone))


def _bands(low: _Words, high: _Words, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    bands = np.zeros((len(counts), BANDS), dtype=np.uint32)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return bands
    shingles = _mix(low * _ODD[0] + high * _ODD[1])
    firsts = (np.cumsum(counts) - counts)[filled]
    rows = np.minimum.reduceat((shingles ^ _ROWS) * _ROW_FACTORS, firsts, axis=1)
    folded = _mix(rows[0::2] * _ODD[2] + rows[1::2] * _ODD[3] + _BAND_SEEDS) >> np.uint64(32)
    bands[filled] = np.maximum(folded, 1).T
    return bands


def _topics(
    low: _Words, high: _Words, lengths: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int8]:
    size = len(counts)
    if not len(low):
        return np.zeros((size, DIMENSIONS), dtype=np.int8)
    owner = np.repeat(np.arange(size, dtype=np.uint64), counts) << np.uint64(48)
    lengths = np.minimum(lengths, 2 * _SHINGLE)
    word = _mix(
        (low & _MASKS[np.minimum(lengths, 8)]) * _ODD[4]
        + (high & _MASKS[np.minimum(np.maximum(lengths, 8), 16) - 8]) * _ODD[5]
        + lengths.astype(np.uint64)
    )
    weight = _WEIGHT[lengths]
    pair = _mix(word[:-1] * _ODD[6] + word[1:] * _ODD[7])
    pair_weight = (weight[:-1] + weight[1:]) >> np.uint64(1)
    together = owner[:-1] == owner[1:]

    # One number a feature, text (16 bits), hash (44), weight (4), so that one sort counts them all.
    singles = _feature(owner, word, weight)
    pairs = _feature(owner[:-1], pair, pair_weight)[together]
    features = np.concatenate([singles, pairs])
    features.sort()
    fresh = np.ones(len(features) + 1, dtype=np.bool_)
    np.not_equal(features[1:], features[:-1], out=fresh[1:-1])
    edges = np.flatnonzero(fresh)
    times = np.minimum(edges[1:] - edges[:-1], len(_DAMPED) - 1)
    features = features[edges[:-1]]
    amount = (features & np.uint64(15)).astype(np.int64) * _DAMPED[times]

    drawn = (features >> np.uint64(4)).astype(np.int64)
    places = (features >> np.uint64(48)).astype(np.int64) * DIMENSIONS + (drawn & (DIMENSIONS - 1))
    signed = np.where(drawn & DIMENSIONS, amount, -amount)
    sums = np.bincount(places, weights=signed, minlength=size * DIMENSIONS)
    sums = sums.reshape(size, DIMENSIONS)
    norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    topics: npt.NDArray[np.int8] = np.rint(sums * LENGTH / np.maximum(norms, 1)).astype(np.int8)
    return topics


def _feature(owner: _Words, hashed: _Words, weight: _Words) -> _Words:
    return owner | (hashed >> np.uint64(16) & ~np.uint64(15)) | weight
