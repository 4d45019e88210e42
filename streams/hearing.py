"""Hearing: what people say of an account, and what it does to the account's profile."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from gateway.feedback import Feedback, UnreadableFeedbackError, decode
from gateway.verdict import ACTIONS
from sinks.policy import Decision, Policy

from .batch import Record, SetAside
from .ladder import THROTTLE
from .profiles import Block, clear, moment

VERIFY: Final = ACTIONS.index("verify")

LABELS: Final = {"confirmed": True, "false_alarm": False}
"""Kinds that say whether an account was an attacker's: what the detectors learn from people. That somebody could show
who they are, or could not, says little about it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of some messages of feedback."""

    heard: int = 0
    """Messages that changed a profile."""
    skipped: int = 0
    """Messages that their profile already contained, or that are none of an account's."""
    decisions: list[Decision] = field(default_factory=list)
    """One for each message heard: how the account stands now, with what was said, for the audit."""
    unreadable: list[SetAside] = field(default_factory=list)
    appeared: list[str] = field(default_factory=list)
    """Accounts that had no profile before. One that belongs on another partition was written with a wrong key."""


class Told(NamedTuple):
    """One readable message and where it stood."""

    offset: int
    feedback: Feedback


def read(records: Iterable[Record]) -> tuple[list[Told], list[SetAside]]:
    """Decode messages; those that cannot be read are set aside. Records without a value are skipped."""
    told, aside = [], []
    for record in records:
        if record.value is None:
            continue
        try:
            told.append(Told(record.offset, decode(record.value, record.timestamp)))
        except UnreadableFeedbackError as error:
            aside.append(SetAside(record, error.reason, str(error)))
    return told, aside


def obey(one: Block, told: Told, policy: Policy) -> None:
    """Change a profile (a block of 1) as was said, in place. Its rung and the end of it are right afterwards."""
    feedback = told.feedback
    at = feedback.at
    now = at // 1000
    one["heard"] = told.offset
    match feedback.kind:
        case "false_alarm" | "lift":
            clear(one)
            one["cleared_at"] = now
        case "verified":
            _release(one, VERIFY)
            one["verified_at"] = now
        case "licensed":
            _release(one, ACTIONS.index("suspend"))
            one["licensed_until"] = _seconds(feedback.until or 0)
        case "verification_failed":
            one["verified_at"] = 0
            _strike(one, now, policy)
            _hold(one, policy.feedback.verification_failed, at, None, policy)
        case "confirmed":
            # Whoever spoke for it before was mistaken.
            one["verified_at"] = one["cleared_at"] = one["licensed_until"] = 0
            _strike(one, now, policy)
            _hold(one, policy.feedback.confirmed, at, None, policy)
        case "add":
            _hold(one, feedback.action, at, feedback.until, policy)
        case "appeal":
            # One appeal for each time it came onto a rung: who appeals again and again gains nothing.
            if one["rung"][0] >= THROTTLE and one["appealed_at"][0] <= one["struck_at"][0]:
                one["appealed_at"] = now


def _release(one: Block, most: int) -> None:
    """End what is in force, and let exposure begin anew; what the account did is still known.

    What people hold it to goes on where that is harsher than `most`.
    """
    for name in ("totals", "strikes", "struck_at", "appealed_at"):
        one[name] = 0
    if one["added"][0] <= most:
        one["added"] = one["added_until"] = 0
    one["rung"], one["until"] = one["added"], moment(one, "added_until")


def _strike(one: Block, now: int, policy: Policy) -> None:
    since = now * 1000 - moment(one, "struck_at")
    one["strikes"] = np.minimum(policy.strikes_left(one["strikes"].astype(np.float64), since) + 1, 255)
    one["struck_at"] = now


def _seconds(at: int) -> int:
    """An instant in whole seconds, not before it, and as late as four bytes can say: the year 2106."""
    return min(-(-at // 1000), 2**32 - 1)


def _hold(one: Block, action: str | None, at: int, until: int | None, policy: Policy) -> None:
    """Put it on a rung at least, for that rung's time or until an instant (ms)."""
    if action is None:
        return
    rung = ACTIONS.index(action)
    if until is None:
        # As long as this rung lasts for an account of this history, without the jitter: people like to know.
        strikes = one["strikes"].astype(np.float64)
        until = at + int(policy.seconds_for(np.array([rung]), strikes, np.array([0.5]))[0] * 1000)
    one["added"], one["added_until"] = rung, _seconds(until)
    until = _seconds(until) * 1000
    if rung == one["rung"][0]:
        one["until"] = max(int(one["until"][0]), until)
    elif rung > one["rung"][0]:
        one["rung"], one["until"] = rung, until
