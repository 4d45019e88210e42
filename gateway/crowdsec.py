"""CrowdSec: verdicts as decisions, for bouncers that exist: `GET /v1/decisions/stream` with an API key.

Run it by `uvicorn --factory stillwatch_gateway.crowdsec:app`. A decision's scope is `account`, `org`, `key` or
`campaign`, as a verdict's is, never an address: so it serves bouncers that run a program of yours or look a name up,
and gives one that closes addresses nothing to do.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from .gate import wall
from .guard import Guard, Standing
from .senders import Senders
from .service import Receive, Scope, Send, lifespan, reply, vitals
from .settings import Settings, SettingsError
from .subscriber import Subscriber

PATH: Final = "/v1/decisions/stream"

TYPES: Final = {"throttle": "throttle", "verify": "captcha", "degrade": "degrade", "suspend": "ban"}
"""CrowdSec's word for each action; watch is no decision."""

ORIGIN: Final = "stillwatch"

MOST_ENDED: Final = 100_000
"""Decisions remembered after their end. A bouncer that was away for more of them is told everything again."""

PATIENCE_SECONDS: Final = 10.0
"""How long a bouncer waits for the topic to have been read; many give up for good when first refused."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One decision as bouncers read it. `duration` is Go's: 1h0m5s, negative where it is over."""

    id: int
    origin: str
    type: str
    scope: str
    value: str
    duration: str
    scenario: str


class Filters(NamedTuple):
    """What a bouncer wants to hear of; empty means everything."""

    scopes: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    containing: tuple[str, ...] = ()
    not_containing: tuple[str, ...] = ()

    @classmethod
    def read(cls, query: dict[str, str]) -> "Filters":
        """Filters from a query's parameters, each a list separated by commas."""

        def words(name: str) -> list[str]:
            return [word for word in query.get(name, "").split(",") if word]

        return cls(
            frozenset(word.lower() for word in words("scopes")),
            frozenset(words("origins")),
            tuple(words("scenarios_containing")),
            tuple(words("scenarios_not_containing")),
        )

    def take(self, standing: Standing) -> bool:
        """Whether a bouncer wants to hear of it."""
        scenario = _scenario(standing)
        return (
            (not self.scopes or standing.scope in self.scopes)
            and (not self.origins or ORIGIN in self.origins)
            and (not self.containing or any(word in scenario for word in self.containing))
            and not any(word in scenario for word in self.not_containing)
        )


class _Entry(NamedTuple):
    number: int
    standing: Standing


class Ledger:
    """What changed in a guard, in order, so that each bouncer hears of every change once.

    Changes are found when somebody asks: by a walk over what does more than watch, which is little. `most_ended` are
    remembered after their end.
    """

    def __init__(self, guard: Guard, most_ended: int = MOST_ENDED) -> None:
        self._guard = guard
        self._number = 0
        self._live: dict[str, _Entry] = {}  # in the order of their numbers
        self._ended: deque[_Entry] = deque(maxlen=most_ended)
        self._forgotten = 0
        """Ends up to this number are known no more."""
        self._told: dict[str, int] = {}
        """How far each bouncer has been told."""

    def pull(self, bouncer: str, now: int, *, startup: bool, filters: Filters) -> dict[str, list[Decision]]:
        """What a bouncer has not heard of yet, or everything that holds at its `startup`."""
        self._renew(now)
        told = self._told.get(bouncer, 0)
        self._told[bouncer] = self._number
        if startup or told < self._forgotten:
            told = 0
        new: Iterable[_Entry] = [] if told == self._number else self._since(told, self._live.values())
        ended: Iterable[_Entry] = [] if startup or told == self._number else self._since(told, self._ended)
        return {
            "new": [_decision(each, now) for each in new if filters.take(each.standing)],
            "deleted": [_decision(each, now, over=True) for each in ended if filters.take(each.standing)],
        }

    def _since(self, told: int, entries: Iterable[_Entry]) -> list[_Entry]:
        return [entry for entry in entries if entry.number > told]

    def _renew(self, now: int) -> None:
        current = {standing.subject: standing for standing in self._guard.harsh(now)}
        for subject in [subject for subject in self._live if subject not in current]:
            self._end(self._live.pop(subject).standing)
        for subject, standing in current.items():
            known = self._live.get(subject)
            if known is not None and known.standing.id == standing.id and known.standing.until == standing.until:
                continue
            self._live.pop(subject, None)
            if known is not None and known.standing.action != standing.action:
                self._end(known.standing)
            self._number += 1
            self._live[subject] = _Entry(self._number, standing)

    def _end(self, standing: Standing) -> None:
        self._number += 1
        if len(self._ended) == self._ended.maxlen:
            self._forgotten = self._ended[0].number
        self._ended.append(_Entry(self._number, standing))


class Stream:
    """The service as an ASGI application."""

    def __init__(self, settings: Settings, *, clock: Callable[[], int] = wall) -> None:
        if settings.bouncer_keys is None:
            raise SettingsError("set STILLWATCH_BOUNCER_KEYS: a file of bouncers, one `name key` a line")
        self.guard = Guard(
            most=settings.most_verdicts, stale_seconds=settings.stale_seconds, when_stale=settings.when_stale
        )
        topic = settings.topic_prefix + "enforcement"
        self.subscriber = Subscriber(self.guard, settings.connection(), topic, clock)
        self._bouncers = Senders(settings.bouncer_keys, time.monotonic)
        self._ledger = Ledger(self.guard)
        self._clock = clock
        self._counts = dict.fromkeys(("pulls", "strangers"), 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one bouncer's question, or what probes and Prometheus ask."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.subscriber.run)
        elif scope["type"] == "http" and scope["path"] == PATH:
            await self._answer(scope, send)
        elif scope["type"] == "http":
            await vitals(scope, send, ready=self.subscriber.restored.is_set(), counts=self._all_counts())

    async def _answer(self, scope: Scope, send: Send) -> None:
        key = next((value for name, value in scope["headers"] if name == b"x-api-key"), b"")
        bouncer = self._bouncers.holder(key.decode("latin-1"))
        if bouncer is None:
            self._counts["strangers"] += 1
            await reply(send, 403, b'{"message":"access forbidden"}')
            return
        try:
            await asyncio.wait_for(self.subscriber.restored.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            await reply(send, 503, b'{"message":"the verdicts have not been read yet"}')
            return
        self._counts["pulls"] += 1
        query = {name: ",".join(values) for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        host = scope["client"][0] if scope.get("client") else ""
        told = self._ledger.pull(
            f"{bouncer} {host}",
            self._clock(),
            startup=query.get("startup") == "true",
            filters=Filters.read(query),
        )
        await reply(send, 200, msgspec.json.encode(told))

    def _all_counts(self) -> dict[str, int]:
        subscriber = self.subscriber
        return self._counts | {
            "verdicts": len(self.guard),
            "verdicts_read": subscriber.read,
            "verdicts_unreadable": subscriber.unreadable,
            "broker_failures": subscriber.failures,
            "stale": int(self.guard.stale(self._clock())),
        }


def app() -> Stream:
    """The service as the environment describes it. Raises SettingsError or SendersError."""
    return Stream(Settings.read(os.environ, identifies=False))


def _scenario(standing: Standing) -> str:
    return f"stillwatch/{standing.action}"


def _decision(entry: _Entry, now: int, *, over: bool = False) -> Decision:
    standing = entry.standing
    left = standing.until - now
    return Decision(
        id=entry.number,
        origin=ORIGIN,
        type=TYPES[standing.action],
        scope=standing.scope,
        value=standing.value,
        duration=duration(min(left, -1_000) if over else left),
        scenario=_scenario(standing),
    )


def duration(milliseconds: int) -> str:
    """A span as Go writes it, in whole seconds: 1h0m5s."""
    seconds = abs(milliseconds) // 1000
    sign = "-" if milliseconds < 0 else ""
    return f"{sign}{seconds // 3600}h{seconds // 60 % 60}m{seconds % 60}s"
