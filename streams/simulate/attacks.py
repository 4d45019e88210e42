"""Attacks: campaigns that copy a model's abilities through its API."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from . import grammar, places
from .accounts import (
    DAY_MS,
    ERROR,
    LENGTH,
    Account,
    Label,
    Place,
    Rows,
    Setting,
    account_name,
    dice_for,
    empty,
    in_order,
    lacking,
    token_hex,
)
from .honest import CLIENTS, MODELS, REASONS, Spread
from .prompts import Prompts
from .rhythm import Ints

Addresses = Callable[[np.random.Generator], list[Place]]


class Scenario(NamedTuple):
    """How one campaign behaves. Everything in it comes from a published statement or a public pipeline."""

    family: str
    """What is taken, in the words of the vendors' taxonomy."""
    accounts: int
    begins: float
    """When it starts, as a share of the stream."""
    daily: float
    """Requests a day and account."""
    workers: int
    """Requests of one account under way at once."""
    questions: int
    """Different texts in the question list before its names and numbers vary."""
    text: Callable[[np.random.Generator], str]
    repeats: int
    """How often each question is sent, word for word."""
    setting: Setting
    input: Spread
    output: Spread
    addresses: Addresses
    plan: str
    instructions: str | None = None
    cards: int = 5
    """Accounts that pay with one instrument."""


def rotating(dice: np.random.Generator) -> list[Place]:
    """A residential proxy pool: every request leaves from another household (two thousand of them)."""
    countries = [places.HOMES[int(i)][1] for i in dice.integers(0, len(places.HOMES), 2_000)]
    return [places.home(dice, country) for country in countries]


def rented(dice: np.random.Generator) -> list[Place]:
    """A dozen rented servers."""
    return [places.server(dice) for _ in range(12)]


def resold(dice: np.random.Generator) -> list[Place]:
    """A proxy reseller: some servers, and VPN exits that strangers use too."""
    return [*(places.server(dice) for _ in range(6)), *(places.vpn(dice) for _ in range(6))]


def _anything(dice: np.random.Generator) -> str:
    return grammar.grow(grammar.SUBJECTS[int(dice.integers(len(grammar.SUBJECTS)))], dice)


def _graded(dice: np.random.Generator) -> str:
    return grammar.grow("rubric", dice) + grammar.grow("graded", dice)


def _reasoned(dice: np.random.Generator) -> str:
    return grammar.grow("word_problem", dice) + grammar.grow("inline_tags", dice)


# Public harvesting pipelines send max_tokens 16,384 with temperature 0.6 and top_p 0.95, ask bare questions without any
# template, each four times over, split one question list by index modulo over their keys, sleep a constant time
# between calls and keep up to 1,000 requests under way. Vendors (2026) told of 273 accounts with 733 requests a day
# each, of ~24,000 with ~667 in all, of one fixed prompt in every request that forces the reasoning into inline tags, of
# rubric grading, of proxy resellers, residential addresses, virtual cards of one batch, and of new accounts at
# maximum use at once, round the clock.
_PIPELINE: Final = Setting(
    model=REASONS, client=CLIENTS[1], stream=False, max_tokens=16_384, temperature=0.6, top_p=0.95
)

SCENARIOS: Final[dict[str, Scenario]] = {
    "harvest": Scenario(
        family="synthetic data generation",
        accounts=20,
        begins=0.30,
        daily=733,
        workers=1,
        questions=4_000,
        text=_anything,
        repeats=1,
        setting=_PIPELINE._replace(model=MODELS[0]),
        input=Spread(45, 0.5),
        output=Spread(900, 0.6),
        addresses=rotating,
        plan="pro",
    ),
    "sweep": Scenario(
        family="autograding",
        accounts=12,
        begins=0.40,
        daily=860,
        workers=2,
        questions=2_000,
        text=_graded,
        repeats=1,
        setting=_PIPELINE._replace(model=MODELS[0], client=CLIENTS[10], temperature=0.0, top_p=None, max_tokens=4_096),
        input=Spread(210, 0.15),
        output=Spread(650, 0.3),
        addresses=resold,
        plan="scale",
        cards=12,
    ),
    "reasoning": Scenario(
        family="chain-of-thought extraction",
        accounts=8,
        begins=0.50,
        daily=4_000,
        workers=16,
        questions=3_000,
        text=_reasoned,
        repeats=4,
        setting=_PIPELINE,
        input=Spread(90, 0.3),
        output=Spread(1_900, 0.8),
        addresses=rented,
        plan="pro",
        cards=2,
    ),
}
"""Attacks by name. One line more is one scenario more."""


def campaign(
    name: str, seed: int, start_at: int, end_at: int, prompts: Prompts, *, begins_at: int | None = None
) -> list[Account]:
    """The accounts of one scenario, from `begins_at` (ms; default: its share of the stream) to the end.

    They are opened within the two days before; each works its part of one question list, a few seconds apart.
    """
    scenario = SCENARIOS[name]
    if begins_at is None:
        begins_at = start_at + int(scenario.begins * (end_at - start_at))
    shared = dice_for(seed, name)
    pool = prompts.pool(f"attack {name}", scenario.questions, scenario.text)
    addresses = scenario.addresses(shared)
    system = prompts.system(scenario.instructions) if scenario.instructions else None
    cards = [token_hex(shared) for _ in range(1 + scenario.accounts // scenario.cards)]
    accounts = []
    for i in range(scenario.accounts):
        dice = dice_for(seed, name, i)
        account = Account(
            label=Label(
                account=account_name(dice),
                label="attack",
                kind=scenario.family,
                scenario=name,
                campaign=f"{name}-{seed}",
            ),
            places=addresses,
            settings=[scenario.setting],
            rows=iter(()),
            daily=scenario.daily,
            system=system,
            org=f"org-{token_hex(dice)[:10]}",
            key=token_hex(dice),
            plan=scenario.plan,
            opened_at=begins_at - int(dice.integers(DAY_MS // 12, 2 * DAY_MS)),
            pathway="first_party" if i % 4 else "reseller",
            payment=cards[i // scenario.cards],
            billing_country="US",
            lacks=lacking(dice),
        )
        part = partial(_part, scenario, pool, i, scenario.accounts)
        first_at = begins_at + int(dice.integers(0, 5_000))
        account.rows = in_order(_works(dice, scenario, first_at, part, len(addresses)), begins_at, end_at)
        accounts.append(account)
    return accounts


def _part(scenario: Scenario, pool: range, account: int, of: int, requests: Ints, batch: Rows) -> None:
    """This account's part of the question list: every `of`-th question, each `repeats` times; it goes on with
    variations when the list is through."""
    question = account + of * (requests // scenario.repeats)
    batch["prompt"] = pool.start + question % len(pool)
    batch["variation"] = (question // len(pool)).astype(np.uint64)


def _works(
    dice: np.random.Generator,
    scenario: Scenario,
    first_at: int,
    part: Callable[[Ints, Rows], None],
    addresses: int,
) -> Iterator[tuple[int, Rows]]:
    """Workers that each send, wait for the answer, sleep a constant time and send again, day and night."""
    clocks = first_at + 250.0 * np.arange(scenario.workers)
    cycle_ms = DAY_MS * scenario.workers / scenario.daily
    cycles = max(8, 400 // scenario.workers)
    sent = 0
    while True:
        count = cycles * scenario.workers
        batch = empty(count)
        written = scenario.output.draw(dice, count)
        cap = scenario.setting.max_tokens or 2**31
        batch["output"] = np.minimum(written, cap)
        batch["finish"] = np.where(written >= cap, LENGTH, 0)
        if scenario.setting.model == REASONS:
            batch["reasoning"] = batch["output"] * 8 // 10
        busy = dice.random(count) < 0.01
        batch["status"] = np.where(busy, 429, 200)
        batch["finish"] = np.where(busy, ERROR, batch["finish"])
        for column in ("output", "reasoning"):
            batch[column] = np.where(busy & (batch[column] > 0), 0, batch[column])
        batch["latency"] = (300 + 12 * batch["output"]) * np.exp(0.1 * dice.standard_normal(count))
        batch["input"] = scenario.input.draw(dice, count)
        batch["turns"] = 1
        batch["place"] = dice.integers(0, addresses, count)
        # The sleep is set so that answers and sleep make the daily rate.
        mean_ms = 300 + 12 * scenario.output.median * np.exp(scenario.output.sigma**2 / 2)
        sleep_ms = max(1_000.0, cycle_ms - mean_ms)
        spent = batch["latency"].reshape(cycles, scenario.workers) + sleep_ms
        at = clocks + np.cumsum(spent, axis=0) - spent
        clocks = clocks + spent.sum(axis=0)
        batch["at"] = at.reshape(count)
        part(np.arange(sent, sent + count), batch)
        sent += count
        yield int(clocks.min()), batch
