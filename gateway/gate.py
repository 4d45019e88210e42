"""Gate: what stands before a model server: it tells who comes, lets pass or refuses, and reports."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from .actions import Actions, Refusal, limits
from .answer import Said
from .countermeasures import Countermeasures
from .emitter import Drafted, Emitter
from .exchange import Exchange, Identity
from .guard import Guard, Standing
from .identify import Identify, by_headers
from .pepper import Pepper
from .request import BLOCKED
from .settings import Settings, SettingsError
from .subscriber import Subscriber

if TYPE_CHECKING:
    from .shared import SharedBuckets

logger: Final = logging.getLogger("stillwatch_gateway")

RESTART_SECONDS: Final = 1.0
"""Pause before a task of ours that ended by a fault starts anew."""


class Passage(NamedTuple):
    """What was decided of one request. `who` is None where nobody can be told: it passes, and is not reported."""

    id: str
    at: int
    """When it came, in ms UTC."""
    who: Identity | None
    standing: Standing | None
    """What refused it, else the harshest of what stands against it."""
    refusal: Refusal | None


class _Arrival(NamedTuple):
    """A request before anything was decided of it."""

    id: str
    at: int
    who: Identity | None
    standings: tuple[Standing, ...]
    """All that stands against it, the harshest first."""


def wall() -> int:
    """The time of day in ms UTC."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A request id that nobody else has."""
    return uuid.uuid4().hex


class Gate:
    """Guard, actions, emitter and subscriber of one process, for whatever adapter stands in front.

    `enter` and `report` never wait; `run` does the waiting, in a task of its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        identify: Identify | None = None,
        clock: Callable[[], int] = wall,
        ids: Callable[[], str] = new_id,
    ) -> None:
        connection = settings.connection()
        self.guard = Guard(
            most=settings.most_verdicts, stale_seconds=settings.stale_seconds, when_stale=settings.when_stale
        )
        self.subscriber = Subscriber(self.guard, connection, settings.topic_prefix + "enforcement", clock)
        self.emitter = Emitter(
            connection,
            settings.topic_prefix + "requests",
            prompts=settings.prompts,
            sketch_key=None if settings.secret is None else Pepper(settings.secret).sketch_key,
            most=settings.buffer_requests,
            most_bytes=settings.buffer_bytes,
        )
        self.clock = clock
        self._ids = ids
        self._enforce = settings.enforce
        self._identify = identify or by_headers(settings)
        self._actions = Actions(replicas=settings.replicas, verify_url=settings.verify_url, explain=settings.explain)
        self.countermeasures = Countermeasures(
            secret=settings.secret,
            probabilities=settings.probabilities,
            bound=settings.probability_bound,
            alternatives=settings.alternatives,
            epsilon=settings.epsilon,
            budget=settings.epsilon_budget,
            when_spent=settings.when_spent,
            replicas=settings.replicas,
            watermark=settings.watermark,
        )
        self._shared = _shared(settings)
        self._counts = dict.fromkeys(("requests", "unknown", "throttled", "refused", "degraded", "faults"), 0)

    def enter(self, headers: Mapping[str, str], peer: str | None) -> Passage:
        """Decide on a request; headers by lower-case name, `peer` is the address it came from."""
        arrival = self._arrival(headers, peer)
        return self._passage(arrival, None)

    async def admit(self, headers: Mapping[str, str], peer: str | None) -> Passage:
        """The same, where replicas share the rates of throttles: then a throttled request waits for Redis."""
        arrival = self._arrival(headers, peer)
        if self._shared is None or not (asked := limits(arrival.standings)):
            return self._passage(arrival, None)
        return self._passage(arrival, await self._shared.take(asked))

    def _arrival(self, headers: Mapping[str, str], peer: str | None) -> "_Arrival":
        at, name = self.clock(), self._ids()
        self._counts["requests"] += 1
        who = self._identify(headers, peer)
        if who is None:
            self._counts["unknown"] += 1
            return _Arrival(name, at, None, ())
        if not self._enforce:
            return _Arrival(name, at, who, ())
        worst = self.guard.find(at, who.account, who.org, who.keys)
        if worst is None:
            return _Arrival(name, at, who, ())
        if worst.action == "watch":
            return _Arrival(name, at, who, (worst,))
        others = self.guard.all(at, who.account, who.org, who.keys)
        return _Arrival(name, at, who, (worst, *(each for each in others if each is not worst)))

    def _passage(self, arrival: "_Arrival", waits: Sequence[float] | None) -> Passage:
        name, at, who, standings = arrival
        if not standings:
            return Passage(name, at, who, None, None)
        refusal = self._actions.refusal(standings, at, waits)
        if refusal is not None:
            self._counts["throttled" if refusal.status == 429 else "refused"] += 1
            return Passage(name, at, who, refusal.standing, refusal)
        standing = standings[0]
        if standing.action == "degrade":
            self._counts["degraded"] += 1
            # Of several that degrade, the one that takes most.
            degrading = (each for each in standings if each.action == "degrade")
            standing = max(degrading, key=lambda each: each.strength)
        return Passage(name, at, who, standing, None)

    def spent(self, standing: Standing) -> Refusal:
        """Refuse a request that asks for probabilities and has no privacy budget left."""
        self._counts["degraded"] -= 1
        self._counts["refused"] += 1
        return self._actions.spent(standing)

    def report(self, draft: Drafted, size: int) -> None:
        """Tell the detector of a request; `size` is what the draft keeps in memory, in bytes."""
        self.emitter.emit(draft, size)

    def refused(self, passage: Passage, operation: str) -> None:
        """Tell the detector of a request that was refused before anything of it but its headers was seen."""
        if passage.who is None or passage.refusal is None:
            return
        exchange = Exchange(
            id=passage.id,
            at=passage.at,
            operation=operation,
            who=passage.who,
            asked=b"",
            said=Said(passage.refusal.status, finish=BLOCKED),
        )
        self.report(exchange, exchange.size)

    def fault(self) -> None:
        """Count a fault of ours, while it is being handled. The first is logged with its trace."""
        self._counts["faults"] += 1
        if self._counts["faults"] == 1:
            logger.exception("a fault of the gateway; the request passes untouched")

    async def run(self) -> None:
        """Send and listen until cancelled."""
        tasks = [asyncio.create_task(_kept_alive(run)) for run in (self.emitter.run, self.subscriber.run)]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._shared is not None:
                await self._shared.close()

    def counts(self) -> dict[str, int]:
        """Everything counted so far, and how things stand, for whatever metrics the server has."""
        emitter, subscriber, guard = self.emitter, self.subscriber, self.guard
        return self._counts | {
            "sent": emitter.sent,
            "waiting": emitter.waiting,
            "dropped": emitter.dropped,
            "failed": emitter.failed,
            "verdicts": len(guard),
            "verdicts_read": subscriber.read,
            "verdicts_unreadable": subscriber.unreadable,
            "verdicts_late": guard.late,
            "verdicts_dropped": guard.dropped,
            "broker_failures": subscriber.failures,
            "redis_failures": 0 if self._shared is None else self._shared.failures,
            "stale": int(guard.stale(self.clock())),
        }


def _shared(settings: Settings) -> "SharedBuckets | None":
    if settings.redis_url is None:
        return None
    try:
        from .shared import SharedBuckets  # The client of Redis is an extra.
    except ModuleNotFoundError:
        raise SettingsError("STILLWATCH_REDIS_URL needs redis: install stillwatch-gateway[redis]") from None
    return SharedBuckets(settings.redis_url, settings.topic_prefix, settings.redis_seconds, time.monotonic)


async def _kept_alive(run: Callable[[], Awaitable[None]]) -> None:
    """A fault of ours must not silence the gateway for good, nor end the server."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("a task of the gateway ended by a fault and starts anew")
        await asyncio.sleep(RESTART_SECONDS)
