"""Hydra: a campaign as it is sent, by an attacker who replaces the accounts that are acted on."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.request import Request

from ..simulate.accounts import DAY_MS, Account, Place, account_name, dice_for, token_hex
from ..simulate.attacks import Scenario
from ..simulate.stream import Stream
from .judge import THROTTLE, Ledger
from .play import Sent, Strip, sent

HOUR_MS: Final = 3_600_000

Identity = dict[str, str | int | None]


@dataclass(slots=True)
class _Place:
    """One place of a campaign: the account that it sends from now, and when it gets another one (ms)."""

    name: str
    replaced: int = 0
    due_at: int | None = None
    identity: Identity = field(default_factory=dict)
    homes: list[Place] = field(default_factory=list)


class Campaign:
    """A campaign's requests in time order, each under the account that its place in the campaign has by then.

    A place whose account has met a throttle or a harsher rung goes on with it until its seller has delivered another
    one: another name, organisation, key and card, opened within the two days before, and other addresses where every
    account has its own. That happens `replacements` times at most; then the place goes on with what it has. What it
    asks, with which client and settings and in which rhythm, stays: that is what the attacker cannot buy.
    """

    def __init__(self, stream: Stream, seed: int, strip: Strip, scenario: Scenario) -> None:
        self.accounts_used = len({label.account for label in stream.labels})
        self._stream = stream
        self._strip = strip
        self._seed = seed
        self._scenario = scenario
        self._of: dict[str, Account] = {account.tag: account for account in stream.accounts}
        self._places: dict[str, _Place] = {}
        self.names: dict[str, str] = {
            account.label.account: account.label.scenario or "" for account in stream.accounts
        }

    def against(self, ledger: Ledger) -> Iterator[Sent]:
        """The requests, as the campaign answers to what the ledger says. Once."""
        for request in self._stream:
            cover = self._of[request.id.partition("-")[0]].cover
            dressed = self._dressed(request, ledger) if self._scenario.replacements else request
            yield sent(dressed, self._strip, cover=cover)

    def _dressed(self, request: Request, ledger: Ledger) -> Request:
        place = self._places.setdefault(request.account, _Place(request.account))
        if place.replaced < self._scenario.replacements and ledger.height(place.name) >= THROTTLE:
            if place.due_at is None:
                place.due_at = request.at + self._delivery(place)
            elif request.at >= place.due_at:
                self._replace(place, request)
        if not place.replaced:
            return request
        tag = zlib.crc32(f"{place.name} {request.id}".encode())
        number = request.id.partition("-")[2]
        session = request.session and f"{request.session}.{place.replaced:x}"
        moved = self._moved(request, place.homes[tag % len(place.homes)]) if place.homes else {}
        return msgspec.structs.replace(request, id=f"{tag:08x}-{number}", session=session, **place.identity, **moved)

    def _delivery(self, place: _Place) -> int:
        dice = dice_for(self._seed, "delivery", place.name)
        spread = self._scenario.delivery
        return int(spread.median * HOUR_MS * float(dice.lognormal(0.0, spread.sigma)))

    def _replace(self, place: _Place, request: Request) -> None:
        self.accounts_used += 1
        dice = dice_for(self._seed, "replacement", place.name)
        known = request.key is not None
        place.name = account_name(dice)
        place.replaced += 1
        place.due_at = None
        self.names[place.name] = self.names[request.account]
        place.identity = {
            "account": place.name,
            "org": f"org-{token_hex(dice)[:10]}" if known else None,
            "key": token_hex(dice) if known else None,
            "payment": token_hex(dice) if known else None,
            "opened_at": request.at - int(dice.integers(DAY_MS // 12, 2 * DAY_MS)) if known else None,
        }
        place.homes = self._scenario.addresses(dice) if self._scenario.apart else []

    def _moved(self, request: Request, home: Place) -> Identity:
        """Another address, with what a request tells of its own."""
        told = {"ip": home.ip, "asn": home.asn, "country": home.country, "network": home.network}
        return {name: value for name, value in told.items() if getattr(request, name) is not None}
