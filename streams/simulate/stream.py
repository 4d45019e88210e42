"""Stream: the requests of many simulated accounts, merged in time."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.request import Request

from .accounts import DAY_MS, FINISHES, Account, Label, Rows, dice_for
from .attacks import SCENARIOS
from .families import campaigns
from .honest import honest
from .prompts import Prompts

SLICE: Final = 8_000
"""At most so many requests are built at a time."""

MONDAY: Final = 1_767_571_200_000
"""2026-01-05 00:00 UTC, in ms: where a stream starts unless told otherwise."""


class Stream:
    """Requests in the order of their `at`, and the truth about every account. It can be read once.

    Memory grows with the number of accounts, by some hundred requests each, and not with the number of days.
    """

    def __init__(self, accounts: Sequence[Account], prompts: Prompts, start_at: int, end_at: int) -> None:
        self.accounts = accounts
        self.labels: list[Label] = [account.label for account in accounts]
        self.start_at = start_at
        self.end_at = end_at
        self._prompts = prompts

    def __iter__(self) -> Iterator[Request]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[Request]]:
        """The same requests, some thousands at a time: faster than one by one."""
        span_ms = self.end_at - self.start_at
        expected = max(1.0, sum(account.daily for account in self.accounts) * span_ms / DAY_MS)
        step_ms = max(1_000, int(span_ms * SLICE / expected))
        # (next instant, account): only accounts with something to send are touched.
        waiting: list[tuple[int, int]] = []
        ready: list[Rows] = []
        for number, account in enumerate(self.accounts):
            rows = account.chunk()
            ready.append(rows)
            if len(rows):
                waiting.append((int(rows["at"][0]), number))
        heapq.heapify(waiting)
        while waiting:
            until = max(waiting[0][0], self.start_at) + step_ms
            taken: list[tuple[int, Rows]] = []
            while waiting and waiting[0][0] < until:
                _, number = heapq.heappop(waiting)
                rows = ready[number]
                cut = int(np.searchsorted(rows["at"], until))
                taken.append((number, rows[:cut]))
                rest = rows[cut:] if cut < len(rows) else self.accounts[number].chunk()
                ready[number] = rest
                if len(rest):
                    heapq.heappush(waiting, (int(rest["at"][0]), number))
            # What comes at one instant is ordered by account, whatever the steps are.
            taken.sort(key=itemgetter(0))
            rows = np.concatenate([part for _, part in taken])
            owner = np.repeat([number for number, _ in taken], [len(part) for _, part in taken])
            order = np.argsort(rows["at"], kind="stable")
            # A burst can put many times the expected requests into one step.
            for first in range(0, len(order), SLICE):
                piece = order[first : first + SLICE]
                yield self._requests(rows[piece], owner[piece])

    def _requests(self, rows: Rows, owner: NDArray[np.int64]) -> list[Request]:
        accounts = [self.accounts[number] for number in owner.tolist()]
        sketches = self._prompts.sketches(rows["prompt"], rows["variation"], [account.system for account in accounts])
        rows["latency"] = np.round(rows["latency"], 1)
        columns = (rows[name].tolist() for name in _COLUMNS)
        requests = []
        for (
            account,
            sketch,
            at,
            number,
            input_,
            output,
            reasoning,
            cached,
            session,
            turns,
            place_,
            setting_,
            tools,
            status,
            finish,
            latency,
        ) in zip(accounts, sketches, *columns, strict=True):
            place = account.places[place_]
            setting = account.settings[setting_]
            requests.append(
                Request(
                    id=f"{account.tag}-{number:x}",
                    at=at,
                    account=account.label.account,
                    model=setting.model,
                    input_tokens=input_,
                    output_tokens=output,
                    org=account.org,
                    key=account.key,
                    plan=account.plan,
                    opened_at=account.opened_at,
                    pathway=account.pathway,
                    operation=setting.operation,
                    session=None if session < 0 else f"{account.tag}s{session:x}",
                    turns=None if turns < 0 else turns,
                    tools=None if tools < 0 else tools,
                    stream=setting.stream,
                    reasoning_tokens=None if reasoning < 0 else reasoning,
                    cached_tokens=None if cached < 0 else cached,
                    max_tokens=setting.max_tokens,
                    temperature=setting.temperature,
                    top_p=setting.top_p,
                    choices=setting.choices,
                    top_logprobs=setting.top_logprobs,
                    status=status,
                    finish=FINISHES[finish],
                    latency_ms=None if latency < 0 else latency,
                    ip=place.ip,
                    asn=place.asn,
                    country=place.country,
                    network=place.network,
                    client=setting.client,
                    payment=account.payment,
                    billing_country=account.billing_country,
                    sketch=sketch,
                )
            )
        return requests


_COLUMNS: Final = (
    *("at", "number", "input", "output", "reasoning", "cached", "session", "turns"),
    *("place", "setting", "tools", "status", "finish", "latency"),
)


def simulate(
    seed: int = 1,
    *,
    days: float = 1.0,
    accounts: int = 300,
    scenarios: Iterable[str] = tuple(SCENARIOS),
    start_at: int = MONDAY,
    attack_after: float | None = None,
) -> Stream:
    """`accounts` honest accounts over `days` days from `start_at` (ms UTC), and one campaign for each scenario.

    The same arguments give the same requests, byte for byte; one account more leaves the others as they are.
    Attacks begin `attack_after` seconds after the start, or at their share of the stream. An unknown scenario
    is a ValueError that names the known ones.
    """
    end_at = start_at + int(days * DAY_MS)
    prompts = Prompts(seed)
    everyone = list(crowd(seed, start_at, end_at, prompts, range(accounts)))
    begins_at = None if attack_after is None else start_at + int(attack_after * 1_000)
    everyone += campaigns(scenarios, seed, start_at, end_at, prompts, begins_at)
    return Stream(everyone, prompts, start_at, end_at)


def crowd(seed: int, start_at: int, end_at: int, prompts: Prompts, numbers: Iterable[int]) -> Iterator[Account]:
    """Honest accounts by number, of the kinds and shares in `KINDS`."""
    for number in numbers:
        yield honest(dice_for(seed, "honest", number), start_at, end_at, prompts)
