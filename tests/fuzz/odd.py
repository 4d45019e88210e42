"""Odd: JSON that somebody might send, from a valid message with a few things wrong to no JSON at all.

Written out by hand, for json.dumps writes neither an int of five thousand digits nor the same key twice.
"""

import json
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st


class Raw(NamedTuple):
    """JSON as it is to stand there, valid or not."""

    text: str


CHARACTERS: Final = st.characters(exclude_categories=())
"""Every code point, lone surrogates included."""

WORDS: Final = st.text(CHARACTERS, max_size=40)

_EDGES: Final = (
    *("null", "true", "false", "[]", "{}", '""', "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "5e-324"),
    *("-0", "-0.0", "0", "1", "-1", "0.1", "1.0", "1.7976931348623157e308", "255", "256"),
    *(f"{2**bits + more}" for bits in (31, 32, 53, 63, 64, 1024) for more in (-1, 0, 1)),
    *(f"-{2**bits}" for bits in (31, 53, 63, 64)),
    "9" * 400,
    "9" * 5_000,
    "1." + "0" * 5_000 + "1",
    r'"\ud800"',
    r'"\udfff\ud800 half"',
    r'"\u0000"',
    r'"\ud83d\ude00"',
    '"' + "x" * 600 + '"',
    '"' + "x" * 70_000 + '"',
    '"0123456789abcdef"',
    '"not base64!"',
    "[" * 100 + "]" * 100,
    "[" * 2_000 + "]" * 2_000,
    '{"a":' * 5_000,
    "[" * 100_000,
    "'single'",
    "",
)

_scalars: Final = st.one_of(
    st.sampled_from(_EDGES),
    st.integers().map(str),
    st.floats().map(json.dumps),
    WORDS.map(json.dumps),
)
_INTS: Final = st.sampled_from([each for each in _EDGES if each.lstrip("-").isdecimal()]) | st.integers().map(str)
_FLOATS: Final = st.floats().map(json.dumps) | st.sampled_from(
    [each for each in _EDGES if "e" in each and each[-1].isdigit()]
)
_TEXTS: Final = WORDS.map(json.dumps) | st.sampled_from([each for each in _EDGES if each.startswith('"')])
VALUES: Final = st.recursive(
    _scalars.map(Raw),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=8,
)
"""Anything that may stand for a value, as `written` writes it."""


def written(value: object) -> str:
    """JSON, or nearly. Dicts may be given as lists of pairs in a tuple, so that a key comes twice."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        value = tuple(value.items())
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(name)}:{written(each)}" for name, each in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


@st.composite
def changed(draw: st.DrawFn, value: Any, sane: st.SearchStrategy[object] = VALUES) -> object:
    """A value with up to three things in it dropped, added, doubled or put to something else."""
    for _ in range(draw(st.integers(0, 3))):
        value = _change(draw, value, sane)
    return value


def _change(draw: st.DrawFn, value: Any, sane: st.SearchStrategy[object]) -> Any:
    if isinstance(value, list) and value:
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _change(draw, value[place], sane), *value[place + 1 :]]
    pairs = list(value.items()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else []
    if not pairs or isinstance(value, Raw):
        return draw(_like(value) | sane)
    place = draw(st.integers(0, len(pairs) - 1))
    name, held = pairs[place]
    match draw(st.sampled_from(("put", "put", "deeper", "drop", "add", "double"))):
        case "put":
            pairs[place] = name, draw(_like(held) | sane)
        case "deeper":
            pairs[place] = name, _change(draw, held, sane)
        case "drop":
            del pairs[place]
        case "add":
            pairs.append((draw(WORDS), draw(sane)))
        case _:
            pairs.append((name, draw(sane)))
    return tuple(pairs)


def _like(value: object) -> st.SearchStrategy[Raw]:
    """Another of its kind: what comes through the first checks is what finds the rest."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _INTS.map(Raw)
    return (_FLOATS if isinstance(value, float) else _TEXTS).map(Raw)


@st.composite
def cut(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes with up to four pieces taken out, put in, or written over."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(raw)))
        gone = draw(st.sampled_from((0, 1, 1, 2, 8, 1_000)))
        raw = raw[:place] + draw(st.binary(max_size=9)) + raw[place + gone :]
    return raw


def encoded(text: str) -> bytes:
    """UTF-8, in which lone surrogates stand as if they were characters."""
    return text.encode("utf-8", "surrogatepass")


def messages(*examples: bytes) -> st.SearchStrategy[bytes]:
    """Like these JSON messages, and ever less so."""
    example = st.sampled_from(examples)
    return st.one_of(
        example.flatmap(lambda raw: changed(json.loads(raw))).map(written).map(encoded),
        example.flatmap(cut),
        VALUES.map(written).map(encoded),
        st.binary(max_size=200),
    )


def clear(error: Exception, *words: str) -> None:
    """What a person is told is short and names the place; `words` are in it."""
    text = str(error)
    assert 0 < len(text) < 1_000
    for word in words:
        assert word in text
