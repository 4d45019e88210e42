"""Attacks: campaigns that copy a model's abilities through its API."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final, NamedTuple

import numpy as np

from . import grammar, places, rhythm
from .accounts import (
    DAY_MS,
    ERROR,
    LENGTH,
    REFUSAL,
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
from .honest import CHAT, CLIENTS, CODING, FIRST_TOKEN_MS, MODELS, REASONS, TOKEN_MS, Seat, Spread, latency, people
from .prompts import Prompts
from .rhythm import Floats, Ints

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
    plan: str | None
    """None: plan, pathway, client, billing country and age are drawn as for honest accounts."""
    instructions: str | None = None
    cards: int = 5
    """Accounts that pay with one instrument."""
    apart: bool = False
    """Whether each account has addresses of its own."""
    requests: int | None = None
    """All that the campaign wants; None: it goes on to the end of the stream."""
    rhythm: Floats | None = None
    """Share of a day's requests by hour, sent at chance instants; None: a constant sleep between calls."""
    settings: int = 0
    """Settings that each account varies at random; 0: always the same."""
    refused: int = 0
    """Requests of each account with which it looks for a technique: most of them are refused."""
    pivot: str | None = None
    """The model that it goes over to when half of its time is gone."""
    pivoted: float = 1.0
    """Share of its requests that then go to it."""
    cover: float = 0.0
    """Share of each account's requests that are unrelated customers'."""
    lasts: float | None = None
    """Days that each account works, where the campaign has an end of its own; `requests` are spread over them."""
    staggered: float = 0.0
    """Days over which the accounts begin, one after the other."""
    replacements: int = 0
    """How often a place whose account was acted on gets another account. Only the arena acts on accounts."""
    delivery: Spread = Spread(1, 0)
    """Hours until a seller delivers it. Until then the place goes on with the account that was acted on."""

    @property
    def days(self) -> float | None:
        """Days from the first request to the last, where the campaign has an end of its own."""
        return None if self.lasts is None else self.lasts + self.staggered


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


def servers(dice: np.random.Generator) -> list[Place]:
    """One to four rented servers, as an honest batch job has them."""
    return [places.server(dice) for _ in range(int(dice.integers(1, 5)))]


def pool_of_homes(dice: np.random.Generator) -> list[Place]:
    """Residential proxies that one account alone uses: thirty households of one country."""
    country = places.HOMES[int(dice.integers(len(places.HOMES)))][1]
    return [places.home(dice, country) for _ in range(30)]


def households(dice: np.random.Generator) -> list[Place]:
    """A household's address and its phones, as a person has them."""
    country = places.HOMES[int(dice.integers(len(places.HOMES)))][1]
    return [places.home(dice, country), *(places.mobile(dice, country) for _ in range(int(dice.integers(0, 8))))]


def anything(luck: Random) -> str:
    return grammar.grow(grammar.SUBJECTS[int(luck.random() * len(grammar.SUBJECTS))], luck)


def graded(luck: Random) -> str:
    return grammar.grow("rubric", luck) + grammar.grow("graded", luck)


def reasoned(luck: Random) -> str:
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
        text=anything,
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
        text=graded,
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
        text=reasoned,
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


def campaign(
    name: str, scenario: Scenario, seed: int, start_at: int, end_at: int, prompts: Prompts, begins_at: int | None
) -> list[Account]:
    """The accounts of one scenario, from `begins_at` (ms; default: its share of the stream) to the end.

    Each is opened within the two days before it begins, and works its part of one question list; they begin a few
    seconds apart, or over the days of a staggered scenario. Cover traffic comes as accounts of its own, of the same
    name as the one they cover.
    """
    if begins_at is None:
        begins_at = start_at + int(scenario.begins * (end_at - start_at))
    shared = dice_for(seed, name)
    pool = prompts.pool(f"attack {name}", scenario.questions, scenario.text)
    addresses = scenario.addresses(shared)
    system = prompts.system(scenario.instructions) if scenario.instructions else None
    cards = [token_hex(shared) for _ in range(1 + scenario.accounts // scenario.cards)]
    client = CLIENTS[int(shared.integers(len(CLIENTS)))]
    accounts = []
    for i in range(scenario.accounts):
        dice = dice_for(seed, name, i)
        joined_at = begins_at + int(dice_for(seed, name, i, "joined").random() * scenario.staggered * DAY_MS)
        until = end_at if scenario.lasts is None else min(end_at, joined_at + int(scenario.lasts * DAY_MS))
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
            opened_at=joined_at - int(dice.integers(DAY_MS // 12, 2 * DAY_MS)),
            pathway="first_party" if i % 4 else "reseller",
            payment=cards[i // scenario.cards],
            billing_country="US",
            lacks=lacking(dice),
        )
        first_at = joined_at + int(dice.integers(0, 5_000))
        if scenario.plan is None:
            _liken(account, scenario, client, joined_at, i, dice_for(seed, name, i, "likeness"))
        asked = _asked(scenario, account, dice, first_at, partial(_part, scenario, pool, i))
        rows = in_order(asked, begins_at, until)
        account.rows = _turned(scenario, account, rows, (joined_at + until) // 2, dice_for(seed, name, i, "turns"))
        accounts.append(account)
        if scenario.cover:
            accounts += _covers(scenario, account, dice_for(seed, name, i, "cover"), joined_at, until, prompts)
    return accounts


def _liken(
    account: Account, scenario: Scenario, client: str, joined_at: int, number: int, dice: np.random.Generator
) -> None:
    """Give an account what an honest one of its size may have too. Every second one is old: it was bought."""
    account.plan = ("pro", "team", "scale", "pay_as_you_go")[int(dice.integers(4))]
    account.pathway = "first_party" if dice.random() < 0.8 else "cloud-east"
    if number % 2:
        account.opened_at = joined_at - int(Spread(140, 1.3).draw(dice, 1)[0]) * DAY_MS
    if scenario.apart:
        account.places = scenario.addresses(dice)
    if "identity" not in account.lacks:
        account.billing_country = account.places[0].country
    else:
        account.opened_at = None
    if "network" in account.lacks:
        account.places = [Place(place.ip, None, None, None) for place in account.places]
    setting = scenario.setting._replace(client=None if "network" in account.lacks else client)
    if "settings" in account.lacks:
        setting = setting._replace(max_tokens=None, temperature=None, top_p=None)
    account.settings = [setting]
    for _ in range(scenario.settings - 1):
        account.settings.append(
            setting._replace(
                max_tokens=(None, 1_024, 2_048, 4_096, 8_192)[int(dice.integers(5))],
                temperature=round(float(dice.uniform(0.2, 1.2)), 1),
                client=setting.client and CLIENTS[int(dice.integers(3))],
            )
        )
    if scenario.pivot:
        account.settings.append(setting._replace(model=scenario.pivot))


def _asked(
    scenario: Scenario, account: Account, dice: np.random.Generator, first_at: int, ask: Callable[[Ints, Rows], None]
) -> Iterator[tuple[int, Rows]]:
    """An account's requests, at a constant pace or in the scenario's rhythm: what `in_order` takes."""
    requests = None if scenario.requests is None else scenario.requests // scenario.accounts
    answers = Answers(scenario.setting, scenario.input, scenario.output, len(account.places))
    if scenario.rhythm is not None:
        return _by_the_clock(dice, first_at, ask, scenario.daily, scenario.rhythm, answers)
    # The sleep is what the daily rate leaves between two answers.
    answer_ms = FIRST_TOKEN_MS + TOKEN_MS * scenario.output.median * np.exp(scenario.output.sigma**2 / 2)
    sleep_ms = max(1_000.0, DAY_MS * scenario.workers / scenario.daily - answer_ms)
    return work(dice, first_at, ask, workers=scenario.workers, sleep_ms=sleep_ms, answers=answers, requests=requests)


def _turned(
    scenario: Scenario, account: Account, chunks: Iterator[Rows], pivot_at: int, dice: np.random.Generator
) -> Iterator[Rows]:
    """The same requests with what changes in the course of a campaign: refusals at first, settings, the model."""
    for rows in chunks:
        if scenario.refused:
            refused = (rows["number"] < scenario.refused) & (dice.random(len(rows)) < 0.8)
            rows["finish"][refused] = REFUSAL
            rows["output"][refused] = np.minimum(rows["output"][refused], 40)
            rows["reasoning"] = np.minimum(rows["reasoning"], rows["output"])
        if scenario.settings:
            rows["setting"] = dice.integers(0, len(account.settings), len(rows))
        if scenario.pivot:
            turned = (rows["at"] >= pivot_at) & (dice.random(len(rows)) < scenario.pivoted)
            rows["setting"] = turned
            rows["reasoning"] = np.where(turned, rows["output"] * 8 // 10, -1)
        yield rows


def _covers(
    scenario: Scenario, account: Account, dice: np.random.Generator, start_at: int, end_at: int, prompts: Prompts
) -> list[Account]:
    """Unrelated customers whose requests go through an attacking account, from the same servers."""
    daily = scenario.daily * scenario.cover / (1 - scenario.cover)
    customers = max(2, round(daily / 60))
    covers = []
    for number in range(customers):
        habit = (CHAT, CODING)[number % 2]._replace(daily=Spread(daily / customers, 0.3))
        seat = Seat(account.label.account, account.label.kind, dice, start_at, end_at, prompts)
        customer = people(seat, habit)
        covers.append(
            replace(
                account,
                tag=f"{zlib.crc32(f'{account.tag} {number}'.encode()):08x}",
                settings=customer.settings,
                system=customer.system,
                rows=_through(customer.rows, len(account.places)),
                daily=daily / customers,
                cover=True,
            )
        )
    return covers


def _through(chunks: Iterator[Rows], places: int) -> Iterator[Rows]:
    for rows in chunks:
        rows["place"] %= places
        yield rows


def _part(scenario: Scenario, pool: range, account: int, requests: Ints, batch: Rows) -> None:
    """An account's part of the question list, split by index modulo over the accounts; when the list is through it goes
    on with other names and numbers."""
    question = account + scenario.accounts * (requests // scenario.repeats)
    batch["prompt"] = pool.start + question % len(pool)
    batch["variation"] = question // len(pool)


class Answers(NamedTuple):
    """How an account asks and what it gets: setting, token counts, and how many addresses it sends from."""

    setting: Setting
    input: Spread
    output: Spread
    addresses: int

    def draw(self, dice: np.random.Generator, size: int) -> Rows:
        """`size` answered requests without instants or prompts; one in a hundred is turned away."""
        batch = empty(size)
        cap = self.setting.max_tokens or 2**31
        written = self.output.draw(dice, size)
        busy = dice.random(size) < 0.01
        batch["status"] = np.where(busy, 429, 200)
        batch["finish"] = np.where(busy, ERROR, np.where(written >= cap, LENGTH, STOP))
        batch["output"] = np.where(busy, 0, np.minimum(written, cap))
        if self.setting.model == REASONS:
            batch["reasoning"] = batch["output"] * 8 // 10
        batch["latency"] = latency(dice, batch["output"], 0.1)
        batch["input"] = self.input.draw(dice, size)
        batch["turns"] = 1
        batch["place"] = dice.integers(0, self.addresses, size)
        return batch


def _by_the_clock(
    dice: np.random.Generator,
    first_at: int,
    ask: Callable[[Ints, Rows], None],
    daily: float,
    hours: Floats,
    answers: Answers,
) -> Iterator[tuple[int, Rows]]:
    """About `daily` requests a day at chance instants, in the rhythm of a day. Yields what `in_order` takes."""
    day_at = first_at - first_at % DAY_MS
    sent = 0
    while True:
        at = np.sort(rhythm.instants(dice, day_at, dice.poisson(np.full(1, daily)), 0, hours))
        at = at[at >= first_at]
        batch = answers.draw(dice, len(at))
        batch["at"] = at
        ask(np.arange(sent, sent + len(at)), batch)
        sent += len(at)
        day_at += DAY_MS
        yield day_at, batch


def work(
    dice: np.random.Generator,
    first_at: int,
    ask: Callable[[Ints, Rows], None],
    *,
    workers: int,
    sleep_ms: float,
    answers: Answers,
    requests: int | None = None,
) -> Iterator[tuple[int, Rows]]:
    """Workers that each send, wait for the answer, sleep a constant time and send again, day and night.

    `ask(numbers, rows)` fills in the prompts of the account's requests by number; after `requests` of them the work
    is done. Yields what `in_order` takes.
    """
    clocks = first_at + 250.0 * np.arange(workers)
    cycles = max(8, 400 // workers)
    sent = 0
    while requests is None or sent < requests:
        size = cycles * workers
        batch = answers.draw(dice, size)
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
