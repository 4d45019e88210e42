"""Ladder: where accounts stand, and what moves them."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import numpy as np

from gateway.verdict import ACTIONS
from models import score as scoring
from models.detector import BoolVector, FloatMatrix, FloatVector, IntVector
from sinks.brake import HOUR_MS, Brake
from sinks.policy import Policy, Ruling, Rungs

from . import trust
from .crowd import Crowd
from .profiles import TOTALS, Block, moment

WATCH: Final = ACTIONS.index("watch")
THROTTLE: Final = ACTIONS.index("throttle")
"""The mildest rung that costs the customer something."""

_LAST_HOUR: Final = 1
"""The span of an hour, in windows.SPANS_SECONDS."""

Names = Callable[[IntVector], list[str]]
"""The accounts at some positions of a block."""


class Ladder:
    """The policy applied to profiles, with what it needs to know of all of them: the brake and the crowd.

    `part` is the share of all accounts whose requests are seen here: 1 / partitions.
    """

    def __init__(self, policy: Policy, part: float = 1.0) -> None:
        self.policy = policy
        self.brake = Brake(policy.brake, part)
        self.crowd = Crowd()
        self.now = 0
        """The newest instant that `see` was told of, ms: the time of brake and crowd."""
        self._part = part

    def see(self, block: Block, was_at: IntVector, served: FloatMatrix, now: int) -> FloatVector:
        """Count what was served to the accounts of a block, of which nobody has decided yet.

        `was_at` is when each was last heard of before, `served` has a row for each account and a column for each of
        TOTALS. Returns what went to accounts that nobody vouches for: one number for each of TOTALS.
        """
        self.now = max(self.now, now)
        first = int(np.count_nonzero(was_at // HOUR_MS < block["at"] // HOUR_MS))
        self.brake.seen(self.now, first, float(served[:, 0].sum()))
        unknown: FloatVector = served[trust.unverified(block, self.policy)].sum(axis=0)
        self.crowd.add(self.now, unknown)
        return unknown

    def restore(self, block: Block, now: int) -> None:
        """Take up again what can be told from profiles: what the crowd was served, and whether the brake is pulled."""
        self.now = max(self.now, now)
        self.crowd.add_profiles(block, (block["at"] > 0) & trust.unverified(block, self.policy), self.now)
        shadowed = block["shadowed"] & (block["rung"] > 0)
        if shadowed.any() and self.policy.brake is not None:
            pulled_at = int(block["ruled_at"][shadowed].max())
            self.brake.pulled_at = max(pulled_at, self.brake.pulled_at or 0)

    def adopt(self, policy: Policy, block: Block, names: Names) -> IntVector:
        """Go by another policy from here on, and fit accounts with a verdict to it, in place.

        A rung that is off now lets go of those on it, and who is exempt now is only watched. Returns the positions of
        those whose verdict is to be announced anew.
        """
        before, self.policy = self.policy, policy
        self.brake.limits = policy.brake
        off = {policy.rung_of(rung.action) for rung in policy.rungs if not rung.enabled}
        fits = np.arange(len(ACTIONS), dtype=np.int8)
        for rung in range(1, len(ACTIONS)):
            fits[rung] = fits[rung - 1] if rung in off else rung
        was = block["rung"].copy()
        at = np.maximum(block["ruled_at"], self.now)
        rung = np.where(self._exempt(block, at, names), np.minimum(fits[was], WATCH), fits[was])
        block["rung"] = np.where(_of_people(block), was, rung)
        block["until"] = np.where(block["rung"] > 0, block["until"], 0)
        told = [
            (ruling.action, ruling.mode, ruling.parameters) != (then.action, then.mode, then.parameters)
            for ruling, then in zip(policy.rulings, before.rulings, strict=True)
        ]
        changed: IntVector = np.flatnonzero((block["rung"] != was) | np.array(told)[block["rung"]])
        block["ruled_at"][changed] = at[changed]
        return changed

    def ruling(self, rung: int, *, shadowed: bool) -> Ruling:
        """What is published for a rung; with `shadowed` only as what would be."""
        ruling = self.policy.rulings[rung]
        return Ruling(ruling.action, "shadow", ruling.seconds, ruling.parameters) if shadowed else ruling

    def crowd_share(self, at: int) -> float:
        """How many budgets all unverified accounts were served within about a day, here and elsewhere."""
        return self.crowd.share(self.policy, at) / self._part

    def move(
        self, block: Block, at: IntVector, names: Names, theirs: Rungs, haste: FloatVector
    ) -> IntVector:  # fmt: skip
        """Set each profile on its rung, in place; the positions of those whose verdict is to be announced.

        `at` is the instant of each decision (ms), `theirs` the rung that its campaign has earned (0 without
        one), `haste` from 0 to 1 how much its pace hurries.
        """
        was = block["rung"].copy()
        earned = self._earned(block, at, names, theirs, haste)
        exempt = self._exempt(block, at, names)
        # A rung holds for its time: it is left early only upwards, so an account that slows down is not let off at
        # once. Who has become exempt is.
        keeps = np.where(exempt, np.minimum(was, WATCH), was)
        rung = np.where((block["until"] <= at) | (earned > keeps), earned, keeps)
        added_until = moment(block, "added_until")
        held = np.where(added_until > at, block["added"], 0)
        rung = np.maximum(rung, held).astype(np.int8)
        # People's own verdict lasts as long as they said, and is not renewed.
        kept = (rung > earned) & (rung == held)
        base = np.array([ruling.seconds for ruling in self.policy.rulings])[rung]
        stale = (rung > 0) & (earned >= rung) & (block["until"] - at < base * 500)
        back = block["shadowed"] & (not self.brake.pulled) & (earned >= rung)
        moved: IntVector = np.flatnonzero((rung != was) | stale | (back & (rung > 0)))
        if not len(moved):
            return moved
        chosen = np.zeros(len(block), dtype=bool)
        chosen[moved] = True
        self._stop(block, at, rung, was, chosen, rung > held)
        block["rung"] = rung
        draws = _draws(names(moved), block["seq"][moved], "time")
        lasting = self.policy.seconds_for(rung[moved], block["strikes"][moved].astype(np.float64), draws)
        own = at[moved] + (lasting * 1000).astype(np.int64)
        block["until"][moved] = np.where(kept[moved], added_until[moved], np.where(rung[moved] > 0, own, 0))
        block["ruled_at"][moved] = at[moved]
        block["shadowed"][moved] = self.brake.pulled & (rung[moved] > 0) & ~kept[moved]
        return moved

    def shadows(self, block: Block, at: int) -> BoolVector:
        """Which verdicts the brake turns into shadow ones when it is pulled: those of the last hour that cost."""
        since = moment(block, "struck_at") >= at - HOUR_MS
        found: BoolVector = (block["rung"] >= THROTTLE) & since & ~_of_people(block) & ~block["shadowed"]
        return found

    def _stop(
        self, block: Block, at: IntVector, rung: Rungs, was: Rungs, moved: BoolVector, by_us: BoolVector
    ) -> None:  # fmt: skip
        """Note who comes onto a costly rung, in its profile and at the brake. People's own verdicts pull no brake."""
        enforced = np.array([ruling.mode == "enforce" for ruling in self.policy.rulings])[rung]
        costly = moved & (rung >= THROTTLE) & enforced
        # What the brake had turned into a shadow and is now enforced is stopped only now.
        stopped = costly & ((was < THROTTLE) | (block["shadowed"] & (not self.brake.pulled)))
        if not stopped.any():
            return
        counted = stopped & by_us
        self.brake.stopped(self.now, int(counted.sum()), float(block["volumes"][counted, _LAST_HOUR, 0].sum()))
        if not self.brake.pulled:  # a shadow leaves no history
            since = at - moment(block, "struck_at")
            left = self.policy.strikes_left(block["strikes"].astype(np.float64), since)
            block["strikes"] = np.where(stopped, np.minimum(left + 1, 255), block["strikes"]).astype(np.uint8)
        block["struck_at"] = np.where(stopped, at // 1000, block["struck_at"])

    def _earned(
        self, block: Block, at: IntVector, names: Names, theirs: Rungs, haste: FloatVector
    ) -> Rungs:  # fmt: skip
        policy, was = self.policy, block["rung"]
        totals = dict(zip(TOTALS, block["totals"].T, strict=True))
        share = policy.share_of_budget(totals["requests"], totals["output_tokens"], totals["reasoning_tokens"])
        requests, kinds = totals["requests"], scoring.kinds(block["evidence"])
        exempt = self._exempt(block, at, names)
        known = trust.verified(block, policy)
        crowd_share = self.crowd_share(self.now) if policy.exposure.crowd else 0.0
        counted = policy.counted(block["score"].astype(np.float64), known, trust.cleared(block, policy), crowd_share)
        earned = policy.rungs_for(counted, requests, kinds, share, was, exempt, known, haste)
        climbing = np.flatnonzero(earned > was)
        if policy.timing.jitter and len(climbing):
            # How much must have been served for a rung is as uncertain as how long it lasts, but never less than said.
            draws = _draws(names(climbing), block["seq"][climbing], "floor")
            more = 1.0 + policy.timing.jitter * draws
            earned[climbing] = policy.rungs_for(
                counted[climbing], requests[climbing] / more, kinds[climbing], share[climbing] / more, was[climbing],
                exempt[climbing], known[climbing], haste[climbing],
            )  # fmt: skip
        earned = np.maximum(earned, policy.budgeted(counted, share, known | trust.licensed(block), exempt))
        # What a campaign has earned holds for its members, whatever each of them sent; but who has shown who they are
        # answers for themselves.
        earned = np.maximum(earned, np.where(exempt | known, np.minimum(theirs, WATCH), theirs))
        # Who objects is not met more harshly before somebody has looked, or some days have gone by.
        objects = moment(block, "appealed_at") + policy.feedback.appeal_days * trust.DAY_MS > at
        return np.where(objects, np.minimum(earned, was), earned).astype(np.int8)

    def _exempt(self, block: Block, at: IntVector, names: Names) -> BoolVector:
        exempt: BoolVector = moment(block, "licensed_until") > at
        if self.policy.exempt:
            told = zip(names(np.arange(len(block))), at.tolist(), strict=True)
            exempt |= np.array([self.policy.exempts("account", name, now) for name, now in told], dtype=bool)
        return exempt


def _of_people(block: Block) -> BoolVector:
    """Which profiles stand where people put them, and for as long as they said."""
    people: BoolVector = (block["added"] == block["rung"]) & (moment(block, "added_until") == block["until"])
    return people & (block["rung"] > 0)


def _draws(names: list[str], seqs: IntVector, what: str) -> FloatVector:
    """A number in [0, 1) for each account and number of its verdict: the same in every replay, of no use to guess by.

    Two accounts, or two verdicts of one, share nothing; `what` keeps apart what is drawn for.
    """
    drawn = [
        int.from_bytes(blake2b(f"{what}:{name}:{seq}".encode(), digest_size=6).digest()) / 2**48
        for name, seq in zip(names, seqs.tolist(), strict=True)
    ]
    return np.array(drawn, dtype=np.float64)
