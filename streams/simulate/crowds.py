"""Crowds: honest accounts that have things in common, and are no campaign."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from . import grammar, places, rhythm
from .accounts import DAY_MS, Account, Place, Rows, Setting, account_name, dice_for, empty, in_order, token_hex
from .honest import CHAT, CODING, MODELS, REASONS, Seat, Spread, answer, enrolled, people
from .honest import ask as asked
from .prompts import Prompts

HOUR_MS: Final = 3_600_000


class Crowd(NamedTuple):
    """One honest group: how many accounts, and how each is built from its seat, its number and the group's dice."""

    accounts: int
    build: Callable[[Seat, int, np.random.Generator], Account]


def _at_one_place(account: Account, place: Place) -> Account:
    """The same person, always behind one address."""
    account.places = [place]
    account.rows = _from_place_zero(account.rows)
    return account


def _from_place_zero(chunks: Iterator[Rows]) -> Iterator[Rows]:
    for rows in chunks:
        rows["place"] = 0
        yield rows


def company(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """Employees with accounts of their own behind one way out, all with the tool their company told them to use."""
    del number
    account = people(seat, CODING)
    account.settings = [
        account.settings[0]._replace(client="codepal-2.9/t13d1715h2", max_tokens=8_192, temperature=0.2)
    ]
    return _at_one_place(account, places.company(group, "DE"))


def tool(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """Users of a coding tool that came out this week: one system prompt, one client, one setting, new accounts."""
    del number, group
    dice = seat.dice
    account = people(_later(seat, 2.0), CODING)
    account.system = seat.prompts.system("a coding companion of this week")
    account.settings = [Setting(model=MODELS[1], client="newtool-0.1/t13d1715h2", max_tokens=32_000, temperature=0.1)]
    account.opened_at = seat.start_at - int(dice.integers(0, DAY_MS))
    return account


def school(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """A class of students: accounts opened for the course, one room, one exercise, at one time."""
    del number
    dice, prompts = seat.dice, seat.prompts
    pool = prompts.pool("crowd exercise", 12, partial(grammar.passage, "coding"))
    where = [places.company(group, "GB"), places.home(dice, "GB")]
    setting = Setting(model=MODELS[0], client="webchat-4.1/t13d1516h2", stream=True)
    account = enrolled(seat, "honest", where, [setting], ("free",), 12.0, None)
    eager = float(dice.gamma(1.5, 1 / 1.5))  # some ask at every step, some never
    account.opened_at = seat.start_at - int(dice.integers(0, 2 * HOUR_MS))

    def rows() -> Iterator[tuple[int, Rows]]:
        day_at = seat.start_at
        while True:
            # A lesson of two hours, then homework in the evening.
            lesson = (
                day_at + int(dice.integers(0, HOUR_MS)) + np.sort(dice.integers(0, HOUR_MS, dice.poisson(7 * eager)))
            )
            evening = day_at + 8 * HOUR_MS + np.sort(dice.integers(0, 5 * HOUR_MS, dice.poisson(5 * eager)))
            at = np.concatenate((lesson, evening))
            batch = empty(len(at))
            batch["at"] = at
            batch["session"] = (at - day_at) // (4 * HOUR_MS) + (day_at - seat.start_at) // DAY_MS * 10
            batch["turns"] = 1 + 2 * (np.arange(len(at)) % 6)
            batch["place"] = np.arange(len(at)) >= len(lesson)
            asked(dice, batch, [pool], np.zeros(len(at), np.int64))
            word_for_word = dice.random(len(at)) < 0.3  # the exercise, pasted
            batch["variation"] = np.where(word_for_word, np.uint64(0), batch["variation"])
            batch["input"] = Spread(240, 0.7).draw(dice, len(at))
            answer(dice, batch, Spread(320, 0.7).draw(dice, len(at)), setting)
            day_at += DAY_MS
            yield day_at, batch

    account.rows = in_order(rows(), seat.start_at, seat.end_at)
    return account


def reseller(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """A reseller's customers: an account each, paid with the reseller's card, through its servers."""
    del number
    habit = (CHAT, CODING)[int(seat.dice.integers(2))]
    account = people(seat, habit)
    account.places = [places.server(group) for _ in range(6)]
    account.rows = _over(account.rows, 6)
    account.settings = [account.settings[0]._replace(client="resell-gateway/t13d0912h1")]
    account.payment = token_hex(group)
    account.pathway = "reseller"
    return account


def launch(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """Launch day: within hours, hundreds open accounts to try the new model."""
    del number, group
    dice = seat.dice
    account = people(_later(seat, 0.25), CHAT)
    account.settings = [account.settings[0]._replace(model=REASONS, max_tokens=None, temperature=None, top_p=None)]
    account.opened_at = seat.start_at + int(dice.integers(0, 3 * HOUR_MS))
    return account


def writers(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """People who write with a tool of this week: one system prompt, short orders, long texts, a turn each."""
    del number, group
    dice, prompts = seat.dice, seat.prompts
    seat = _later(seat, 1.5)
    pool = prompts.pool("crowd writers", 400, partial(grammar.grow, "catalogue"))
    zone, country = places.HOMES[int(dice.integers(len(places.HOMES)))]
    setting = Setting(model=MODELS[0], client="browser-131/t13d1516h2", stream=True, max_tokens=6_000, temperature=0.9)
    system = prompts.system("a writing companion of this week")
    daily = float(Spread(25, 1.1).draw(dice, 1)[0])
    account = enrolled(seat, "honest", [places.home(dice, country)], [setting], ("pro",), daily, system)
    account.opened_at = seat.start_at - int(dice.integers(0, DAY_MS))

    def rows() -> Iterator[tuple[int, Rows]]:
        day_at = seat.start_at
        while True:
            busy = rhythm.day_weights(day_at, 1, zone, rhythm.EVERY_DAY) * dice.gamma(2.0, 0.5, 1)
            at = np.sort(rhythm.instants(dice, day_at, dice.poisson(busy * daily), zone, rhythm.PRIVATE))
            batch = empty(len(at))
            batch["at"], batch["turns"] = at, 1
            asked(dice, batch, [pool], np.zeros(len(at), np.int64))
            batch["input"] = Spread(70, 0.6).draw(dice, len(at))
            answer(dice, batch, Spread(1_100, 0.6).draw(dice, len(at)), setting)
            day_at += DAY_MS
            yield day_at, batch

    account.rows = in_order(rows(), seat.start_at, seat.end_at)
    return account


def credits_(seat: Seat, number: int, group: np.random.Generator) -> Account:
    """Start-ups of one programme: products of their own, paid with one voucher, opened in one week."""
    habit = (CHAT, CODING)[number % 2]
    account = people(seat, habit._replace(daily=Spread(120, 0.9)))
    account.payment = token_hex(group)
    account.opened_at = seat.start_at - int(seat.dice.integers(0, 7 * DAY_MS))
    return account


def _later(seat: Seat, days: float) -> Seat:
    """The same seat, taken up to so many days later."""
    return replace(seat, start_at=seat.start_at + int(seat.dice.integers(0, int(days * DAY_MS))))


def _over(chunks: Iterator[Rows], count: int) -> Iterator[Rows]:
    for rows in chunks:
        rows["place"] %= count
        yield rows


CROWDS: Final[dict[str, Crowd]] = {
    "company": Crowd(60, company),
    "tool": Crowd(400, tool),
    "class": Crowd(60, school),
    "reseller": Crowd(40, reseller),
    "launch": Crowd(300, launch),
    "credits": Crowd(30, credits_),
    "writers": Crowd(120, writers),
}
"""Honest groups by name. One line more is one group more."""


def crowded(
    name: str, seed: int, start_at: int, end_at: int, prompts: Prompts, accounts: int | None = None
) -> list[Account]:
    """The accounts of an honest group, from `start_at` on; as many as `CROWDS` says, or `accounts`."""
    crowd = CROWDS[name]
    found = []
    for number in range(accounts or crowd.accounts):
        dice = dice_for(seed, "crowd", name, number)
        seat = Seat(account_name(dice), name, dice, start_at, end_at, prompts)
        found.append(crowd.build(seat, number, dice_for(seed, "crowd", name)))
    return found
