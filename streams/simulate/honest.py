"""Honest accounts: what the customers of an LLM API do all day."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import grammar, places, rhythm
from .accounts import (
    DAY_MS,
    ERROR,
    LENGTH,
    REFUSAL,
    STOP,
    TOOL_CALLS,
    Account,
    Label,
    Place,
    Rows,
    Setting,
    account_name,
    empty,
    in_order,
    lacking,
    luck_of,
    token_hex,
)
from .prompts import Prompts
from .rhythm import Floats, Ints

REASONS: Final = "reason-large"
"""The model that thinks before it answers; its output tokens include the reasoning."""

MODELS: Final = ("chat-large", "chat-small")

FIRST_TOKEN_MS: Final = 300
TOKEN_MS: Final = 12
"""About 80 tokens a second."""

CLIENTS: Final = (
    *("sdk-python-1.52/t13d1812h1", "sdk-python-1.40/t13d1812h1", "sdk-node-4.20/t13d1714h2"),
    *("browser-131/t13d1516h2", "browser-130/t13d1516h2", "app-ios-7.2/t13d2014h2", "app-android-7.2/t13d1613h2"),
    *("sdk-go-0.9/t13d1311h2", "curl-8/t13d4907h2", "sdk-java-2.1/t13d3112h1", "langkit-0.3/t13d1812h1"),
)
"""Fingerprints of TLS and SDK: thousands of strangers have each of them."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What an account is built from: its name and dice, the instants (ms UTC) it lives in, and the prompts."""

    name: str
    kind: str
    dice: np.random.Generator
    start_at: int
    end_at: int
    prompts: Prompts


class Spread(NamedTuple):
    """A log-normal: its median, and the standard deviation of its logarithm."""

    median: float
    sigma: float

    def draw(self, dice: np.random.Generator, count: int, scale: "float | NDArray[np.floating]" = 1.0) -> Ints:
        """`count` whole numbers of at least 1, at most 120,000."""
        drawn = np.exp(np.log(self.median) + self.sigma * dice.standard_normal(count)) * scale
        whole: Ints = np.clip(drawn, 1, 120_000).astype(np.int64)
        return whole


class People(NamedTuple):
    """Somebody who talks in sessions; `daily` requests vary from account to account, `gap` is seconds between turns."""

    daily: Spread
    turns: float
    gap: Spread
    hours: Floats
    week: Floats
    input: Spread
    output: Spread
    grows: float
    """Tokens that each turn adds to the input, as a share of the first input."""
    plans: tuple[str, ...]
    clients: tuple[str, ...]
    system: str | None
    """Name of the application whose system prompt comes with every request; None: no system prompt."""
    tools: int


# Tokens: Azure's public conversation trace of 2023 has a p50 of 1,020 in and 129 out, p75/p50 of 1.2 and 3.1;
# Mooncake's conversations 6,909 in and 350 out; ServeGen's clients 523 in and 40 out at the median client, with a
# spread between clients (p95/p50) of 4.5 and 10. Of its 73 reasoning clients 24 write five times what they read.
CHAT: Final = People(
    daily=Spread(9, 1.1),
    turns=4,
    gap=Spread(75, 0.9),
    hours=rhythm.PRIVATE,
    week=rhythm.EVERY_DAY,
    input=Spread(160, 1.1),
    output=Spread(260, 0.9),
    grows=0.9,
    plans=("free", "free", "free", "pro"),
    clients=CLIENTS[:8],
    system=None,
    tools=-1,
)
CODING: Final = People(
    daily=Spread(55, 0.9),
    turns=14,
    gap=Spread(35, 1.0),
    hours=rhythm.OFFICE,
    week=rhythm.WORKDAYS,
    input=Spread(2_600, 0.8),
    output=Spread(240, 1.0),
    grows=0.25,
    plans=("pro", "pro", "team"),
    clients=("codepal-2.8/t13d1715h2", "codepal-2.9/t13d1715h2"),
    system="codepal",
    tools=12,
)


class Kind(NamedTuple):
    """A kind of honest account: its share of all accounts, how it is labelled, and how one is built."""

    share: float
    label: Literal["honest", "lookalike"]
    build: Callable[[Seat], Account]


def people(seat: Seat, habit: People) -> Account:
    """A person: sessions by day and night, several subjects, addresses that change on the move."""
    dice, prompts = seat.dice, seat.prompts
    zone, country = places.HOMES[int(dice.integers(len(places.HOMES)))]
    where = [places.home(dice, country)]
    if dice.random() < 0.4:
        where += [places.mobile(dice, country) for _ in range(40)]
    if habit.week is rhythm.WORKDAYS or dice.random() < 0.3:
        where.insert(0, places.company(dice, country))
    if dice.random() < 0.08:
        where = [places.vpn(dice) for _ in range(12)]
    if habit.system is None:
        names = [grammar.SUBJECTS[i] for i in dice.permutation(len(grammar.SUBJECTS))[: dice.integers(2, 6)]]
        system = None
    else:
        names = ["coding"]
        system = prompts.system(habit.system)
    pools = [prompts.pool(name, 250 if name != "coding" else 800, partial(grammar.passage, name)) for name in names]
    setting = chosen_setting(dice, habit.clients, reasons=0.15)
    daily = float(habit.daily.draw(dice, 1)[0])
    account = enrolled(seat, "honest", where, [setting], habit.plans, daily, system)
    steady = 0.5 + 0.4 * dice.random()  # how often the first place is where the person sits
    favour = dice.dirichlet(np.full(len(pools), 0.7))

    def rows() -> Iterator[tuple[int, Rows]]:
        met = 0
        for settled_at, at, session, turn in _sessions(seat, habit, daily, zone):
            batch = empty(len(at))
            batch["at"], batch["session"], batch["turns"] = at, session, 2 * turn + 1
            batch["tools"] = habit.tools
            count = int(session[-1]) + 1 - met if len(session) else 0
            local = session - met
            met += count
            away = dice.integers(0, len(where), count)
            batch["place"] = np.where(dice.random(count) < steady, 0, away)[local]
            subject = dice.choice(len(pools), size=count, p=favour)[local]
            ask(dice, batch, pools, subject)
            grown = 1 + habit.grows * np.minimum(turn, 40)
            batch["input"] = habit.input.draw(dice, len(at), grown)
            batch["cached"] = np.where(turn > 0, (batch["input"] * 0.7).astype(np.int64), 0)
            answer(dice, batch, habit.output.draw(dice, len(batch)), setting)
            yield settled_at, batch

    return _running(account, seat, rows())


def support(seat: Seat) -> Account:
    """A company's support bot: one system prompt, thousands of strangers with short questions."""
    dice, prompts = seat.dice, seat.prompts
    zone, country = places.HOMES[int(dice.integers(len(places.HOMES)))]
    where = [places.company(dice, country)] if dice.random() < 0.3 else [places.server(dice) for _ in range(3)]
    pool = prompts.pool("support", 1_000, partial(grammar.grow, "support"))
    setting = chosen_setting(dice, CLIENTS[:3], reasons=0.05)
    daily = float(Spread(160, 1.5).draw(dice, 1)[0])
    system = prompts.system(grammar.grow("system", luck_of(dice)))
    account = enrolled(seat, "honest", where, [setting], ("scale", "team"), daily, system)
    habit = CHAT._replace(turns=1.8, gap=Spread(50, 0.8))

    def rows() -> Iterator[tuple[int, Rows]]:
        for settled_at, at, session, turn in _sessions(seat, habit, daily, zone):
            batch = empty(len(at))
            batch["at"], batch["session"], batch["turns"] = at, session, 2 * turn + 1
            batch["place"] = dice.integers(0, len(where), len(at))
            ask(dice, batch, [pool], np.zeros(len(at), np.int64))
            batch["input"] = Spread(420, 0.35).draw(dice, len(at), 1 + 0.4 * turn)
            answer(dice, batch, Spread(95, 0.6).draw(dice, len(batch)), setting)
            yield settled_at, batch

    return _running(account, seat, rows())


def batch_job(seat: Seat) -> Account:
    """A batch job: short, large bursts with one system prompt, more written than read."""
    dice, prompts = seat.dice, seat.prompts
    task = ("catalogue", "reviews", "records", "localise")[int(dice.integers(4))]
    pool = prompts.pool(task, 400, partial(grammar.grow, task))
    caps = (None, None, 4_096, 16_384)  # whoever pays for a batch lets it finish
    setting = chosen_setting(dice, CLIENTS[:2], reasons=0.25)._replace(max_tokens=caps[int(dice.integers(4))])
    size = Spread(float(Spread(350, 0.9).draw(dice, 1)[0]), 0.5)
    weekly = float(dice.uniform(1, 7))
    daily = weekly * size.median * np.exp(size.sigma**2 / 2) / 7
    where = [places.server(dice)]
    system = prompts.system(grammar.grow("system", luck_of(dice)))
    account = enrolled(seat, "lookalike", where, [setting], ("scale", "pay_as_you_go"), daily, system)
    nightly_at = int(dice.integers(0, DAY_MS)) if dice.random() < 0.5 else None
    gap_ms = 1_000 * float(Spread(1.2, 0.9).draw(dice, 1)[0]) / 4

    def rows() -> Iterator[tuple[int, Rows]]:
        for settled_at, at, _ in runs(seat, weekly, size, gap_ms, nightly_at):
            batch = empty(len(at))
            batch["at"], batch["turns"] = at, 1
            ask(dice, batch, [pool], np.zeros(len(at), np.int64))
            # An ordinary recorded batch job has a p50 of 53 in and 1,578 out (ServeGen).
            batch["input"] = Spread(53, 0.4).draw(dice, len(at))
            answer(dice, batch, Spread(1_578, 0.5).draw(dice, len(batch)), setting)
            yield settled_at, batch

    return _running(account, seat, rows())


SUITES: Final = 6


def evaluation(seat: Seat) -> Account:
    """An evaluation run: a suite of 8-shot prompts in one go, word for word the same every time, settings fixed."""
    dice, prompts = seat.dice, seat.prompts
    named = f"suite{int(dice.integers(SUITES))}"
    pool = prompts.pool(named, 300, suite(grammar.grow("shots", Random(named))))
    repeats = 4 if dice.random() < 0.25 else 1  # pass@4 asks everything four times
    setting = Setting(
        model=MODELS[int(dice.integers(2))] if dice.random() < 0.6 else REASONS,
        client=CLIENTS[int(dice.integers(2))],
        stream=False,
        max_tokens=(512, 1_024, 16_384)[int(dice.integers(3))],
        temperature=0.0 if repeats == 1 else 0.6,
        top_p=None if repeats == 1 else 0.95,
        top_logprobs=5 if dice.random() < 0.2 else None,
    )
    size = Spread(float(dice.integers(150, len(pool))) * repeats, 0.0)
    weekly = float(dice.uniform(1, 6))
    where = [places.server(dice), places.company(dice, "US")]
    account = enrolled(seat, "lookalike", where, [setting], ("team", "pro", "scale"), weekly * size.median / 7, None)

    def rows() -> Iterator[tuple[int, Rows]]:
        for settled_at, at, position in runs(seat, weekly, size, 350.0, None):
            batch = empty(len(at))
            batch["at"], batch["turns"] = at, 1
            batch["prompt"] = pool.start + (position // repeats) % len(pool)
            batch["input"] = Spread(950, 0.06).draw(dice, len(at))
            answer(dice, batch, Spread(190, 0.5).draw(dice, len(batch)), setting)
            yield settled_at, batch

    return _running(account, seat, rows())


def agent(seat: Seat) -> Account:
    """An agent: a step every few seconds, round the clock, with tools, in sessions of a hundred steps."""
    dice, prompts = seat.dice, seat.prompts
    pool = prompts.pool("agent", 600, partial(grammar.grow, "agent"))
    setting = chosen_setting(dice, (*CLIENTS[:3], CLIENTS[10]), reasons=0.4)
    gap = Spread(float(dice.uniform(4, 12)), 0.9)
    steps = float(dice.uniform(40, 200))
    pause = Spread(float(Spread(2_400, 0.8).draw(dice, 1)[0]), 0.7)
    mean = gap.median * np.exp(gap.sigma**2 / 2) + pause.median * np.exp(pause.sigma**2 / 2) / steps
    where = [places.server(dice)] if dice.random() < 0.7 else [places.home(dice, "US"), places.vpn(dice)]
    system = prompts.system(grammar.grow("system", luck_of(dice)) if dice.random() < 0.6 else "codepal")
    account = enrolled(seat, "lookalike", where, [setting], ("pro", "scale", "team"), DAY_MS / 1e3 / mean, system)

    def rows() -> Iterator[tuple[int, Rows]]:
        clock = float(seat.start_at) + dice.uniform(0, pause.median * 1e3)
        session, turn = 0, 0
        while True:
            ends = dice.random(1_000) < 1 / steps
            spent = 1e3 * (gap.draw(dice, 1_000, 10.0) / 10 + np.where(ends, pause.draw(dice, 1_000), 0))
            at = clock + np.cumsum(spent)
            clock = float(at[-1])
            number = session + np.cumsum(ends)
            begins = np.maximum.accumulate(np.where(ends, np.arange(1_000), -turn))
            steps_in = np.arange(1_000) - begins
            session, turn = int(number[-1]), int(steps_in[-1]) + 1
            batch = empty(1_000)
            batch["at"], batch["session"], batch["turns"], batch["tools"] = at, number, 2 * steps_in + 1, 18
            batch["place"] = dice.integers(0, len(where), int(number[-1] - number[0]) + 1)[number - number[0]]
            ask(dice, batch, [pool], np.zeros(1_000, np.int64))
            # Mooncake: contexts of p50 6,909 tokens, most of them cached from the step before.
            batch["input"] = Spread(1_800, 0.2).draw(dice, 1_000, 1 + 0.2 * np.minimum(steps_in, 150))
            batch["cached"] = np.where(steps_in > 0, (batch["input"] * 0.9).astype(np.int64), 0)
            answer(dice, batch, Spread(120, 0.9).draw(dice, len(batch)), setting)
            batch["finish"] = np.where(batch["finish"] == STOP, TOOL_CALLS, batch["finish"])
            yield int(clock), batch

    return _running(account, seat, rows())


KINDS: Final[dict[str, Kind]] = {
    "chat": Kind(0.55, "honest", partial(people, habit=CHAT)),
    "coding": Kind(0.22, "honest", partial(people, habit=CODING)),
    "support": Kind(0.08, "honest", support),
    "batch": Kind(0.08, "lookalike", batch_job),
    "evaluation": Kind(0.04, "lookalike", evaluation),
    "agent": Kind(0.03, "lookalike", agent),
}
"""Kinds of honest accounts. One line more is one kind more; shares add up to 1."""


def honest(dice: np.random.Generator, start_at: int, end_at: int, prompts: Prompts) -> Account:
    """One honest account of a kind drawn from `KINDS`. One in ten is opened while the stream runs."""
    shares = np.array([kind.share for kind in KINDS.values()])
    kind = list(KINDS)[int(dice.choice(len(KINDS), p=shares / shares.sum()))]
    if dice.random() < 0.1:
        start_at = int(dice.integers(start_at, end_at))
    return KINDS[kind].build(Seat(account_name(dice), kind, dice, start_at, end_at, prompts))


def enrolled(
    seat: Seat,
    label: Literal["honest", "lookalike"],
    where: list[Place],
    settings: list[Setting],
    plans: tuple[str, ...],
    daily: float,
    system: str | None,
) -> Account:
    dice = seat.dice
    age_ms = int(Spread(140, 1.3).draw(dice, 1)[0]) * DAY_MS if dice.random() < 0.85 else 0
    age_ms += int(dice.integers(0, DAY_MS // 4))
    free = plans[int(dice.integers(len(plans)))]
    return Account(
        label=Label(account=seat.name, label=label, kind=seat.kind),
        places=where,
        settings=settings,
        rows=iter(()),
        daily=daily,
        system=system,
        org=f"org-{token_hex(dice)[:10]}",
        key=token_hex(dice),
        plan=free,
        opened_at=seat.start_at - age_ms,
        pathway="first_party" if dice.random() < 0.8 else "cloud-east",
        payment=token_hex(dice) if free != "free" else None,
        billing_country=where[0].country if free != "free" else None,
        lacks=lacking(dice),
    )


def _running(account: Account, seat: Seat, chunks: Iterator[tuple[int, Rows]]) -> Account:
    account.rows = in_order(chunks, seat.start_at, seat.end_at)
    return account


def chosen_setting(dice: np.random.Generator, clients: tuple[str, ...], reasons: float) -> Setting:
    """One customer's settings: most leave the defaults, some copy what a model card recommends."""
    model = REASONS if dice.random() < reasons else MODELS[int(dice.integers(len(MODELS)))]
    caps = (None, None, None, 1_024, 4_096, 8_192, 16_384)
    warmth: tuple[tuple[float | None, float | None], ...] = (
        *((None, None), (None, None), (None, None), (0.0, None), (0.2, None), (0.7, None)),
        *((1.0, None), (0.7, 0.9), (0.6, 0.95)),
    )
    temperature, top_p = warmth[int(dice.integers(len(warmth)))]
    return Setting(
        model=model,
        client=clients[int(dice.integers(len(clients)))],
        stream=bool(dice.random() < 0.6),
        max_tokens=caps[int(dice.integers(len(caps)))],
        temperature=temperature,
        top_p=top_p,
    )


def ask(dice: np.random.Generator, batch: Rows, pools: list[range], which: Ints) -> None:
    """Prompts from the pools: variations of them, and one in thirty word for word as others ask it too."""
    starts = np.array([pool.start for pool in pools])
    sizes = np.array([len(pool) for pool in pools])
    count = len(batch)
    batch["prompt"] = starts[which] + (dice.random(count) * sizes[which]).astype(np.int64)
    novel = dice.integers(1, 2**64, count, dtype=np.uint64)
    batch["variation"] = np.where(dice.random(count) < 1 / 30, np.uint64(0), novel)


def answer(dice: np.random.Generator, batch: Rows, written: Ints, setting: Setting) -> None:
    """The reply of `written` tokens: cut at the cap; one in 100 fails, one in 200 is refused."""
    count = len(batch)
    if setting.model == REASONS:
        reasoning = Spread(420, 1.0).draw(dice, count)
        batch["reasoning"] = reasoning
        written = written + reasoning
    if setting.max_tokens is not None:
        batch["finish"] = np.where(written >= setting.max_tokens, LENGTH, STOP)
        written = np.minimum(written, setting.max_tokens)
    luck = dice.random(count)
    failed, refused = luck < 0.01, (luck > 0.01) & (luck < 0.015)
    batch["status"] = np.where(failed, np.where(luck < 0.007, 429, 500), 200)
    batch["finish"] = np.where(failed, ERROR, np.where(refused, REFUSAL, batch["finish"]))
    batch["output"] = np.where(failed, 0, np.where(refused, np.minimum(written, 40), written))
    batch["reasoning"] = np.minimum(batch["reasoning"], batch["output"])
    batch["latency"] = latency(dice, batch["output"], 0.25)


def latency(dice: np.random.Generator, output: Ints, sigma: float) -> Floats:
    """Milliseconds until the last token: log-normal around first token and a constant speed."""
    return np.exp(sigma * dice.standard_normal(len(output))) * (FIRST_TOKEN_MS + TOKEN_MS * output)


def _sessions(seat: Seat, habit: People, daily: float, zone: int) -> Iterator[tuple[int, Ints, Ints, Ints]]:
    """Instants, session numbers and turns (from 0), some days at a time: about 300 requests."""
    dice = seat.dice
    step = int(np.clip(300 / daily, 1, 28))
    day_at, begun = seat.start_at, 0
    while True:
        busy = rhythm.day_weights(day_at, step, zone, habit.week)
        # A user's days differ: Gamma(2) makes a third of them quiet and some twice as busy.
        counts = dice.poisson(busy * dice.gamma(2.0, 0.5, step) * daily / habit.turns)
        begin = np.sort(rhythm.instants(dice, day_at, counts, zone, habit.hours))
        lengths = dice.geometric(1 / habit.turns, len(begin))
        ends = np.cumsum(lengths)
        firsts = ends - lengths
        total = int(ends[-1]) if len(ends) else 0
        turn = np.arange(total) - np.repeat(firsts, lengths)
        gaps = np.where(turn > 0, 1e3 * habit.gap.median * np.exp(habit.gap.sigma * dice.standard_normal(total)), 0)
        passed = np.cumsum(gaps)
        at = np.repeat(begin, lengths) + (passed - np.repeat(passed[firsts], lengths)).astype(np.int64)
        session = np.repeat(begun + np.arange(len(begin)), lengths)
        begun += len(begin)
        day_at += step * DAY_MS
        yield day_at, at, session, turn


def runs(
    seat: Seat, weekly: float, size: Spread, gap_ms: float, nightly_at: int | None
) -> Iterator[tuple[int, Ints, Ints]]:
    """Instants and positions within their run, a day at a time; runs come `weekly` times a week, in working hours
    or at one time of day. Gaps are Gamma-distributed with a CV of 1.4, as ServeGen fits most clients."""
    dice = seat.dice
    day_at = seat.start_at
    while True:
        counts = dice.poisson(np.full(1, weekly / 7))
        begin = rhythm.instants(dice, day_at, counts, 0, rhythm.OFFICE)
        if nightly_at is not None:
            begin = np.full(len(begin), day_at + nightly_at)
        spans = [int(n) for n in size.draw(dice, len(begin))]
        gaps = [dice.gamma(0.5, 2 * gap_ms, n) for n in spans]
        at = [first + np.cumsum(gap).astype(np.int64) for first, gap in zip(begin.tolist(), gaps, strict=True)]
        day_at += DAY_MS
        yield (
            day_at,
            np.concatenate([np.zeros(0, np.int64), *at]),
            np.concatenate([np.zeros(0, np.int64), *(np.arange(n) for n in spans)]),
        )


def suite(shots: str) -> Callable[[Random], str]:
    def text(luck: Random) -> str:
        return f"{shots}{grammar.grow('word_problem', luck)}\nAnswer:"

    return text
