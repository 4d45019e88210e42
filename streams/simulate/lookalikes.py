"""Lookalikes: honest accounts that do what attackers do, for reasons of their own."""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Final

import numpy as np

from . import grammar, places, rhythm
from .accounts import DAY_MS, REFUSAL, Account, Rows, account_name, dice_for, empty, in_order, luck_of
from .honest import (
    CHAT,
    CLIENTS,
    CODING,
    People,
    Seat,
    Spread,
    answer,
    chosen_setting,
    enrolled,
    people,
    runs,
    suite,
)
from .honest import ask as asked
from .prompts import Prompts
from .rhythm import Floats


def _steady(
    seat: Seat,
    *,
    daily: Spread,
    text: Callable[[Random], str],
    input: Spread,  # noqa: A002
    output: Spread,
    hours: Floats = rhythm.OFFICE,
    week: Floats = rhythm.EVERY_DAY,
    addresses: int = 2,
    questions: int = 1_000,
    system: bool = True,
    reasons: float = 0.2,
    refused: float = 0.0,
    top_logprobs: int | None = None,
    surge: float = 1.0,
    age_days: int | None = None,
    pathway: str | None = None,
) -> Account:
    """A product's traffic: single turns at chance instants in the rhythm of a day.

    `refused` is the share that the model refuses; a `surge` multiplies one of its days; `age_days` is how old the
    account is at the start (default: like others).
    """
    dice, prompts = seat.dice, seat.prompts
    zone, _ = places.HOMES[int(dice.integers(len(places.HOMES)))]
    where = [places.server(dice) for _ in range(addresses)]
    setting = chosen_setting(dice, (*CLIENTS[:3], *CLIENTS[7:]), reasons)._replace(top_logprobs=top_logprobs)
    pool = prompts.pool(f"lookalike {seat.kind}", questions, text)
    asks = prompts.system(grammar.grow("system", luck_of(dice))) if system else None
    rate = float(daily.draw(dice, 1)[0])
    account = enrolled(seat, "lookalike", where, [setting], ("pro", "team", "scale", "pay_as_you_go"), rate, asks)
    if age_days is not None and account.opened_at is not None:
        account.opened_at = seat.start_at - age_days * DAY_MS
    account.pathway = pathway or account.pathway
    surges = int(dice.integers(1, 4))

    def rows() -> Iterator[tuple[int, Rows]]:
        day_at, day = seat.start_at, 0
        while True:
            busy = rhythm.day_weights(day_at, 1, zone, week) * dice.gamma(6.0, 1 / 6, 1)
            count = dice.poisson(busy * rate * (surge if day == surges else 1.0))
            at = np.sort(rhythm.instants(dice, day_at, count, zone, hours))
            batch = empty(len(at))
            batch["at"], batch["turns"] = at, 1
            batch["place"] = dice.integers(0, len(where), len(at))
            asked(dice, batch, [pool], np.zeros(len(at), np.int64))
            batch["input"] = input.draw(dice, len(at))
            answer(dice, batch, output.draw(dice, len(at)), setting)
            denied = dice.random(len(at)) < refused
            batch["finish"] = np.where(denied, REFUSAL, batch["finish"])
            batch["output"] = np.where(denied, np.minimum(batch["output"], 40), batch["output"])
            batch["reasoning"] = np.minimum(batch["reasoning"], batch["output"])
            day_at, day = day_at + DAY_MS, day + 1
            yield day_at, batch

    account.rows = in_order(rows(), seat.start_at, seat.end_at)
    return account


def continuous_integration(seat: Seat) -> Account:
    """Tests that call the model: the same few hundred prompts word for word at every push, from changing runners."""
    dice, prompts = seat.dice, seat.prompts
    pool = prompts.pool("lookalike ci", 240, partial(grammar.passage, "coding"))
    size = Spread(float(dice.integers(20, len(pool))), 0.0)
    where = [places.server(dice) for _ in range(40)]
    setting = chosen_setting(dice, CLIENTS[:3], 0.1)._replace(temperature=0.0, max_tokens=1_024)
    weekly = float(dice.uniform(20, 90))
    account = enrolled(seat, "lookalike", where, [setting], ("team", "scale"), weekly * size.median / 7, None)

    def rows() -> Iterator[tuple[int, Rows]]:
        for settled_at, at, position in runs(seat, weekly, size, 600.0, None):
            batch = empty(len(at))
            batch["at"], batch["turns"] = at, 1
            batch["prompt"] = pool.start + position % len(pool)
            batch["place"] = np.cumsum(position == 0) % len(where)
            batch["input"] = Spread(700, 0.6).draw(dice, len(at))
            answer(dice, batch, Spread(180, 0.7).draw(dice, len(at)), setting)
            yield settled_at, batch

    account.rows = in_order(rows(), seat.start_at, seat.end_at)
    return account


def benchmarks(seat: Seat) -> Account:
    """Whole benchmark suites with 8-shot prefixes, thousands of questions each, twice a week."""
    dice, prompts = seat.dice, seat.prompts
    pool = prompts.pool("lookalike suite", 4_000, suite(grammar.grow("shots", Random("suite"))))
    size = Spread(float(dice.integers(1_500, len(pool))), 0.0)
    setting = chosen_setting(dice, CLIENTS[:2], 0.4)._replace(temperature=0.0, top_p=None, max_tokens=1_024)
    where = [places.server(dice), places.company(dice, "US")]
    account = enrolled(seat, "lookalike", where, [setting], ("team", "pro", "scale"), 2 * size.median / 7, None)

    def rows() -> Iterator[tuple[int, Rows]]:
        for settled_at, at, position in runs(seat, 2.0, size, 250.0, None):
            batch = empty(len(at))
            batch["at"], batch["turns"] = at, 1
            batch["prompt"] = pool.start + position % len(pool)
            batch["input"] = Spread(2_100, 0.05).draw(dice, len(at))
            answer(dice, batch, Spread(190, 0.5).draw(dice, len(at)), setting)
            yield settled_at, batch

    account.rows = in_order(rows(), seat.start_at, seat.end_at)
    return account


def licensed(seat: Seat) -> Account:
    """A licensed distiller: a harvest by agreement, which the policy exempts."""
    harvest = partial(grammar.grow, "word_problem")
    return _steady(
        seat, daily=Spread(9_000, 0.2), text=harvest, input=Spread(60, 0.5), output=Spread(1_900, 0.7),
        hours=rhythm.ALWAYS, system=False, reasons=1.0,
    )  # fmt: skip


def shared_office(seat: Seat, habit: People) -> Account:
    """Somebody behind one address: the way out of a company of hundreds, a VPN's exit, a carrier's."""
    account = people(seat, habit)
    dice = dice_for(0, "office")
    account.places = [(places.company(dice, "US"), places.vpn(dice), places.mobile(dice, "US"))[len(seat.name) % 3]]
    chunks = account.rows

    def rows() -> Iterator[Rows]:
        for chunk in chunks:
            chunk["place"] = 0
            yield chunk

    account.rows = rows()
    return account


def _rule(name: str) -> Callable[[Random], str]:
    return partial(grammar.grow, name)


def _anything(luck: Random) -> str:
    return grammar.passage(grammar.SUBJECTS[int(luck.random() * len(grammar.SUBJECTS))], luck)


LOOKALIKES: Final[dict[str, Callable[[Seat], Account]]] = {
    "benchmarks": benchmarks,
    "ci": continuous_integration,
    # Short in, long out, in one go at night.
    "labelling": partial(
        _steady, daily=Spread(700, 0.8), text=_rule("reviews"), input=Spread(55, 0.3), output=Spread(900, 0.5),
        hours=np.roll(rhythm.OFFICE, 12),
    ),
    "captions": partial(
        _steady, daily=Spread(900, 0.8), text=_rule("pictured"), input=Spread(1_300, 0.3), output=Spread(150, 0.5),
        questions=12, hours=rhythm.ALWAYS, reasons=0.0,
    ),
    # Confidence of a classifier: one token and its alternatives.
    "classifier": partial(
        _steady, daily=Spread(1_200, 0.8), text=_rule("support"), input=Spread(260, 0.3), output=Spread(3, 0.3),
        top_logprobs=5, hours=rhythm.PRIVATE, reasons=0.0,
    ),
    "reseller": partial(
        _steady, daily=Spread(1_300, 0.7), text=_anything, input=Spread(400, 1.1), output=Spread(320, 0.9),
        hours=rhythm.PRIVATE, addresses=60, system=False, pathway="reseller",
    ),
    "launch": partial(
        _steady, daily=Spread(250, 0.5), text=_rule("support"), input=Spread(420, 0.4), output=Spread(180, 0.6),
        hours=rhythm.PRIVATE, surge=20.0, age_days=1, addresses=8,
    ),
    # An application that has the model think in tags before it acts.
    "tags": partial(
        _steady, daily=Spread(350, 0.7), text=_rule("handbook"), input=Spread(900, 0.6), output=Spread(260, 0.6),
    ),
    # Graded by a model: an application's own answers, a few hundred a day.
    "grader": partial(
        _steady, daily=Spread(300, 0.7), text=lambda luck: grammar.grow("rubric", luck) + grammar.grow("graded", luck),
        input=Spread(230, 0.2), output=Spread(260, 0.4),
    ),
    "student": partial(
        _steady, daily=Spread(60, 0.6), text=_rule("study"), input=Spread(90, 0.8), output=Spread(420, 0.7),
        hours=rhythm.PRIVATE, addresses=1, system=False,
    ),
    "redteam": partial(
        _steady, daily=Spread(500, 0.6), text=_rule("probing"), input=Spread(120, 0.7), output=Spread(200, 0.7),
        week=rhythm.WORKDAYS, refused=0.6, system=False,
    ),
    "office": partial(shared_office, habit=CODING),
    "exit": partial(shared_office, habit=CHAT),
    "licensed": licensed,
}  # fmt: skip
"""Kinds of lookalikes. One line more is one kind more."""


def lookalikes(seed: int, each: int, start_at: int, end_at: int, prompts: Prompts) -> list[Account]:
    """`each` accounts of every kind of lookalike."""
    accounts = []
    for kind, build in LOOKALIKES.items():
        for number in range(each):
            dice = dice_for(seed, "lookalike", kind, number)
            account = build(Seat(account_name(dice), kind, dice, start_at, end_at, prompts))
            accounts.append(account)
    return accounts
