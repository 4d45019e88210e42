"""Families: every way of copying a model that the arena plays, one row each."""

from collections.abc import Iterable
from random import Random
from typing import Final

from . import grammar
from .accounts import Account, Setting
from .attacks import (
    PIPELINE,
    SCENARIOS,
    Scenario,
    anything,
    campaign,
    graded,
    households,
    pool_of_homes,
    reasoned,
    rented,
    rotating,
    servers,
)
from .honest import MODELS, REASONS, Spread
from .prompts import Prompts
from .rhythm import ALWAYS, OFFICE


def _bare(luck: Random) -> str:
    return grammar.grow("word_problem", luck)


def _reworded(luck: Random) -> str:
    """The same demand in other words each time."""
    return grammar.grow("reworded_tags", luck)


def _answered(luck: Random) -> str:
    """What a model wrote, sent back as the next prompt."""
    return "\n".join(grammar.grow("rubric_answer", luck) for _ in range(3 + int(luck.random() * 6)))


def _pictured(luck: Random) -> str:
    return grammar.grow("pictured", luck)


# The row that the others vary. Plan, pathway, client and billing country are drawn as for honest accounts, and every
# second account is an old one that was bought: an attack must not be given away by what only a simulator does.
LOUD: Final = Scenario(
    family="synthetic data generation",
    accounts=2,
    begins=0.4,
    daily=9_000,
    workers=32,
    questions=2_000,
    text=anything,
    repeats=1,
    setting=Setting(model=MODELS[0], client=None, stream=False, max_tokens=2_048, temperature=0.7),
    input=Spread(60, 0.6),
    output=Spread(700, 0.7),
    addresses=servers,
    apart=True,
    plan=None,
    cards=2,
)
_REASONING: Final = LOUD._replace(
    family="chain-of-thought extraction", text=_bare, setting=PIPELINE._replace(client=None), output=Spread(1_900, 0.8)
)
_QUIET: Final = LOUD._replace(accounts=4, daily=1_500, workers=4)
_SLOW: Final = _REASONING._replace(accounts=4, daily=2_000, workers=4)
_LIST: Final = _REASONING._replace(apart=False, addresses=rented, cards=5, workers=2, requests=25_000)
_HYDRA: Final = _REASONING._replace(
    accounts=500, daily=40, workers=1, requests=200_000, lasts=10.0, staggered=2.0,
    addresses=pool_of_homes, cards=1, replacements=3, delivery=Spread(6, 0.6),
)  # fmt: skip
"""Five hundred accounts that send 400 requests each within ten days. No two have an address, a card, an organisation or
a key in common, and they begin over two days: only what they do is shared."""


def _hydra(cover: float) -> Scenario:
    """The same with this share of each account's requests asked by unrelated customers."""
    return _HYDRA._replace(
        cover=cover, daily=_HYDRA.daily * (1 - cover), requests=round((_HYDRA.requests or 0) * (1 - cover))
    )


FAMILIES: Final[dict[str, Scenario]] = {
    **SCENARIOS,
    # One account sends more than 20,000 requests in three days.
    "bulk": LOUD._replace(daily=12_000),
    "rotating": LOUD._replace(apart=False, addresses=rotating),
    "templates": LOUD._replace(
        text=lambda luck: grammar.grow("filled_template", luck), input=Spread(130, 0.15), output=Spread(600, 0.4)
    ),
    "bare": _REASONING,
    "repeats": _REASONING._replace(repeats=4),
    "coercion": LOUD._replace(family="chain-of-thought extraction", text=reasoned, output=Spread(1_200, 0.6)),
    "rubric": LOUD._replace(family="autograding", text=graded, input=Spread(210, 0.15), output=Spread(650, 0.3)),
    "search": _REASONING._replace(text=reasoned, refused=800),
    "feedback": LOUD._replace(text=_answered, input=Spread(700, 0.6), output=Spread(800, 0.6)),
    "multimodal": LOUD._replace(text=_pictured, questions=30, input=Spread(1_300, 0.3), output=Spread(420, 0.5)),
    "logprobs": LOUD._replace(
        setting=LOUD.setting._replace(max_tokens=64, temperature=1.0, top_logprobs=20), output=Spread(60, 0.3)
    ),
    "pivot": _REASONING._replace(accounts=3, setting=PIPELINE._replace(client=None, model=MODELS[0]), pivot=REASONS),
    # Less volume, and an effort to look like somebody else.
    "drip": _QUIET._replace(daily=700, rhythm=ALWAYS),
    "human": _QUIET._replace(daily=1_200, rhythm=OFFICE, addresses=households),
    "randomised": _QUIET._replace(daily=3_000, rhythm=ALWAYS, settings=8, addresses=households),
    "paraphrased": _QUIET._replace(
        family="chain-of-thought extraction", daily=3_000, text=_reworded, output=Spread(1_200, 0.6)
    ),
    # Slow enough for an honest batch job until it has found its technique, or its model is released.
    "slow search": _SLOW._replace(refused=400),
    "slow pivot": _SLOW._replace(setting=PIPELINE._replace(client=None, model=MODELS[0]), pivot=REASONS, pivoted=0.5),
    # One question list, split by index modulo.
    "split 5": _LIST._replace(accounts=5, daily=2_500, workers=8),
    "split 50": _LIST._replace(accounts=50, daily=250),
    "split 500": _LIST._replace(accounts=500, daily=25, workers=1),
    # An account that is acted on is replaced three times; the rest of its traffic belongs to unrelated customers.
    "hydra 0": _hydra(0.0),
    "hydra 50": _hydra(0.5),
    "hydra 90": _hydra(0.9),
}
"""Families by name. One line more is one family more."""


def campaigns(
    scenarios: Iterable[str], seed: int, start_at: int, end_at: int, prompts: Prompts, begins_at: int | None = None
) -> list[Account]:
    """The accounts of several campaigns. ValueError for a scenario that is not in `FAMILIES`."""
    accounts: list[Account] = []
    for name in scenarios:
        if name not in FAMILIES:
            raise ValueError(f"unknown scenario {name!r}; known: {', '.join(FAMILIES)}")
        accounts += campaign(name, FAMILIES[name], seed, start_at, end_at, prompts, begins_at)
    return accounts
