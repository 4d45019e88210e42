"""Brake: what keeps a policy from stopping too many at once."""

from typing import Final, Literal, NamedTuple

import numpy as np

from .alerts import Alert, alert
from .rules import Limits

HOUR_MS: Final = 3_600_000


class Shares(NamedTuple):
    """What came onto a costly rung within about an hour, of all that was there."""

    stopped: float
    """Accounts that came onto such a rung."""
    accounts: float
    """Their share of all accounts that sent something."""
    traffic: float
    """The share of the hour's requests that these accounts had sent until then."""


class Brake:
    """Counts by clock hours and is pulled when too much would be stopped within one; a shadow falls on all verdicts.

    The last hour is this clock hour and what remains of the one before: its counts, weighted by the share of it that
    still lies within 60 minutes. The brake is released when it was pulled for `limits.seconds` and what would have been
    stopped within the hour is below half of both limits. `part` is the share of all traffic that is seen here: `least`,
    which is for all of it, is taken times that. Time is an argument, ms UTC.
    """

    def __init__(self, limits: Limits | None, part: float = 1.0) -> None:
        self.limits = limits
        self.pulled_at: int | None = None
        self._part = part
        self._hour = 0
        # Active accounts, requests, stopped accounts, requests of these: this clock hour and the one before.
        self._now = np.zeros(4)
        self._before = np.zeros(4)

    @property
    def pulled(self) -> bool:
        """All verdicts are shadow ones."""
        return self.pulled_at is not None and self.limits is not None

    def seen(self, at: int, accounts: int, requests: float) -> None:
        """Count accounts that had not sent anything yet in the clock hour of `at`, and requests."""
        self._turn_to(at)
        self._now[:2] += accounts, requests

    def stopped(self, at: int, accounts: int, requests: float) -> None:
        """Count accounts that came onto a costly rung, and what they had sent within the hour."""
        self._turn_to(at)
        self._now[2:] += accounts, requests

    def shares(self, at: int) -> Shares:
        """How it stands at `at`."""
        self._turn_to(at)
        left = 1.0 - min(max(at - self._hour * HOUR_MS, 0), HOUR_MS) / HOUR_MS
        active, requests, stopped, of_these = (self._now + left * self._before).tolist()
        return Shares(stopped, min(stopped / max(active, 1.0), 1.0), min(of_these / max(requests, 1.0), 1.0))

    def turn(self, at: int) -> Literal["pulled", "released"] | None:
        """Pull or release it as the counts say; what happened, if anything did."""
        limits = self.limits
        if limits is None:
            self.pulled_at = None
            return None
        stopped, accounts, traffic = self.shares(at)
        if self.pulled_at is None:
            enough = stopped >= limits.least * self._part
            if enough and (accounts > limits.accounts or traffic > limits.traffic):
                self.pulled_at = at
                return "pulled"
            return None
        waited = at - self.pulled_at >= limits.seconds * 1000
        if waited and accounts <= limits.accounts / 2 and traffic <= limits.traffic / 2:
            self.pulled_at = None
            return "released"
        return None

    def _turn_to(self, at: int) -> None:
        hour = at // HOUR_MS
        if hour <= self._hour:
            return
        self._before = self._now if hour == self._hour + 1 else np.zeros(4)
        self._now = np.zeros(4)
        self._hour = hour


AGAIN_MS: Final = HOUR_MS
"""How often a brake that stays pulled is announced again: an alert that nobody repeats runs out."""


class Said:
    """What people were told of a brake, so that they hear of it when it is pulled, while it is, and when it is over."""

    def __init__(self) -> None:
        self._alert: Alert | None = None

    def of(self, brake: Brake, policy: str, at: int) -> list[Alert]:
        """What to say of it now; `policy` is the version that it holds back."""
        if brake.pulled and self._alert is None:
            shares = brake.shares(at)
            self._alert = alert(
                "brake_pulled",
                f"policy:{policy}",
                at,
                f"{shares.stopped:,.0f} accounts, {shares.accounts:.1%} of those active, with {shares.traffic:.1%} of "
                "the requests would have been throttled or worse within an hour; verdicts are only shadows now",
                details={
                    "accounts": shares.stopped,
                    "accounts_share": shares.accounts,
                    "traffic_share": shares.traffic,
                },
            )
            return [self._alert]
        if self._alert is None:
            return []
        if not brake.pulled:
            over, self._alert = self._alert.ended(at), None
            return [over]
        if at - self._alert.at >= AGAIN_MS:
            self._alert = self._alert.again(at)
            return [self._alert]
        return []
