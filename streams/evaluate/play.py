"""Play: honest traffic and a campaign, merged in time, in front of one watcher."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, NamedTuple

import msgspec
import numpy as np

from gateway.request import Request
from models.detector import IntVector

from ..replay import BATCH, Recorded
from ..simulate.accounts import Label
from ..simulate.stream import Stream
from .judge import Ledger
from .watchers import Watcher

SPAN_MS: Final = 300_000
"""Batches close after five minutes of event time, or `BATCH` requests. Longer than a worker waits, so that what an
attacker got is rather overstated: verdicts bind from the next batch on."""

_encoder: Final = msgspec.json.Encoder()


class Sent(NamedTuple):
    """One request as it is sent: its bytes, and what the judge must know of it."""

    at: int
    line: bytes
    account: str
    output: int
    reasoning: int
    cover: bool = False


Strip = Callable[[Request], Request]


def stripped(fields: Sequence[str]) -> Strip:
    """Takes optional fields away from requests. ValueError for a field that is not one."""
    optional = {field.name for field in msgspec.structs.fields(Request) if not field.required}
    for name in fields:
        if name not in optional:
            raise ValueError(f"{name!r} is no optional field of a request; those are {', '.join(sorted(optional))}")
    gone = dict(zip(fields, repeat(None)))
    return (lambda request: msgspec.structs.replace(request, **gone)) if gone else (lambda request: request)


def sent(request: Request, strip: Strip, *, cover: bool = False) -> Sent:
    """A request as it is sent. Tokens are the truth, whatever is stripped."""
    line = _encoder.encode(strip(request))
    return Sent(request.at, line, request.account, request.output_tokens, request.reasoning_tokens or 0, cover)


@dataclass(frozen=True)
class Backdrop:
    """Honest traffic, encoded once and played before every family."""

    at: IntVector
    requests: list[Sent]
    labels: list[Label]

    @classmethod
    def of(cls, stream: Stream, strip: Strip) -> "Backdrop":
        """All of a stream."""
        requests = [sent(request, strip) for request in stream]
        return cls(np.array([request.at for request in requests], np.int64), requests, stream.labels)

    def before(self, at: int) -> int:
        """How many requests come before an instant."""
        return int(np.searchsorted(self.at, at))


class Table:
    """One watcher, the ledger of what it did, and the offset that the next record gets."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.ledger = Ledger()
        self._offset = 0

    def take(self, batch: Sequence[Sent]) -> None:
        """Give the watcher a micro-batch, count it as served, then note what the watcher did."""
        ledger = self.ledger
        for at, _, account, output, reasoning, cover in batch:
            ledger.send(account, at, reasoning, output, cover=cover)
        records = [Recorded(None, one.line, self._offset + position) for position, one in enumerate(batch)]
        self._offset += len(batch)
        accounts = list(dict.fromkeys(one.account for one in batch))
        seen = self.watcher.watch(records, accounts)
        ledger.weigh(accounts, seen.strengths.tolist(), batch[-1].at)
        if seen.scores is not None:
            ledger.believe(accounts, seen.scores.tolist(), batch[-1].at)
        for act in seen.acts:
            ledger.act(act)


def batches(requests: Iterable[Sent]) -> Iterator[list[Sent]]:
    """Requests in time order, cut into micro-batches."""
    batch: list[Sent] = []
    for one in requests:
        if batch and (len(batch) >= BATCH or one.at - batch[0].at >= SPAN_MS):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def merged(backdrop: Backdrop, start_at: int, end_at: int, campaign: Iterable[Sent]) -> Iterator[Sent]:
    """The backdrop from one instant to before another (ms), and a campaign, in time order.

    The campaign is read one request ahead, not more: what it sends depends on what was decided before.
    """
    position, end = backdrop.before(start_at), backdrop.before(end_at)
    at, requests = backdrop.at[:end], backdrop.requests
    for one in campaign:
        until = int(np.searchsorted(at, one.at, side="right"))
        yield from requests[position:until]
        position = max(position, until)
        yield one
    yield from requests[position:end]
