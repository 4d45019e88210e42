"""Notices: which alerts hold, and what is new about them, as their topic tells it."""

from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from .alerts import Alert

KEPT_MS: Final = 24 * 3_600_000
"""How long an alert that has ended is still told to Alertmanagers: longer than they or we may be away."""


class Notice(NamedTuple):
    """The beginning or the end of an alert, or that it became more or less severe."""

    alert: Alert
    firing: bool

    @property
    def key(self) -> str:
        """Names the alert: the same at its beginning and at its end, and whenever it comes again."""
        return _digest(*self.alert.identity[:2], *(f"{name}={value}" for name, value in self.alert.identity[2]))

    @property
    def id(self) -> str:
        """Names this notice: the same when it is told twice."""
        return _digest(self.key, self.alert.since, self.alert.severity, self.firing)


class Notices:
    """The alerts of a topic: those that hold and those that ended within a day.

    What is said again is no news. Messages may come late or twice: the newest of an alert counts, by its `at`. All
    times are ms UTC.
    """

    def __init__(self) -> None:
        self._newest: dict[object, Alert] = {}
        self._firing: set[object] = set()
        self._outgrown: list[Alert] = []
        """Alerts that go on with another severity, ended as what they were: an Alertmanager takes them for two."""

    def take(self, alert: Alert) -> list[Notice]:
        """Note a message; what is new about its alert."""
        key = alert.identity
        before, firing = self._newest.get(key), key in self._firing
        if before is not None and alert.at < before.at:
            return []
        if before is not None and firing:
            alert = msgspec.structs.replace(alert, since=min(before.since, alert.since))
        self._newest[key] = alert
        if alert.over:
            self._firing.discard(key)
            return [Notice(alert, firing=False)] if firing else []
        self._firing.add(key)
        if before is None or not firing:
            return [Notice(alert, firing=True)]
        if before.severity == alert.severity:
            return []
        self._outgrown.append(before.ended(alert.at))
        return [Notice(alert, firing=True)]

    def expire(self, now: int) -> list[Notice]:
        """The ends of alerts that nobody said again in time. What ended long ago is forgotten."""
        ended = []
        for key in [key for key in self._firing if self._newest[key].ends_at <= now]:
            self._firing.discard(key)
            ended.append(Notice(self._newest[key], firing=False))
        self._newest = {
            key: alert for key, alert in self._newest.items() if key in self._firing or alert.ends_at > now - KEPT_MS
        }
        self._outgrown = [alert for alert in self._outgrown if alert.ends_at > now - KEPT_MS]
        return ended

    def firing(self) -> list[Alert]:
        """The alerts that hold."""
        return [self._newest[key] for key in self._newest if key in self._firing]

    def standing(self) -> list[Alert]:
        """The alerts that hold and those that ended within a day."""
        return [*self._outgrown, *self._newest.values()]


def _digest(*parts: object) -> str:
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()
