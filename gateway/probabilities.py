"""Probabilities: where they stand in an answer of an OpenAI-compatible API, and how they are told otherwise.

Three shapes: chat (`{"content": [{token, logprob, top_logprobs}]}`), completions (`{"tokens", "token_logprobs",
"top_logprobs": [{token: logprob}]}`) and the Responses API (a list of the chat's entries). What is not understood is
not told, for it may hold the truth.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Retell = Callable[[list[str], NDArray[np.float64]], NDArray[np.float64] | None]
"""What is said in place of the probabilities at one position: different names, the chosen one first, and what each has,
with a sum of at most 1. None withholds those of the whole answer, or of the whole event in a stream."""

_LEAST_LOGPROB: Final = -9999.0
"""What OpenAI's API says for as good as never."""


class _Withheld(Exception):  # noqa: N818  (it is no error: it ends a walk)
    pass


class Telling(NamedTuple):
    """How probabilities are told: in which numbers, and of how many alternatives at most, the likeliest ones."""

    retell: Retell
    alternatives: int


def retold(said: object, telling: Telling) -> object:
    """A `logprobs` value of any of the three shapes, retold; None, or an empty list, where it is withheld.

    The chosen token has the same value wherever it stands. Places without a number (vLLM gives the first token none)
    stay.
    """
    try:
        if isinstance(said, list):
            return [_entry(each, telling) for each in said]
        if not isinstance(said, dict):
            return None
        if "token_logprobs" in said:
            return said | _completion(said, telling)
        if said.keys() <= {"content", "refusal"}:
            return {
                name: None if entries is None else [_entry(each, telling) for each in _list(entries)]
                for name, entries in said.items()
            }
    except _Withheld:
        pass
    return [] if isinstance(said, list) else None


def _entry(entry: object, telling: Telling) -> dict[str, object]:
    if not isinstance(entry, dict):
        raise _Withheld
    others = _dicts(entry.get("top_logprobs") or [])
    others = sorted(others, key=lambda each: _number(each.get("logprob")), reverse=True)[: telling.alternatives]
    listed = [entry, *others]
    new = _new([(_name(each), each.get("logprob")) for each in listed], telling.retell)
    changed = [each | {"logprob": new.get(_name(each), each.get("logprob"))} for each in listed]
    return changed[0] | ({"top_logprobs": changed[1:]} if "top_logprobs" in entry else {})


def _completion(said: Mapping[str, object], telling: Telling) -> dict[str, object]:
    tokens, own = _list(said.get("tokens")), _list(said.get("token_logprobs"))
    others = _list(said.get("top_logprobs") or [None] * len(own))
    if not len(tokens) == len(own) == len(others):
        raise _Withheld
    told_own: list[object] = []
    told_others: list[object] = []
    for token, logprob, top in zip(tokens, own, others, strict=True):
        if not isinstance(token, str) or not isinstance(top, dict | None):
            raise _Withheld
        ranked = sorted((top or {}).items(), key=lambda each: _number(each[1]), reverse=True)[: telling.alternatives]
        new = _new([(token, logprob), *ranked], telling.retell)
        told_own.append(new.get(token, logprob))
        told_others.append(top and {name: new.get(name, value) for name, value in ranked})
    told: dict[str, object] = {"token_logprobs": told_own}
    return told | ({"top_logprobs": told_others} if said.get("top_logprobs") is not None else {})


def _new(pairs: list[tuple[str, object]], retell: Retell) -> dict[str, float]:
    """New log-probabilities by name; what had none is left out."""
    known: dict[str, float] = {}
    for name, logprob in pairs:
        if logprob is None:
            continue
        known.setdefault(name, math.exp(min(_number(logprob), 0.0)))
    if not known:
        return {}
    values = np.fromiter(known.values(), np.float64, len(known))
    if not (total := float(values.sum())) > 0:
        return {}
    told = retell(list(known), values / max(total, 1.0))  # Rounding on the way may have made a little more than 1.
    if told is None:
        raise _Withheld
    return {
        name: math.log(value) if value > 0 else _LEAST_LOGPROB for name, value in zip(known, told.tolist(), strict=True)
    }


def _number(logprob: object) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or math.isnan(logprob):
        raise _Withheld
    return float(logprob)


def _name(entry: Mapping[str, object]) -> str:
    """A token by its bytes, where those are known: different halves of a letter have one text."""
    if not isinstance(token := entry.get("token"), str):
        raise _Withheld
    raw = entry.get("bytes")
    return f"{token}\0{raw}" if isinstance(raw, list) else token


def _dicts(value: object) -> list[dict[str, object]]:
    found = _list(value)
    if not all(isinstance(each, dict) for each in found):
        raise _Withheld
    return [each for each in found if isinstance(each, dict)]


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise _Withheld
    return value
