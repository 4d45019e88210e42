"""Traces: streams composed of recorded arrivals, token counts and prompts.

A directory of traces has `traces/servegen_clients.csv.gz`, `servegen_client_windows.csv.gz` and
`servegen_client_tokens_6h.csv.gz` (real API clients: rate and gaps per 10 minutes, token quantiles per 6 hours),
`traces/azure2023_conv.csv.gz` (token counts for clients recorded without), and prompts as
`prompts/{benign,lookalike,extraction}/*.jsonl.gz`. No recording joins account, address and prompt, so identity and
addresses are simulated, and the label of each account says what was recorded.

- **Thinning.** The largest client sent 424 million requests. A client of E requests keeps sqrt(E x `keep`) of them if
  that is less: the order of sizes and a heavy tail stay. The rate is scaled and the shape of the gaps kept, so that
  bursts stay bursts with longer pauses.
- **Once more, a week apart.** For more accounts than recorded clients, some clients are played a second time with
  other dice, prompts and identity, and with the two weeks of their recording exchanged.
- **Prompts.** Each client asks from one benign set, prompts that fit into the recorded number of input tokens. The sets
  are far smaller than the traffic: an account sends a text word for word the first time, and then as variations of it
  (see prompts.py), as customers' texts differ in names and numbers. The lookalike and extraction sets are sent word
  for word in file order, once through or as often as their account repeats them, and then the account is silent.
"""

import gzip
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from . import grammar, places
from .accounts import (
    DAY_MS,
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
    luck_of,
    token_hex,
)
from .attacks import PIPELINE, Answers, work
from .families import campaigns
from .honest import CLIENTS, MODELS, Spread, answer, chosen_setting
from .prompts import Prompts
from .recordings import RECORDED_DAYS, Recording, arrivals, pairs, recordings, tokens
from .rhythm import Floats, Ints
from .stream import MONDAY, Stream

CHARS_A_TOKEN: Final = 4


class _Line(msgspec.Struct):
    """One line of a prompt set."""

    prompt: str
    ref_output_chars: int = 0


class TextSet(NamedTuple):
    """A set of prompts in the prompt table, with the length of the recorded answer to each (characters, 0: unknown)."""

    name: str
    pool: range
    chars: Ints
    answers: Ints


class Harvest(NamedTuple):
    """How the pipeline that made a public extraction set asks."""

    setting: Setting
    workers: int
    sleep_ms: float
    repeats: int
    output: Spread


# Public pipelines: bare questions go out four times over at the reasoning settings; augmented sets have their
# samples in the list already; instruction sets are collected by one loop with a constant sleep.
HARVESTS: Final = {
    "gsm8k_train_bare": Harvest(PIPELINE, 8, 1_000.0, 4, Spread(1_900, 0.8)),
    "rendered_metamath_ansaug": Harvest(
        PIPELINE._replace(model=MODELS[0], temperature=0.7, top_p=None, max_tokens=512), 1, 5_000.0, 1, Spread(220, 0.4)
    ),
}
ANY_HARVEST: Final = Harvest(
    PIPELINE._replace(model=MODELS[0], temperature=1.0, top_p=None, max_tokens=2_048), 1, 20_000.0, 1, Spread(300, 0.6)
)
"""For sets without a line of their own."""

EVALUATIONS: Final = (1, 4, 14)
"""Times that the three accounts of a lookalike set run it in two weeks."""


@dataclass(frozen=True, slots=True)
class _Span:
    seed: int
    start_at: int
    end_at: int
    prompts: Prompts


def recorded(
    folder: Path,
    seed: int = 1,
    *,
    days: float = RECORDED_DAYS,
    start_at: int = MONDAY,
    keep: int = 25,
    again: int = 100,
    scenarios: Iterable[str] = (),
) -> Stream:
    """A stream composed of the recordings in `folder`; simulated campaigns may be added to it.

    `keep` sets how far large clients are thinned and `again` how many clients are played a second time. Longer than
    two weeks, the recording starts over. Raises OSError where a file is missing, ValueError where one is malformed.
    """
    end_at = start_at + int(days * DAY_MS)
    span = _Span(seed, start_at, end_at, Prompts(seed))
    clients = recordings(folder / "traces")
    other = pairs(folder / "traces" / "azure2023_conv.csv.gz")
    sets = {
        side: [_text_set(path, span.prompts) for path in sorted((folder / "prompts" / side).glob("*.jsonl.gz"))]
        for side in ("benign", "lookalike", "extraction")
    }
    if not sets["benign"]:
        raise ValueError(f"{folder / 'prompts' / 'benign'}: no prompts")
    accounts = [_client(span, client, other, sets["benign"], keep, shifted=False) for client in clients]
    # Clients are sorted by size: an even choice takes large and small ones.
    chosen = np.unique(np.linspace(0, len(clients) - 1, min(again, len(clients))).astype(int)).tolist()
    accounts += [_client(span, clients[i], other, sets["benign"], keep, shifted=True) for i in chosen]
    for texts in sets["lookalike"]:
        accounts += [_evaluation(span, texts, runs) for runs in EVALUATIONS]
    for number, texts in enumerate(sets["extraction"]):
        accounts.append(_harvest(span, texts, number))
    accounts += campaigns(scenarios, seed, start_at, end_at, span.prompts)
    return Stream(accounts, span.prompts, start_at, end_at)


def _client(
    span: _Span,
    recording: Recording,
    other: tuple[Ints, Ints],
    benign: list[TextSet],
    keep: int,
    *,
    shifted: bool,
) -> Account:
    dice = dice_for(span.seed, "recorded", recording.name, int(shifted))
    share = min(1.0, math.sqrt(keep / recording.requests))
    texts = benign[int(dice.choice(len(benign), p=_fitting(recording, benign)))]
    setting = chosen_setting(dice, CLIENTS[:3], reasons=0.0)._replace(
        model=MODELS[0] if "large" in recording.name else MODELS[1], max_tokens=None
    )
    where = [places.server(dice) for _ in range(int(dice.integers(1, 5)))]
    counted = "recorded" if len(recording.tokens_at) else "azure2023_conv"
    source = f"{recording.name}, thinned to {share:.2g}" + (", weeks exchanged" if shifted else "")
    account = _identity(
        dice,
        Label(
            account=account_name(dice),
            label="honest",
            kind="recorded",
            source=f"{source}; prompts {texts.name}; tokens {counted}",
        ),
        where,
        setting,
        daily=recording.requests * share / RECORDED_DAYS,
        opened_at=span.start_at - int(Spread(140, 1.3).draw(dice, 1)[0]) * DAY_MS,
    )
    if dice.random() < 0.7:
        account.system = span.prompts.system(grammar.grow("system", luck_of(dice)))
    by_size = np.argsort(texts.chars, kind="stable")
    sizes = texts.chars[by_size]

    def rows() -> Iterator[tuple[int, Rows]]:
        asked = np.zeros(len(sizes), bool)
        for settled_at, elapsed in arrivals(dice, recording, share, shifted=shifted):
            batch = empty(len(elapsed))
            batch["at"] = span.start_at + elapsed
            batch["input"], written = tokens(dice, recording, other, elapsed, shifted=shifted)
            answer(dice, batch, written, setting)
            fitting = np.maximum(1, np.searchsorted(sizes, CHARS_A_TOKEN * batch["input"], side="right"))
            chosen = by_size[(dice.random(len(batch)) * fitting).astype(np.int64)]
            novel = dice.integers(1, 2**64, len(batch), dtype=np.uint64)
            first = np.zeros(len(batch), bool)
            first[np.unique(chosen, return_index=True)[1]] = True
            batch["variation"] = np.where(first & ~asked[chosen], 0, novel)
            asked[chosen] = True
            batch["prompt"] = texts.pool.start + chosen
            batch["place"] = dice.integers(0, len(where), len(batch))
            batch["turns"] = 1
            yield span.start_at + settled_at, batch

    account.rows = in_order(rows(), span.start_at, span.end_at)
    return account


def _evaluation(span: _Span, texts: TextSet, runs: int) -> Account:
    dice = dice_for(span.seed, "evaluation", texts.name, runs)
    # As lm-eval asks: greedy, at most 256 tokens.
    setting = Setting(model=MODELS[0], client=CLIENTS[0], stream=False, max_tokens=256, temperature=0.0)
    account = _identity(
        dice,
        Label(
            account=account_name(dice),
            label="lookalike",
            kind="evaluation",
            source=f"prompts {texts.name}, {runs} runs; arrivals simulated",
        ),
        [places.server(dice)],
        setting,
        daily=runs * len(texts.pool) / RECORDED_DAYS,
        opened_at=span.start_at - int(dice.integers(20, 400)) * DAY_MS,
    )

    def rows() -> Iterator[tuple[int, Rows]]:
        apart_ms = RECORDED_DAYS * DAY_MS // runs
        first_at = span.start_at + int(dice.integers(0, apart_ms // 2))
        while True:
            batch = empty(len(texts.pool))
            batch["at"] = first_at + np.cumsum(dice.gamma(0.5, 700.0, len(batch))).astype(np.int64)
            batch["prompt"] = np.arange(texts.pool.start, texts.pool.stop)
            batch["input"] = 1 + texts.chars // CHARS_A_TOKEN
            answer(dice, batch, _written(dice, texts, Spread(100, 0.4)), setting)
            batch["turns"] = 1
            first_at += apart_ms
            yield first_at, batch

    account.rows = in_order(rows(), span.start_at, span.end_at)
    return account


def _harvest(span: _Span, texts: TextSet, number: int) -> Account:
    dice = dice_for(span.seed, "harvest", texts.name)
    harvest = HARVESTS.get(texts.name, ANY_HARVEST)
    # Like the simulated campaigns: after three tenths of the stream, and not all on one day.
    begins_at = span.start_at + int((0.3 + 0.1 * (number % 6)) * (span.end_at - span.start_at))
    requests = len(texts.pool) * harvest.repeats
    account = _identity(
        dice,
        Label(
            account=account_name(dice),
            label="attack",
            kind="extraction",
            scenario=texts.name,
            campaign=texts.name,
            source=f"prompts {texts.name}, {harvest.repeats} times each; arrivals simulated",
        ),
        [places.server(dice) for _ in range(4)],
        harvest.setting,
        daily=requests * DAY_MS / (span.end_at - span.start_at),
        opened_at=begins_at - int(dice.integers(DAY_MS // 12, 2 * DAY_MS)),
    )

    def ask(numbers: Ints, batch: Rows) -> None:
        question = np.minimum(numbers // harvest.repeats, len(texts.pool) - 1)
        batch["prompt"] = texts.pool.start + question
        batch["input"] = 1 + texts.chars[question] // CHARS_A_TOKEN

    asked = work(
        dice,
        begins_at,
        ask,
        workers=harvest.workers,
        sleep_ms=harvest.sleep_ms,
        answers=Answers(harvest.setting, Spread(1, 0.0), harvest.output, len(account.places)),
        requests=requests,
    )
    account.rows = in_order(asked, begins_at, span.end_at)
    return account


def _identity(
    dice: np.random.Generator,
    label: Label,
    where: list[Place],
    setting: Setting,
    *,
    daily: float,
    opened_at: int,
) -> Account:
    return Account(
        label=label,
        places=where,
        settings=[setting],
        rows=iter(()),
        daily=daily,
        org=f"org-{token_hex(dice)[:10]}",
        key=token_hex(dice),
        plan=("pro", "team", "scale")[int(dice.integers(3))],
        opened_at=opened_at,
        pathway="first_party" if dice.random() < 0.8 else "cloud-east",
        payment=token_hex(dice),
        billing_country=where[0].country,
        lacks=lacking(dice),
    )


def _fitting(recording: Recording, benign: list[TextSet]) -> Floats:
    """Chances of the benign sets: the nearer their median length to the client's median input, the likelier."""
    typical = float(np.median(recording.tokens_in[:, 2])) if len(recording.tokens_in) else 1_020.0
    lengths = np.array([np.median(texts.chars) for texts in benign]) / CHARS_A_TOKEN
    weights = 1.0 / (1.0 + np.abs(np.log(np.maximum(1, lengths) / max(1.0, typical)))) ** 4
    return np.asarray(weights / np.sum(weights), np.float64)


def _written(dice: np.random.Generator, texts: TextSet, unknown: Spread) -> Ints:
    """Output tokens for each text: as long as the recorded answer, give or take a fifth."""
    answers = texts.answers / CHARS_A_TOKEN * np.exp(0.2 * dice.standard_normal(len(texts.answers)))
    return np.where(texts.answers > 0, np.maximum(1, answers).astype(np.int64), unknown.draw(dice, len(answers)))


def _text_set(path: Path, prompts: Prompts) -> TextSet:
    """Reads a set of prompts into the prompt table."""
    name = path.name.removesuffix(".jsonl.gz")
    try:
        with gzip.open(path, "rb") as file:
            lines = msgspec.json.Decoder(_Line).decode_lines(file.read())
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    if not lines:
        raise ValueError(f"{path}: no prompts")
    pool = prompts.add(name, [line.prompt for line in lines])
    answers = np.array([line.ref_output_chars for line in lines], np.int64)
    return TextSet(name, pool, prompts.chars(pool), answers)
