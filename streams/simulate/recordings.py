"""Recordings: when real API clients sent, and how many tokens."""

import csv
import gzip
import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .accounts import DAY_MS
from .rhythm import Floats, Ints

WINDOW_MS: Final = 600_000
RECORDED_DAYS: Final = 14
QUANTILES: Final = ("p5", "p25", "p50", "p75", "p95", "p99")
LEVELS: Final = np.array([0.05, 0.25, 0.5, 0.75, 0.95, 0.99])


class Recording(NamedTuple):
    """One recorded client. Windows and token rows are in time order."""

    name: str
    requests: float
    at: Ints
    """ms from the start of the recording, one for each active window."""
    rate: Floats
    """Requests a second."""
    shape: Floats
    """Of the gaps; Gamma, or Weibull where `weibull`."""
    weibull: NDArray[np.bool_]
    tokens_at: Ints
    """ms from the start of the recording; empty where no tokens were recorded."""
    tokens_in: Floats
    """One row for each `tokens_at`: the token counts at `LEVELS`."""
    tokens_out: Floats


def recordings(folder: Path) -> list[Recording]:
    """The clients of `servegen_clients.csv.gz` with their windows and tokens, the largest first.

    OSError where a file is missing, ValueError where a column or number is.
    """
    windows = _grouped(folder / "servegen_client_windows.csv.gz", ("t_s", "rate_rps", "arrival_pat", "p1"))
    names = [f"{side}_{level}" for side in ("in", "out") for level in QUANTILES]
    quantiles = _grouped(folder / "servegen_client_tokens_6h.csv.gz", ("t_s", *names))
    clients = []
    for client, rows in _grouped(folder / "servegen_clients.csv.gz", ("est_requests",)).items():
        at, rate, pattern, shape = zip(*windows[client], strict=True) if client in windows else ((),) * 4
        counts = np.array(quantiles.get(client, []), np.float64).reshape(-1, 1 + len(names))
        clients.append(
            Recording(
                name=" ".join(client),
                requests=float(rows[0][0]),
                at=1_000 * np.array(at, np.int64),
                rate=np.array(rate, np.float64),
                shape=np.array(shape, np.float64),
                weibull=np.array([name == "Weibull" for name in pattern], bool),
                tokens_at=(1_000 * counts[:, 0]).astype(np.int64),
                tokens_in=counts[:, 1 : 1 + len(QUANTILES)],
                tokens_out=counts[:, 1 + len(QUANTILES) :],
            )
        )
    return sorted(clients, key=lambda client: (-client.requests, client.name))


def pairs(path: Path) -> tuple[Ints, Ints]:
    """Input and output tokens of a recorded sequence of requests."""
    counts = np.array(list(_rows(path, ("in_tok", "out_tok"))), np.int64).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]


def arrivals(
    dice: np.random.Generator, recording: Recording, share: float, *, shifted: bool
) -> Iterator[tuple[int, Ints]]:
    """Instants (ms from the start) of `share` of a client's requests, a day at a time with the instant it ends.

    A renewal process in the time that the rate makes: gaps of mean 1 and of the window's recorded shape, stretched by
    the window's rate. What is left of a gap at a window's end goes on in the next. `shifted` exchanges the weeks.
    """
    at = _clock(recording.at, shifted=shifted)
    order = np.argsort(at, kind="stable")
    starts, at = at[order].tolist(), at[order]
    expected = (recording.rate * (WINDOW_MS / 1_000) * share)[order].tolist()
    shapes, weibull = recording.shape[order].tolist(), recording.weibull[order].tolist()
    edges = np.searchsorted(at, np.arange(RECORDED_DAYS + 1) * DAY_MS).tolist()
    ahead = dice.exponential()
    for day in count():
        found = [np.zeros(0, np.int64)]
        played_ms = day // RECORDED_DAYS * RECORDED_DAYS * DAY_MS
        for i in range(edges[day % RECORDED_DAYS], edges[day % RECORDED_DAYS + 1]):
            if ahead < expected[i]:
                passed = _renewals(dice, ahead, expected[i], shapes[i], weibull=weibull[i])
                found.append(starts[i] + played_ms + (passed[:-1] * (WINDOW_MS / expected[i])).astype(np.int64))
                ahead = float(passed[-1])
            ahead -= expected[i]
        yield (day + 1) * DAY_MS, np.concatenate(found)


def tokens(
    dice: np.random.Generator, recording: Recording, other: tuple[Ints, Ints], elapsed: Ints, *, shifted: bool
) -> tuple[Ints, Ints]:
    """Input and output tokens for requests at `elapsed` (ms from the start, in order).

    Drawn between the quantiles of the 6 hours, the last known ones where there are none; for a client without any,
    pairs of `other`.
    """
    if not len(recording.tokens_at):
        chosen = dice.integers(0, len(other[0]), len(elapsed))
        return other[0][chosen], other[1][chosen]
    at = _clock(elapsed % (RECORDED_DAYS * DAY_MS), shifted=shifted)
    row = np.maximum(0, np.searchsorted(recording.tokens_at, at, side="right") - 1)
    return (
        _between(dice, recording.tokens_in[row]),
        _between(dice, recording.tokens_out[row]),
    )


def _between(dice: np.random.Generator, quantiles: Floats) -> Ints:
    """One count for each row of quantiles: linear between two, constant outside of the outermost."""
    level = np.clip(dice.random(len(quantiles)), LEVELS[0], LEVELS[-1])
    upper = np.clip(np.searchsorted(LEVELS, level), 1, len(LEVELS) - 1)
    rows = np.arange(len(quantiles))
    low, high = quantiles[rows, upper - 1], quantiles[rows, upper]
    part = (level - LEVELS[upper - 1]) / (LEVELS[upper] - LEVELS[upper - 1])
    counts: Ints = np.maximum(1, np.rint(low + part * (high - low))).astype(np.int64)
    return counts


def _renewals(dice: np.random.Generator, first: float, end: float, shape: float, *, weibull: bool) -> Floats:
    """Instants from `first` with gaps of mean 1, up to the first one at or after `end`."""
    size = int(1.2 * (end - first)) + 8
    blocks = [np.array([first])]
    while blocks[-1][-1] < end:
        gaps = dice.weibull(shape, size) / math.gamma(1 + 1 / shape) if weibull else dice.gamma(shape, 1 / shape, size)
        blocks.append(blocks[-1][-1] + np.cumsum(gaps))
    passed = np.concatenate(blocks)
    return passed[: int(np.searchsorted(passed, end)) + 1]


def _clock(at: Ints, *, shifted: bool) -> Ints:
    """Times of the recording, with its two weeks exchanged if `shifted`."""
    return (at + RECORDED_DAYS // 2 * DAY_MS) % (RECORDED_DAYS * DAY_MS) if shifted else at


Cells = tuple[str, ...]


def _grouped(path: Path, columns: Cells) -> dict[Cells, list[Cells]]:
    """The named columns of a table, in file order, by model and client."""
    groups: dict[Cells, list[Cells]] = defaultdict(list)
    for row in _rows(path, ("model", "client", *columns)):
        groups[row[:2]].append(row[2:])
    return groups


def _rows(path: Path, columns: Cells) -> Iterator[Cells]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        missing = set(columns) - set(header)
        if missing:
            raise ValueError(f"{path}: no column {sorted(missing)[0]!r}")
        wanted = [header.index(name) for name in columns]
        for line in lines:
            yield tuple(line[i] for i in wanted)
