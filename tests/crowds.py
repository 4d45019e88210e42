"""Crowds: honest accounts and campaigns among them, and a pipeline and a campaign agent that hear each other."""

from collections.abc import Iterable

from stories import DAY, HOUR, MINUTE, T0, Raw, records, request, sketch

from gateway.feedback import Feedback, Kind, Scope, encode
from gateway.request import Request
from sinks.policy import Decision, Policy
from streams.campaigns import Campaigns, Outcome
from streams.pipeline import Pipeline

POLICY = Policy.load()
BEGINS = T0 + 4 * DAY
MEMBERS = [f"eve{n}" for n in range(12)]


def settled(days: float = 5.0, accounts: int = 70) -> list[Request]:
    """People with a place, a card and an organisation of their own, five requests a day."""
    return [
        request(
            f"ada{n}", int(T0 + day * DAY / 5 + n * MINUTE), id=f"ada{n}-{day}", org=f"org-{n}", payment=f"card-{n}",
            ip=f"10.{n}.1.2", client="web", turns=3, max_tokens=(1_000, 2_000, 4_000)[n % 3],
            input_tokens=300 + 11 * n, output_tokens=200 + 7 * n, opened_at=T0 - 90 * DAY,
            sketch=sketch(100_000 + 1_000 * n + day, axis=n % 9),
        )
        for n in range(accounts) for day in range(int(days * 5))
    ]  # fmt: skip


def campaign(names: Iterable[str] = MEMBERS, hours: float = 12.0, **same: object) -> list[Request]:
    """New accounts with one card and one server, that take ten long answers an hour to short questions."""
    shared = {"payment": "virtual-1", "ip": "10.200.7.7", "client": "sdk", "max_tokens": 16_384, **same}
    return [
        request(
            name, BEGINS + n * 6 * MINUTE + number * 1_000, id=f"{name}-{n}", org=f"org-{name}", turns=1,
            input_tokens=60, output_tokens=2_400, reasoning_tokens=2_000, opened_at=BEGINS - DAY,
            sketch=sketch(number * 10_000 + n, axis=20 + n % 30), **shared,
        )
        for number, name in enumerate(names) for n in range(int(hours * 10))
    ]  # fmt: skip


def hydra(
    accounts: Iterable[int] = range(40), hours: int = 24, cover: int = 9, begins: int = BEGINS, hourly: int = 1
) -> list[Request]:
    """Resellers' accounts that share nothing but a setup: `hourly` extractions, and `cover` requests of customers with
    each."""
    sent = []
    for number in accounts:
        own = {"org": f"org-h{number}", "payment": f"card-h{number}", "ip": f"10.{number}.250.9", "opened_at": T0}
        for n in range(hours * hourly):
            at = begins + n * HOUR // hourly + number % 40 * 83_000
            sent.append(
                request(
                    f"hal{number}", at, id=f"h{number}-{n}", client="sdk", turns=1, max_tokens=16_384, temperature=0.6,
                    input_tokens=60, output_tokens=2_400, reasoning_tokens=2_000,
                    sketch=sketch(9_000_000 + number * 10_000 + n, axis=20 + n % 30), **own,
                )
            )  # fmt: skip
            sent += [
                request(
                    f"hal{number}", at + other * 5 * MINUTE, id=f"h{number}-{n}-{other}", client="sdk", turns=3,
                    max_tokens=(1_000, 2_000, 4_000)[(number + other) % 2], input_tokens=400 + 31 * number,
                    output_tokens=200 + 13 * number,
                    sketch=sketch(7_000_000 + (number * 100 + n) * 10 + other, axis=(number + other) % 9), **own,
                )
                for other in range(1, cover + 1)
            ]  # fmt: skip
    return sent


class World:
    """A pipeline and a campaign agent that hear each other after every batch."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(POLICY)
        self.campaigns = Campaigns(POLICY)
        self.sightings: list[Raw] = []
        self.said: list[Outcome] = []
        self.decisions: list[Decision] = []
        self._offset = 0

    def run(self, requests: Iterable[Request], size: int = 200) -> "World":
        ordered = sorted(requests, key=lambda one: one.at)
        for start in range(0, len(ordered), size):
            batch = ordered[start : start + size]
            outcome = self.pipeline.process(records(batch, self._offset))
            self._offset += len(batch)
            self.decisions += outcome.decisions
            if outcome.sightings is not None:
                self.hear(Raw(outcome.sightings))
        return self

    def hear(self, *sightings: Raw) -> Outcome:
        self.sightings += sightings
        return self.take(self.campaigns.process(sightings))

    def take(self, outcome: Outcome) -> Outcome:
        self.said.append(outcome)
        self.decisions += outcome.decisions
        self.decisions += self.pipeline.stand(outcome.standings)
        return outcome

    def say(self, kind: Kind, scope: Scope, value: str) -> Outcome:
        at = self.campaigns.event_at
        told = Feedback(id=f"{kind}-{value}", at=at, scope=scope, value=value, kind=kind, by="noor", reason="seen")
        return self.take(self.campaigns.hear([Raw(encode(told), 0, value.encode(), at)]))

    def actions(self, subject: str) -> list[str]:
        return [one.verdict.action for one in self.decisions if one.verdict.subject == subject]

    def members(self) -> set[str]:
        return {account for account, _ in self.campaigns.standings()}
