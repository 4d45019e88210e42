"""Prompts: any text has a sketch, the same alone and among others."""

from typing import Final

from hypothesis import strategies as st

from gateway.request import encode
from gateway.sketch import BANDS, DIMENSIONS, KEPT_CHARS, sketch, sketch_many
from tests.stories import request

from .odd import CHARACTERS

_PIECES: Final = st.sampled_from(
    (
        *("Why is the sky blue? ", " ", "\x00", "\ud800", "\udfff", "\u0130", "\ufb03", "e\u0301", "\u202e", "\uffff"),
        *("\u1100\u1161\u11a8", "\u4e16\u754c", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "<think>"),
        *("x" * KEPT_CHARS, " \n\t" * 6_000, "a" * (2 * KEPT_CHARS), "z" * (2 * KEPT_CHARS + 1), "A\u0300" * 9_000),
    )
)  # fmt: skip
TEXTS: Final = st.lists(_PIECES | st.text(CHARACTERS, max_size=60), max_size=8).map("".join)
PROMPTS: Final = st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=5)


def prompts(given: list[tuple[str, str | None]]) -> None:
    """Some prompts at once and one by one: the shape of a sketch, and not a word in it."""
    texts, instructions = [text for text, _ in given], [system for _, system in given]
    together = sketch_many(texts, instructions)
    for text, system, one in zip(texts, instructions, together, strict=True):
        assert one == sketch(text, system)
        assert (len(one.bands), len(one.topic), one.chars) == (BANDS, DIMENSIONS, len(text))
        assert (one.system is None) == (not system)
        assert encode(request(sketch=one))
