"""Probabilities in the three shapes of OpenAI's API, told otherwise."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.probabilities import Telling, retold


def halves(names: list[str], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tells half of each: a log-probability falls by ln 2."""
    assert len(names) == len(set(names)) == len(p)
    assert p.sum() <= 1 + 1e-9
    return p / 2


HALVES = Telling(halves, 20)


def entry(token: str, p: float, **more: object) -> dict[str, Any]:
    return {"token": token, "bytes": list(token.encode()), "logprob": math.log(p), **more}


def test_a_chats_entries_are_retold_and_the_chosen_token_has_one_value() -> None:
    said = {
        "content": [entry("42", 0.5, top_logprobs=[entry("42", 0.5), entry("43", 0.25)]), entry("!", 0.5)],
        "refusal": None,
    }
    assert retold(said, HALVES) == {
        "content": [
            entry("42", 0.25, top_logprobs=[entry("42", 0.25), entry("43", 0.125)]),
            entry("!", 0.25),
        ],
        "refusal": None,
    }


def test_completions_are_retold_and_a_first_token_without_a_number_stays() -> None:
    half, quarter, eighth = map(math.log, (0.5, 0.25, 0.125))
    said = {
        "tokens": ["Once", " upon"],
        "token_logprobs": [None, quarter],
        "top_logprobs": [None, {" a": half, " upon": quarter}],
        "text_offset": [0, 4],
    }
    assert retold(said, HALVES) == said | {
        "token_logprobs": [None, eighth],
        "top_logprobs": [None, {" a": quarter, " upon": eighth}],
    }
    alone = {"tokens": ["x"], "token_logprobs": [half], "top_logprobs": None}
    assert retold(alone, HALVES) == alone | {"token_logprobs": [quarter]}


def test_the_responses_api_has_a_list_of_entries() -> None:
    assert retold([entry("42", 0.5, top_logprobs=[])], HALVES) == [entry("42", 0.25, top_logprobs=[])]
    assert retold([], HALVES) == []


def test_the_likeliest_alternatives_alone_are_listed() -> None:
    others = [entry("x", 0.1), entry("y", 0.6), entry("z", 0.2)]
    told = retold([entry("x", 0.1, top_logprobs=others)], Telling(halves, 2))
    assert told == [entry("x", 0.05, top_logprobs=[entry("y", 0.3), entry("z", 0.1)])]
    said = {
        "tokens": ["x"],
        "token_logprobs": [math.log(0.1)],
        "top_logprobs": [{"x": math.log(0.1), "y": math.log(0.6)}],
    }
    assert retold(said, Telling(halves, 1)) == {
        "tokens": ["x"],
        "token_logprobs": [math.log(0.05)],
        "top_logprobs": [{"y": math.log(0.3)}],
    }


@pytest.mark.parametrize(
    "said",
    [
        {"content": [{"token": "x"}], "surprise": 1},
        {"content": [{"token": 3, "logprob": -1.0}]},
        {"content": [{"token": "x", "logprob": "-1"}]},
        {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": {"y": -2.0}}]},
        {"content": ["x"]},
        {"tokens": ["a", "b"], "token_logprobs": [-1.0]},
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [[-2.0]]},
        "text",
        3,
        None,
    ],
)
def test_what_is_not_understood_is_not_told(said: object) -> None:
    assert retold(said, HALVES) is None


def test_one_position_withheld_withholds_all() -> None:
    told = iter([np.array([0.5]), None])
    said = {"content": [entry("a", 0.9), entry("b", 0.9)]}
    assert retold(said, Telling(lambda names, p: next(told), 20)) is None
    assert retold([entry("a", 0.9)], Telling(lambda names, p: None, 20)) == []


def test_as_good_as_never_stays_a_number_and_rounding_makes_no_sum_above_one() -> None:
    said = {"content": [entry("a", 1.0, top_logprobs=[entry("a", 1.0), {"token": "b", "logprob": -9999.0}])]}
    (told,) = retold(said, HALVES)["content"]  # type: ignore[index]
    assert told["top_logprobs"][1] == {"token": "b", "logprob": -9999.0}
    above = [{"token": "a", "logprob": math.log(0.8), "top_logprobs": [{"token": "b", "logprob": math.log(0.4)}]}]
    assert retold(above, HALVES) == [
        {
            "token": "a",
            "logprob": pytest.approx(math.log(0.8 / 1.2 / 2)),
            "top_logprobs": [{"token": "b", "logprob": pytest.approx(math.log(0.4 / 1.2 / 2))}],
        }
    ]
