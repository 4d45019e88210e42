"""Traffic: requests as a serving tier sends them, millions of them within seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.request import Request
from streams.simulate.attacks import SCENARIOS
from streams.simulate.honest import CLIENTS, MODELS, REASONS
from streams.simulate.prompts import Prompts

DAY_MS: Final = 86_400_000

ACCOUNTS: Final = 100_000

GAP_MS: Final = DAY_MS // 2_000_000

HARVEST_REQUESTS: Final = 800
"""Requests of one attacker: about what published campaigns send a day and account."""

_PROMPTS: Final = 2_000
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: spreads account numbers over 64 bits.


@dataclass(frozen=True)
class Traffic:
    """So many requests, the last one at `end_at` (ms UTC), at a pace of 2,000,000 a day if not told otherwise.

    Honest accounts are drawn from a Zipf law with exponent 1: the largest of 100,000 sends one request in twelve.
    `attack_share` of all requests comes from accounts that harvest reasoning, so that there is something to announce.
    """

    records: int
    end_at: int
    accounts: int = ACCOUNTS
    attack_share: float = 0.02
    seed: int = 7
    first: int = 0
    """How many came before: their ids and their attackers are over."""
    chunk: int = 20_000
    """How many are made at once."""
    gap_ms: int = GAP_MS
    """Between two of them."""

    def __iter__(self) -> Iterator[Request]:
        dice = np.random.default_rng(self.seed)
        prompts = Prompts(self.seed)
        asked = prompts.pool("bench", _PROMPTS, SCENARIOS["harvest"].text)
        harvested = prompts.pool("bench harvest", _PROMPTS, SCENARIOS["reasoning"].text)
        systems = [prompts.system(f"You are the assistant of shop {n}.") if n % 4 else None for n in range(256)]
        weights = 1.0 / np.arange(1, self.accounts + 1)
        ladder = np.cumsum(weights / weights.sum())
        attackers = max(1, int(self.records * self.attack_share / HARVEST_REQUESTS))
        over = int(self.first * self.attack_share / HARVEST_REQUESTS)
        for start in range(0, self.records, self.chunk):
            size = min(self.chunk, self.records - start)
            number = np.arange(start, start + size)
            attack = dice.random(size) < self.attack_share
            # Rank r is account r * 7919 mod accounts, so that rank says nothing about a name.
            honest = np.searchsorted(ladder, dice.random(size)).astype(np.int64) * 7_919 % self.accounts
            account = np.where(attack, self.accounts + over + dice.integers(0, attackers, size), honest)
            pool = np.where(attack, harvested.start, asked.start)
            prompt = (pool + dice.integers(0, _PROMPTS, size)).astype(np.int32)
            sketches = prompts.sketches(
                prompt,
                dice.integers(0, 50, size).astype(np.uint64),
                [None if a else systems[n] for a, n in zip(attack.tolist(), (account % 256).tolist(), strict=True)],
            )
            at = self.end_at - (self.records - 1 - number) * self.gap_ms
            written = np.where(attack, dice.lognormal(7.5, 0.5, size), dice.lognormal(5.5, 0.9, size)).astype(np.int64)
            columns = zip(
                (self.first + number).tolist(), at.tolist(), account.tolist(), attack.tolist(), sketches,
                written.tolist(), dice.lognormal(6.0, 1.0, size).astype(np.int64).tolist(),
                dice.integers(0, 8, size).tolist(), (account.astype(np.uint64) * _MULTIPLIER).tolist(), strict=True,
            )  # fmt: skip
            for n, at_, account_, attack_, sketch, output, input_, die, hashed in columns:
                limit = 16_384 if attack_ else (1_024, 2_048, 4_096)[account_ % 3]
                output = min(output, limit)
                yield Request(
                    id=f"req-{n:012x}",
                    at=at_,
                    account=f"acct-{account_:07d}",
                    model=REASONS if attack_ else MODELS[account_ % len(MODELS)],
                    input_tokens=input_,
                    output_tokens=output,
                    key=f"{hashed:016x}",
                    plan=("free", "pro", "team", "scale")[hashed % 4],
                    opened_at=self.end_at - DAY_MS * (1 if attack_ else 10 + hashed % 900),
                    session=f"s-{n if attack_ else n // 4:x}",
                    turns=1 if attack_ else 1 + die,
                    reasoning_tokens=output * 8 // 10 if attack_ else None,
                    max_tokens=limit,
                    top_logprobs=5 if attack_ else None,
                    temperature=0.6,
                    status=200,
                    finish="length" if output == limit else "stop",
                    ip=f"10.{hashed % 200}.{die}.{n % 250}"
                    if attack_
                    else f"10.{hashed % 200}.{account_ % 250}.{die // 3}",
                    asn=64_512 + (n if attack_ else hashed) % 200,
                    client=CLIENTS[account_ % len(CLIENTS)],
                    sketch=sketch,
                )
