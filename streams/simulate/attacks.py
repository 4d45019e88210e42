"""Attacks: campaigns that copy a model's abilities through its API."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import Final, NamedTuple

import numpy as np

from . import grammar, places
from .accounts import (
    DAY_MS,
    ERROR,
    LENGTH,
    STOP,
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
from .honest import CLIENTS, FIRST_TOKEN_MS, MODELS, REASONS, TOKEN_MS, Spread, latency
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
    text: Callable[[Random], str]
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


def _anything(luck: Random) -> str:
    return grammar.grow(grammar.SUBJECTS[int(luck.random() * len(grammar.SUBJECTS))], luck)


def _graded(luck: Random) -> str:
    return grammar.grow("rubric", luck) + grammar.grow("graded", luck)


def _reasoned(luck: Random) -> str:
    return grammar.grow("word_problem", luck) + grammar.grow("inline_tags", luck)


# Public harvesting pipelines send max_tokens 16,384 with temperature 0.6 and top_p 0.95, ask bare questions without any
# template, each four times over, split one question list by index modulo over their keys, sleep a constant time
# between calls and keep up to 1,000 requests under way. Vendors (2026) told of 273 accounts with 733 requests a day
# each, of ~24,000 with ~667 in all, of one fixed prompt in every request that forces the reasoning into inline tags, of
# rubric grading, of proxy resellers, residential addresses, virtual cards of one batch, and of new accounts at
# maximum use at once, round the clock.
PIPELINE: Final = Setting(
    model=REASONS, client=CLIENTS[1], stream=False, max_tokens=16_384, temperature=0.6, top_p=0.95
)

SCENARIOS: Final[dict[str, Scenario]] = {
    "harvest": Scenario(
        family="synthetic data generation",
        accounts=20,
        begins=0.30,
        daily=733,
        workers=1,
        questions=2_000,
        text=_anything,
        repeats=1,
        setting=PIPELINE._replace(model=MODELS[0]),
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
        questions=1_000,
        text=_graded,
        repeats=1,
        setting=PIPELINE._replace(model=MODELS[0], client=CLIENTS[10], temperature=0.0, top_p=None, max_tokens=4_096),
        input=Spread(210, 0.15),
        output=Spread(650, 0.3),
        addresses=resold,
        plan="scale",
        cards=12,
    ),
    "reasoning": Scenario(
        family="chain-of-thought extraction",
        accounts=4,
        begins=0.50,
        daily=12_000,
        workers=48,
        questions=1_500,
        text=_reasoned,
        repeats=4,
        setting=PIPELINE,
        input=Spread(90, 0.3),
        output=Spread(1_900, 0.8),
        addresses=rented,
        plan="pro",
        cards=2,
    ),
}
"""Attacks by name. One line more is one scenario more."""


def campaigns(
    scenarios: Iterable[str], seed: int, start_at: int, end_at: int, prompts: Prompts, begins_at: int | None = None
) -> list[Account]:
    """The accounts of several campaigns. ValueError for a scenario that is not in `SCENARIOS`."""
    accounts: list[Account] = []
    for name in scenarios:
        if name not in SCENARIOS:
            raise ValueError(f"unknown scenario {name!r}; known: {', '.join(SCENARIOS)}")
        accounts += campaign(name, seed, start_at, end_at, prompts, begins_at)
    return accounts


def campaign(
    name: str, seed: int, start_at: int, end_at: int, prompts: Prompts, begins_at: int | None
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
    # The sleep is what the daily rate leaves between two answers.
    answer_ms = FIRST_TOKEN_MS + TOKEN_MS * scenario.output.median * np.exp(scenario.output.sigma**2 / 2)
    sleep_ms = max(1_000.0, DAY_MS * scenario.workers / scenario.daily - answer_ms)
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
        ask = partial(_part, scenario, pool, i)
        first_at = begins_at + int(dice.integers(0, 5_000))
        work_ = work(
            dice,
            first_at,
            ask,
            workers=scenario.workers,
            sleep_ms=sleep_ms,
            setting=scenario.setting,
            input=scenario.input,
            output=scenario.output,
            addresses=len(addresses),
        )
        account.rows = in_order(work_, begins_at, end_at)
        accounts.append(account)
    return accounts


def _part(scenario: Scenario, pool: range, account: int, requests: Ints, batch: Rows) -> None:
    """An account's part of the question list, split by index modulo over the accounts; when the list is through it goes
    on with other names and numbers."""
    question = account + scenario.accounts * (requests // scenario.repeats)
    batch["prompt"] = pool.start + question % len(pool)
    batch["variation"] = question // len(pool)


def work(
    dice: np.random.Generator,
    first_at: int,
    ask: Callable[[Ints, Rows], None],
    *,
    workers: int,
    sleep_ms: float,
    setting: Setting,
    input: Spread,  # noqa: A002
    output: Spread,
    addresses: int,
    requests: int | None = None,
) -> Iterator[tuple[int, Rows]]:
    """Workers that each send, wait for the answer, sleep a constant time and send again, day and night.

    `ask(numbers, rows)` fills in the prompts of the account's requests by number; after `requests` of them the work
    is done. Yields what `in_order` takes.
    """
    clocks = first_at + 250.0 * np.arange(workers)
    cycles = max(8, 400 // workers)
    cap = setting.max_tokens or 2**31
    sent = 0
    while requests is None or sent < requests:
        size = cycles * workers
        batch = empty(size)
        written = output.draw(dice, size)
        busy = dice.random(size) < 0.01
        batch["status"] = np.where(busy, 429, 200)
        batch["finish"] = np.where(busy, ERROR, np.where(written >= cap, LENGTH, STOP))
        batch["output"] = np.where(busy, 0, np.minimum(written, cap))
        if setting.model == REASONS:
            batch["reasoning"] = batch["output"] * 8 // 10
        batch["latency"] = latency(dice, batch["output"], 0.1)
        batch["input"] = input.draw(dice, size)
        batch["turns"] = 1
        batch["place"] = dice.integers(0, addresses, size)
        spent = batch["latency"].astype(np.float64).reshape(cycles, workers) + sleep_ms
        passed = np.cumsum(spent, axis=0)
        batch["at"] = (clocks + passed - spent).reshape(size)
        clocks = clocks + passed[-1]
        ask(np.arange(sent, sent + size), batch)
        settled_at = int(np.min(clocks))
        if requests is not None and sent + size >= requests:
            batch, settled_at = batch[: requests - sent], int(np.max(clocks))
        sent += size
        yield settled_at, batch
