"""Multitude: a hundred thousand honest accounts and an attack of full size, millions of requests within minutes.

The attack is three campaigns that mirror what a vendor told in February 2026 of three labs: 24,000 accounts and 16
million exchanges, of which 150 thousand, 2.85 and 13 million. No two accounts have an address, a card, an organisation
or a key in common. Accounts are built by the simulator that the arena plays; only their instants, tokens and prompts
are drawn here, for all of them at once. Honest accounts send a fifteenth of what the arena's send: else they alone were
hundreds of millions of requests.

`python -m tests.bench.multitude` writes the requests to standard output, one a line.
"""

import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import click
import msgspec
import numpy as np
import numpy.typing as npt

from gateway.request import Request, Sketch
from streams.simulate import grammar, places, rhythm
from streams.simulate.accounts import DAY_MS, Account, account_name, dice_for
from streams.simulate.attacks import Scenario, campaign
from streams.simulate.crowds import crowded
from streams.simulate.families import FAMILIES
from streams.simulate.honest import CHAT, CLIENTS, CODING, REASONS, Seat, Spread, chosen_setting, enrolled
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY

SLICE_MS: Final = 600_000

ROW: Final = np.dtype(
    [
        ("at", np.int64), ("account", np.int32), ("session", np.int64), ("turns", np.int32), ("prompt", np.int32),
        ("variation", np.uint64), ("input", np.int32), ("output", np.int32), ("reasoning", np.int32),
    ]
)  # fmt: skip
"""One request as it is drawn; reasoning -1: absent. `at` is ms UTC."""

Rows = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Habit(NamedTuple):
    """Honest accounts of one kind: their share, requests a day, turns a session, seconds between turns, tokens."""

    share: float
    daily: Spread
    turns: float
    gap: Spread
    input: Spread
    output: Spread
    hours: Floats
    week: Floats


HABITS: Final = (
    Habit(0.66, Spread(2.5, 1.1), 4.0, CHAT.gap, CHAT.input, CHAT.output, rhythm.PRIVATE, rhythm.EVERY_DAY),
    Habit(0.22, Spread(8, 1.0), 8.0, CODING.gap, CODING.input, CODING.output, rhythm.OFFICE, rhythm.WORKDAYS),
    Habit(
        0.12, Spread(12, 1.3), 1.6, Spread(50, 0.8), Spread(420, 0.8), Spread(180, 0.8),
        rhythm.ALWAYS, rhythm.EVERY_DAY,
    ),
)  # fmt: skip
"""People who chat, people who code, products."""

LABS: Final = {"small": 0.0094, "middle": 0.178, "large": 0.8126}
"""The three campaigns, and their shares of the attack."""

TOOL_USERS: Final = 5_000
"""Users of one coding tool that comes out when the attack begins: an honest crowd."""


@dataclass(frozen=True)
class Size:
    """How much there is: accounts, requests of each attacking account, days in all and before the attack."""

    honest: int = 100_000
    attackers: int = 24_000
    exchanges: int = 667
    days: float = 12.0
    calm: float = 2.0
    seed: int = 1

    @property
    def begins_at(self) -> int:
        """When the attack begins (ms UTC)."""
        return MONDAY + int(self.calm * DAY_MS)

    @property
    def staggered(self) -> float:
        """Days over which attackers begin."""
        return (self.days - self.calm) / 5

    @property
    def lasts(self) -> float:
        """Days that each attacker works."""
        return self.days - self.calm - self.staggered

    @property
    def end_at(self) -> int:
        """When the stream ends (ms UTC)."""
        return MONDAY + int(self.days * DAY_MS)


@dataclass
class Multitude:
    """All accounts, and the stream of what they send. `group` names what each account is."""

    size: Size
    accounts: list[Account]
    group: list[str]
    prompts: Prompts
    daily: Floats
    """Requests a day; of attackers 0."""
    habit: Ints
    """Place in HABITS; of attackers -1."""
    zone: Ints
    from_at: Ints
    favourite: Ints
    """The pool of most of its prompts, by place in `pools`."""
    pools: list[range]
    lists: dict[str, range]
    """The question list of each campaign."""

    @classmethod
    def of(cls, size: Size) -> "Multitude":
        """Build the accounts: some ten seconds for a hundred thousand."""
        prompts = Prompts(size.seed)
        dice = dice_for(size.seed, "multitude")
        accounts, group, habit, zone, favourite = [], [], [], [], []
        pools = [prompts.pool(name, 250, partial(grammar.passage, name)) for name in grammar.SUBJECTS]
        pools.append(prompts.pool("coding", 800, partial(grammar.passage, "coding")))
        pools.append(prompts.pool("support", 1_000, partial(grammar.grow, "support")))
        systems = [prompts.system(f"You are the assistant of shop {number}.") for number in range(2_000)]
        kinds = dice.choice(len(HABITS), size.honest, p=[one.share for one in HABITS])
        for kind in kinds.tolist():
            hours, account, favoured = _honest(kind, dice, size, prompts, systems, len(pools))
            accounts.append(account)
            group.append("honest")
            zone.append(hours)
            favourite.append(favoured)
        habit += kinds.tolist()
        for account in crowded(
            "tool", size.seed, size.begins_at, size.end_at, prompts, TOOL_USERS * size.honest // 100_000
        ):
            accounts.append(account)
            group.append("tool")
            habit.append(1)
            zone.append(int(dice.integers(-8, 10)))
            favourite.append(len(pools) - 2)
        daily = np.array([0.0] * len(accounts))
        for kind, one in enumerate(HABITS):
            own = np.flatnonzero(np.array(habit) == kind)
            daily[own] = np.exp(np.log(one.daily.median) + one.daily.sigma * dice.standard_normal(len(own)))
        from_at = np.full(len(accounts), MONDAY, np.int64)
        # One honest account in seven is new in these days; the tool's users come within two days of its launch.
        fresh = np.flatnonzero(dice.random(size.honest) < 1 / 7)
        from_at[fresh] += (dice.random(len(fresh)) * size.days * DAY_MS).astype(np.int64)
        for row in fresh.tolist():
            if accounts[row].opened_at is not None:
                accounts[row].opened_at = int(from_at[row]) - int(dice.integers(0, DAY_MS // 4))
        from_at[size.honest :] = size.begins_at + dice.integers(0, 2 * DAY_MS, len(accounts) - size.honest)
        lists = {}
        for lab, share in LABS.items():
            scenario = _scenario(size, share)
            lists[lab] = prompts.pool(f"attack {lab}", scenario.questions, scenario.text)
            gang = campaign(lab, scenario, size.seed, MONDAY, size.end_at, prompts, size.begins_at)
            accounts += gang
            group += [lab] * len(gang)
            joined = [dice_for(size.seed, lab, i, "joined").random() for i in range(len(gang))]
            late = size.begins_at + (np.array(joined) * scenario.staggered * DAY_MS).astype(np.int64)
            from_at = np.concatenate((from_at, late))
        more = len(accounts) - len(daily)
        return cls(
            size, accounts, group, prompts, np.append(daily, np.zeros(more)), np.append(habit, np.full(more, -1)),
            np.append(zone, np.zeros(more, np.int64)), from_at, np.append(favourite, np.zeros(more, np.int64)),
            pools, lists,
        )  # fmt: skip

    def blocks(self) -> Iterator[bytes]:
        """The requests in time order, as lines; a block holds ten minutes."""
        for account in self.accounts:
            account.rows = iter(())
        written = _Written(self)
        honest, attack = _Honest(self), _Attack(self)
        for start_at in range(MONDAY, self.size.end_at, SLICE_MS):
            rows = np.concatenate((honest.between(start_at), attack.between(start_at)))
            rows = rows[np.argsort(rows["at"], kind="stable")]
            if len(rows):
                yield written.lines(rows)

    def account_days(self) -> Ints:
        """On how many UTC days each honest account sends something; 0 for attackers."""
        honest = _Honest(self)
        sent = np.zeros((len(self.accounts), -(-(self.size.end_at - MONDAY) // DAY_MS)), bool)
        for start_at in range(MONDAY, self.size.end_at, SLICE_MS):
            rows = honest.between(start_at)
            sent[rows["account"], (rows["at"] - MONDAY) // DAY_MS] = True
        return sent.sum(axis=1)


def _honest(
    kind: int, dice: np.random.Generator, size: Size, prompts: Prompts, systems: list[str | None], pools: int
) -> tuple[int, Account, int]:
    """One honest account of a kind: its time zone, itself, and its favourite pool."""
    zone, country = places.HOMES[int(dice.integers(len(places.HOMES)))]
    seat = Seat(account_name(dice), "honest", dice, MONDAY, size.end_at, prompts)
    if kind == 2:
        where = [places.server(dice) for _ in range(2)]
        setting = chosen_setting(dice, (*CLIENTS[:3], *CLIENTS[7:]), 0.15)
        system, plans, favourite = systems[int(dice.integers(len(systems)))], ("scale", "team"), pools - 1
    else:
        where = [places.home(dice, country)]
        where += [places.company(dice, country)] if dice.random() < 0.3 else []
        where += [places.mobile(dice, country) for _ in range(4)] if dice.random() < 0.4 else []
        habit = (CHAT, CODING)[kind]
        setting = chosen_setting(dice, habit.clients, 0.15)
        system = prompts.system(habit.system) if habit.system else None
        plans, favourite = habit.plans, (int(dice.integers(pools - 2)), pools - 2)[kind]
    return zone, enrolled(seat, "honest", where, [setting], plans, 1.0, system), favourite


def _scenario(size: Size, share: float) -> Scenario:
    accounts = max(3, round(size.attackers * share))
    return FAMILIES["hydra 0"]._replace(
        accounts=accounts, daily=size.exchanges / size.lasts, lasts=size.lasts, staggered=size.staggered,
        requests=None, cover=0.0,
        replacements=0, addresses=_some_homes,
    )  # fmt: skip


def _some_homes(dice: np.random.Generator) -> list[places.Place]:
    return [places.home(dice, "US") for _ in range(4)]


class _Honest:
    """Sessions of honest accounts: they begin by chance, and what does not fit into one slice goes on in the next."""

    def __init__(self, whole: Multitude) -> None:
        self.whole = whole
        self.dice = dice_for(whole.size.seed, "honest rows")
        self.held = np.zeros(0, ROW)
        self.sessions = 0
        self.reasons = np.array([account.settings[0].model == REASONS for account in whole.accounts])
        self.cap = np.array([account.settings[0].max_tokens or 2**31 - 1 for account in whole.accounts])

    def between(self, start_at: int) -> Rows:
        """What is sent in the slice that begins at an instant (ms)."""
        rows = np.concatenate((self.held, *(self._begun(kind, start_at) for kind in range(len(HABITS)))))
        now = rows["at"] < start_at + SLICE_MS
        self.held = rows[~now]
        return rows[now]

    def _begun(self, kind: int, start_at: int) -> Rows:
        whole, habit, dice = self.whole, HABITS[kind], self.dice
        own = np.flatnonzero((whole.habit == kind) & (whole.from_at <= start_at))
        hour = (start_at // rhythm.HOUR_MS + whole.zone[own]) % 24
        day = ((start_at + whole.zone[own] * rhythm.HOUR_MS) // DAY_MS + 3) % 7
        busy = habit.hours[hour] * 24 * habit.week[day]
        begun = dice.poisson(whole.daily[own] / habit.turns * busy * SLICE_MS / DAY_MS)
        account = np.repeat(own, begun)
        turns = dice.geometric(1 / habit.turns, len(account))
        session = self.sessions + np.repeat(np.arange(len(account)), turns)
        self.sessions += len(account)
        begins_at = start_at + dice.integers(0, SLICE_MS, len(account))
        rows = np.zeros(int(turns.sum()), ROW)
        first = np.cumsum(turns) - turns
        turn = np.arange(len(rows)) - np.repeat(first, turns)
        gaps = np.where(
            turn == 0, 0.0, np.exp(np.log(habit.gap.median * 1_000) + habit.gap.sigma * dice.standard_normal(len(rows)))
        )
        passed = np.cumsum(gaps)
        rows["at"] = np.repeat(begins_at, turns) + (passed - np.repeat(passed[first] if len(first) else passed, turns))
        rows["account"], rows["session"], rows["turns"] = np.repeat(account, turns), session, 2 * turn + 1
        pool = np.where(
            dice.random(len(account)) < 0.8, whole.favourite[account], dice.integers(0, len(whole.pools), len(account))
        )
        pool = np.repeat(pool, turns)
        starts, sizes = (np.array([getattr(one, name) for one in whole.pools]) for name in ("start", "stop"))
        rows["prompt"] = starts[pool] + (dice.random(len(rows)) * (sizes - starts)[pool]).astype(np.int64)
        novel = dice.integers(1, 2**64, len(rows), dtype=np.uint64)
        rows["variation"] = np.where(dice.random(len(rows)) < 1 / 30, np.uint64(0), novel)
        rows["input"] = habit.input.draw(dice, len(rows), 1 + 0.3 * np.minimum(turn, 40))
        output, own_rows = habit.output.draw(dice, len(rows)), rows["account"]
        thought = Spread(420, 1.0).draw(dice, len(rows))
        rows["reasoning"] = np.where(self.reasons[own_rows], np.minimum(thought, self.cap[own_rows]), -1)
        rows["output"] = np.minimum(output + np.maximum(rows["reasoning"], 0), self.cap[own_rows])
        return rows


class _Attack:
    """Attackers work at a constant pace until they have what they want, each its part of a list."""

    def __init__(self, whole: Multitude) -> None:
        size = whole.size
        self.dice = dice_for(size.seed, "attack rows")
        self.row = np.flatnonzero(whole.habit < 0)
        self.next_at = whole.from_at[self.row].astype(np.float64)
        self.sent = np.zeros(len(self.row), np.int64)
        self.want = size.exchanges
        self.pause = size.lasts * DAY_MS / size.exchanges
        group = np.array(whole.group)[self.row]
        self.number, self.gang = np.zeros(len(self.row), np.int64), np.zeros(len(self.row), np.int64)
        self.start, self.length = np.zeros(len(self.row), np.int64), np.zeros(len(self.row), np.int64)
        for lab, asked in whole.lists.items():
            own = group == lab
            self.number[own], self.gang[own] = np.arange(own.sum()), own.sum()
            self.start[own], self.length[own] = asked.start, len(asked)
        self.output = FAMILIES["hydra 0"].output
        self.input = FAMILIES["hydra 0"].input

    def between(self, start_at: int) -> Rows:
        """What is sent in the slice that begins at an instant (ms)."""
        found = []
        while True:
            due = np.flatnonzero((self.next_at < start_at + SLICE_MS) & (self.sent < self.want))
            if not len(due):
                return np.concatenate(found) if found else np.zeros(0, ROW)
            rows = np.zeros(len(due), ROW)
            question = self.number[due] + self.gang[due] * self.sent[due]
            rows["at"], rows["account"], rows["session"], rows["turns"] = self.next_at[due], self.row[due], -1, 1
            rows["prompt"] = self.start[due] + question % self.length[due]
            rows["variation"] = question // self.length[due]
            rows["input"] = self.input.draw(self.dice, len(due))
            rows["output"] = np.minimum(self.output.draw(self.dice, len(due)), 16_384)
            rows["reasoning"] = rows["output"] * 8 // 10
            found.append(rows)
            self.sent[due] += 1
            # The sleep is constant; an answer takes as long as it is.
            self.next_at[due] += self.pause - 20_000 + 12.0 * np.minimum(rows["output"], 6_000)


_NUMBERS: Final = {
    "at": 1_900_000_000_001,
    "input_tokens": 900_000_001,
    "output_tokens": 900_000_002,
    "turns": 900_000_003,
}
_TEXTS: Final = {"id": "@1", "session": "@2", "ip": "@3", "finish": "@4"}


class _Written:
    """Requests as the emitter's encoder writes them: a template for each account, made by that encoder."""

    def __init__(self, whole: Multitude) -> None:
        self.prompts = whole.prompts
        self.templates = [_template(account) for account in whole.accounts]
        self.ips = [[(place.ip or "").encode() for place in account.places] for account in whole.accounts]
        rows = range(max(pool.stop for pool in (*whole.pools, *whole.lists.values())))
        self.cues = [msgspec.json.encode(whole.prompts.cues(row)) for row in rows]
        self.cap = np.array([account.settings[0].max_tokens or 2**31 - 1 for account in whole.accounts])
        self.count = 0

    def lines(self, rows: Rows) -> bytes:
        """Rows as lines."""
        drawn = self.prompts.columns(rows["prompt"], rows["variation"])
        topics = [b64encode(drawn.topics[at : at + 64]) for at in range(0, len(drawn.topics), 64)]
        finish = [b"length" if cut else b"stop" for cut in (rows["output"] >= self.cap[rows["account"]]).tolist()]
        number = range(self.count, self.count + len(rows))
        self.count += len(rows)
        reasoning = [b"" if one < 0 else b'"reasoning_tokens":%d,' % one for one in rows["reasoning"].tolist()]
        session = [b"" if one < 0 else b'"session":"s%x",' % one for one in rows["session"].tolist()]
        templates, ips, cues = self.templates, self.ips, self.cues
        columns = (rows[name].tolist() for name in ("account", "at", "input", "output", "turns", "prompt"))
        return b"".join(
            [
                templates[account]
                % (
                    *(n, at, input_, output, said, turns, thought, ended, 300 + 12 * output),
                    *(ips[account][n * 7 % len(ips[account])], prefix, *bands, topic, chars, cues[prompt]),
                )
                for n, account, at, input_, output, turns, prompt, said, thought, ended, prefix, bands, topic, chars
                in zip(
                    number, *columns, session, reasoning, finish, drawn.prefix.tolist(), drawn.bands.tolist(), topics,
                    drawn.chars.tolist(), strict=True,
                )
            ]
        )  # fmt: skip


def _template(account: Account) -> bytes:
    """An account's request with a place for whatever differs from one to the next, in the order of the fields."""
    setting, place = account.settings[0], account.places[0]
    whole = Request(
        id=_TEXTS["id"], at=_NUMBERS["at"], account=account.label.account, model=setting.model,
        input_tokens=_NUMBERS["input_tokens"], output_tokens=_NUMBERS["output_tokens"], org=account.org,
        key=account.key, plan=account.plan, opened_at=account.opened_at, pathway=account.pathway,
        operation=setting.operation, session=_TEXTS["session"], turns=_NUMBERS["turns"],
        stream=setting.stream, reasoning_tokens=1,
        max_tokens=setting.max_tokens, temperature=setting.temperature, top_p=setting.top_p, status=200,
        finish=_TEXTS["finish"], latency_ms=0.5, ip=_TEXTS["ip"], asn=place.asn, country=place.country,
        network=place.network, client=setting.client, payment=account.payment, billing_country=account.billing_country,
        sketch=Sketch(v=1, system=account.system, prefix="@", bands=(0,) * 8, topic=bytes(64), chars=7, cues=("@",)),
    )  # fmt: skip
    line = msgspec.json.encode(whole).replace(b"%", b"%%")
    for spot, value in (
        (b'"@1"', b'"m-%x"'), (b"1900000000001", b"%d"), (b"900000001", b"%d"), (b"900000002", b"%d"),
        (b'"session":"@2",', b"%b"), (b"900000003", b"%d"), (b'"reasoning_tokens":1,', b"%b"), (b'"@4"', b'"%b"'),
        (b'"latency_ms":0.5', b'"latency_ms":%d'), (b'"@3"', b'"%b"'), (b'"prefix":"@"', b'"prefix":"%016x"'),
        (b'"bands":[0,0,0,0,0,0,0,0]', b'"bands":[%d,%d,%d,%d,%d,%d,%d,%d]'), (b64encode(bytes(64)), b"%b"),
        (b'"chars":7', b'"chars":%d'), (b'"cues":["@"]', b'"cues":%b'),
    ):  # fmt: skip
        if line.count(spot) != 1:
            raise ValueError(f"{spot!r} is not once in {line!r}")
        line = line.replace(spot, value)
    return line + b"\n"


@click.command()
@click.option("--honest", type=int, default=Size.honest, show_default=True)
@click.option("--attackers", type=int, default=Size.attackers, show_default=True)
@click.option("--exchanges", type=int, default=Size.exchanges, show_default=True)
@click.option("--days", type=float, default=Size.days, show_default=True)
@click.option("--calm", type=float, default=Size.calm, show_default=True)
@click.option("--seed", type=int, default=Size.seed, show_default=True)
def main(honest: int, attackers: int, exchanges: int, days: float, calm: float, seed: int) -> None:
    """Write the requests to standard output, one a line."""
    size = Size(honest=honest, attackers=attackers, exchanges=exchanges, days=days, calm=calm, seed=seed)
    for block in Multitude.of(size).blocks():
        sys.stdout.buffer.write(block)


if __name__ == "__main__":
    main()
