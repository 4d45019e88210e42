"""Play: honest traffic and a campaign, merged in time, in front of one watcher."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, NamedTuple

import msgspec
import numpy as np

from gateway.request import Request
from models.detector import IntVector

from ..replay import BATCH, Recorded
from ..simulate.accounts import DAY_MS, Account, Label, account_name, dice_for, token_hex
from ..simulate.stream import Stream
from .judge import THROTTLE, Ledger
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


class Campaign:
    """A campaign's requests in time order, each under the account that its place in the campaign has by then.

    Where accounts are `replaced`, a place whose account has met a throttle or a harsher rung goes on at its next
    request under a new one: another name, organisation, key and card, opened within the two days before. What it asks,
    from which addresses and in which rhythm, stays: that is what the attacker cannot buy.
    """

    def __init__(self, stream: Stream, seed: int, strip: Strip, *, replaced: bool) -> None:
        self.accounts_used = len({label.account for label in stream.labels})
        self._stream = stream
        self._strip = strip
        self._seed = seed
        self._replaced = replaced
        self._of: dict[str, Account] = {account.tag: account for account in stream.accounts}
        self._standing: dict[str, dict[str, str | int | None]] = {}
        self.names: dict[str, str] = {
            account.label.account: account.label.scenario or "" for account in stream.accounts
        }

    def against(self, ledger: Ledger) -> Iterator[Sent]:
        """The requests, as the campaign answers to what the ledger says. Once."""
        for request in self._stream:
            cover = self._of[request.id.partition("-")[0]].cover
            yield sent(self._dressed(request, ledger) if self._replaced else request, self._strip, cover=cover)

    def _dressed(self, request: Request, ledger: Ledger) -> Request:
        place = request.account
        identity = self._standing.get(place)
        name = place if identity is None else str(identity["account"])
        if ledger.height(name) >= THROTTLE:
            identity = self._standing[place] = self._new_identity(request, name)
        if identity is None:
            return request
        tag = zlib.crc32(f"{identity['account']} {request.id}".encode())
        session = request.session and f"{request.session}.{self.accounts_used:x}"
        number = request.id.partition("-")[2]
        return msgspec.structs.replace(request, id=f"{tag:08x}-{number}", session=session, **identity)

    def _new_identity(self, request: Request, before: str) -> dict[str, str | int | None]:
        self.accounts_used += 1
        dice = dice_for(self._seed, "replacement", before)
        known = request.key is not None
        account = account_name(dice)
        self.names[account] = self.names[request.account]
        return {
            "account": account,
            "org": f"org-{token_hex(dice)[:10]}" if known else None,
            "key": token_hex(dice) if known else None,
            "payment": token_hex(dice) if known else None,
            "opened_at": request.at - int(dice.integers(DAY_MS // 12, 2 * DAY_MS)) if known else None,
        }


def merged(backdrop: Backdrop, first: int, campaign: Iterable[Sent]) -> Iterator[Sent]:
    """The backdrop from its request number `first` on, and a campaign, in time order.

    The campaign is read one request ahead, not more: what it sends depends on what was decided before.
    """
    position = first
    at, requests = backdrop.at, backdrop.requests
    for one in campaign:
        until = int(np.searchsorted(at, one.at, side="right"))
        yield from requests[position:until]
        position = max(position, until)
        yield one
    yield from requests[position:]
