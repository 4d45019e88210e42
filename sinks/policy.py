"""Policy: what a score earns."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.feedback import Feedback
from gateway.verdict import ACTIONS, Verdict

from .complaints import PolicyError, parsed
from .rules import LADDER, Floats, Mode, Rules, Rung

Numbers: TypeAlias = npt.NDArray[np.floating | np.integer]
Rungs: TypeAlias = npt.NDArray[np.int8]
Bools: TypeAlias = npt.NDArray[np.bool_]

__all__ = ["PACKAGED", "Decision", "Policy", "PolicyError", "Ruling"]

PACKAGED: Final = Path(__file__).with_name("policy.toml")
"""The policy used when no other is named."""

UNSAID_SECONDS: Final = 86_400
"""How long a verdict lives whose rung the policy does not have."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is published for a subject on a rung. The ruling of no rung is `allow`."""

    action: str
    mode: Mode
    seconds: int
    parameters: dict[str, float | str]


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict to announce: a new one, a renewed one, or the end of one."""

    verdict: Verdict
    feedback: Feedback | None = None
    """What was said that led to it; None when the detector came to it by itself."""

    @property
    def lifted(self) -> bool:
        """The subject is free again: its place on the enforcement topic becomes null."""
        return self.verdict.action == "allow"


class Policy(Rules, frozen=True, dict=True, forbid_unknown_fields=True):
    """Scores and exposure in, rungs out. It never changes, reads no clock and remembers no subject.

    A rung is the place of its action in `gateway.verdict.ACTIONS`, whatever the file leaves out, so that it means the
    same under every policy; 0 is none. Doubt (a score that is not a number) resolves to no rung: a fault of ours must
    never be an outage of a customer.
    """

    @classmethod
    def load(cls, path: Path | None = None) -> "Policy":
        """The policy of a file, or the packaged one. Raises `PolicyError` when it cannot be read or used."""
        path = path or PACKAGED
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise PolicyError(f"{path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise PolicyError(f"{path}: not UTF-8 at byte {error.start}") from error
        return cls.parse(text, path.name)

    @classmethod
    def parse(cls, text: str, name: str) -> "Policy":
        """The policy written in a TOML text; `name` opens the message of a `PolicyError`."""
        return parsed(text, name, cls)

    @cached_property
    def rulings(self) -> tuple[Ruling, ...]:
        """What each rung publishes, one for each of ACTIONS; index 0 is `allow`.

        A subject has one verdict. On a shadow rung above an enforced one it keeps the enforced action, and
        the parameter `shadow` names what it would have met: trying out a harsher rung must set nobody free. Who stands
        on a rung that the file does not have meets the next milder one that it has, or else is watched.
        """
        of_action = {rung.action: rung for rung in self.rungs}
        rulings = [Ruling("allow", self.mode, 0, {})]
        ruling = Ruling("watch", self.mode, UNSAID_SECONDS, {})
        enforced: Rung | None = None
        for action in LADDER:
            rung = of_action.get(action)
            if rung is not None:
                shadow = "shadow" in (self.mode, rung.mode)
                if shadow and enforced:
                    parameters = enforced.parameters | {"shadow": rung.action}
                    ruling = Ruling(enforced.action, "enforce", enforced.seconds, parameters)
                else:
                    ruling = Ruling(action, "shadow" if shadow else "enforce", rung.seconds, rung.parameters)
                    enforced = rung if rung.enabled and not shadow else enforced
            rulings.append(ruling)
        return tuple(rulings)

    def rungs_for(
        self,
        score: Floats,
        requests: Numbers,
        kinds: Numbers,
        share_of_budget: Floats,
        rung_now: Rungs,
        exempt: Bools | None = None,
        verified: Bools | None = None,
        haste: Floats | None = None,
    ) -> Rungs:
        """The rung of each subject: one row a subject in every vector, in and out.

        `score` in [0, 1]; `requests` and `share_of_budget` served in its lifetime; `kinds` of evidence;
        `rung_now` where it stands. It climbs to the highest rung whose conditions it meets, and holds any
        rung at or below its own while its score is at least that rung's `leave`. Exempt subjects go no
        higher than watch; who is verified is not asked to verify again. `haste` (0 to 1, see `haste`) lowers both
        scores of a rung by that much of its own `haste`, in log-odds.
        """
        result = np.zeros(len(score), np.int8)
        for rung in self.rungs:
            if not rung.enabled:
                continue
            index = ACTIONS.index(rung.action)
            floor = requests >= rung.requests
            if rung.share is not None:
                floor = floor | (share_of_budget >= rung.share)
            eased = rung.haste * (np.zeros(len(score)) if haste is None else haste)
            enter, leave = _eased(rung.score, eased), _eased(rung.leave, eased)
            enters = (score >= enter) & (kinds >= rung.kinds) & floor
            stays = (rung_now >= index) & (score >= leave)
            earned = enters | stays
            if exempt is not None and rung.action != "watch":
                earned &= ~exempt
            if verified is not None and rung.action == "verify":
                earned &= ~verified
            result[earned] = index
        return result

    def rung_of(self, action: str) -> int:
        """The rung with an action; one that is unknown counts as watch."""
        return ACTIONS.index(action) if action in LADDER else 1

    def counted(self, score: Floats, verified: Bools, cleared: Bools, crowd_share: float = 0.0) -> Floats:
        """Scores as they count: the odds of who was spoken for divided by what the policy says, and those of the
        unverified multiplied while these together are served more than their limit.

        `crowd_share` is the number of budgets that went to all unverified accounts within about a day.
        """
        told, crowd, divisor = self.feedback, self.exposure.crowd, np.ones(len(score))
        if told.verified is not None:
            divisor[verified] *= told.verified.odds
        if told.cleared is not None:
            divisor[cleared] *= told.cleared.odds
        if crowd is not None and crowd_share >= crowd.share:
            divisor[~verified] /= crowd.odds
        # No 0 / 0, for the divisor is above 0.
        counted: Floats = score / (score + (1.0 - score) * divisor)
        return np.where(divisor == 1.0, score, counted)

    def budgeted(self, counted: Floats, share_of_budget: Floats, verified: Bools, exempt: Bools) -> Rungs:
        """The rung that exposure alone asks for: 0 where the account's limit is not reached."""
        limit = self.exposure.account
        if limit is None:
            return np.zeros(len(counted), np.int8)
        over = (share_of_budget >= limit.share) & (counted >= limit.score) & ~verified & ~exempt
        return np.where(over, self.rung_of(limit.action), 0).astype(np.int8)

    def seconds_for(self, rung: Rungs, strikes: Numbers, draw: Floats) -> Floats:
        """How long a verdict lives, in seconds: one row a subject.

        `strikes` counts how often it came onto a costly rung, this time included; each time after the first lasts
        `growth` times as long, up to `longest_seconds`. `draw` in [0, 1) spreads it evenly within the jitter's bounds.
        """
        timing = self.timing
        base = np.array([ruling.seconds for ruling in self.rulings], np.float64)[rung]
        # Above a thousandfold nothing grows further: 100 ** 255 is no number.
        grown = base * np.minimum(np.power(timing.growth, np.clip(strikes - 1.0, 0.0, 100.0)), 1_000.0)
        lasting = np.maximum(np.minimum(grown, timing.longest_seconds), base)
        return np.where(rung > 0, lasting * (1.0 + timing.jitter * (2.0 * draw - 1.0)), 0.0)

    def strikes_left(self, strikes: Numbers, since_ms: Numbers) -> Floats:
        """Strikes that still count: one is forgotten for each `forget_days` since the last."""
        passed = np.floor(np.maximum(since_ms, 0) / (self.timing.forget_days * 86_400_000.0))
        return np.maximum(strikes - passed, 0.0)

    def exempts(self, scope: str, value: str, at: int) -> bool:
        """Whether a subject is exempt at an instant (ms UTC)."""
        return any(at < until for until in self._exempt.get((scope, value), ()))

    @cached_property
    def _exempt(self) -> dict[tuple[str, str], list[float]]:
        ends: dict[tuple[str, str], list[float]] = {}
        for row in self.exempt:
            until = row.until.timestamp() * 1000 if row.until else float("inf")
            ends.setdefault((row.scope, row.value), []).append(until)
        return ends

    def haste(self, share_a_day: Floats, full_swing: Floats) -> Floats:
        """How much a subject's pace hurries us, 0 to 1: the share of the budget that a day takes, between the bounds of
        `pace` on a log scale, as far as it is a harvest in `full_swing` (0 to 1)."""
        pace = self.pace
        risen = np.log(np.maximum(share_a_day, 1e-12) / pace.low) / np.log(pace.high / pace.low)
        haste: Floats = np.minimum(np.fmax(risen, 0.0), 1.0) * np.nan_to_num(full_swing)
        return haste

    def haste_of(self, rung: int) -> float:
        """The log-odds that full haste is worth on a rung; 0 where there is none."""
        return next((row.haste for row in self.rungs if ACTIONS.index(row.action) == rung), 0.0)

    def share_of_budget(self, requests: Floats, output_tokens: Floats, reasoning_tokens: Floats) -> Floats:
        """How much of a viable budget was served, in the unit that is furthest; above 1 is possible."""
        budget = self.budget
        tokens = np.maximum(output_tokens / budget.output_tokens, reasoning_tokens / budget.reasoning_tokens)
        return np.maximum(requests / budget.requests, tokens)


def _eased(threshold: float, odds: Floats) -> Floats:
    """A probability lowered by so much in log-odds; to the bit the same for 0."""
    kept = np.exp(-odds) * threshold
    eased: Floats = np.where(odds > 0, kept / (kept + 1.0 - threshold), threshold)
    return eased
