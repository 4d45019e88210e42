"""Pipeline: observe, score, decide, learn; no Kafka, no clock."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np

from gateway.feedback import Feedback
from gateway.verdict import Exposure, Reason, Verdict
from models import score as scoring
from models.detector import FloatMatrix, FloatVector, IntVector
from models.ensemble import Ensemble
from models.signals import WORDS, TermIndices, evidence, full_swing
from sinks.alerts import Alert
from sinks.brake import Said
from sinks.policy import Decision, Policy

from . import hearing, trust, whole
from .batch import Batch, Record, SetAside, read
from .features import Features, features, matrix
from .hearing import Heard
from .ladder import Ladder, Names
from .learned import Learned
from .links import Linker
from .profiles import JUDGED_FROM, TOTALS, Block, Profiles, blank, moment, observe
from .repeats import Repeats
from .standing import Standing, Standings, UnreadableStandingError
from .standing import decode as decode_standing
from .typical import REASON_FROM, REASONS_SHOWN, Typical
from .windows import Groups

LESSON_MS: Final = 900_000
"""Event time between two lessons of one account: whoever sends most must not be what is normal."""

_WORDS: Final = tuple(WORDS)
_NEVER: Final = int(np.iinfo(np.int64).max) // 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one micro-batch."""

    requests: int = 0
    """Readable requests, each counted in its profile."""
    skipped: int = 0
    """Requests that their profile already held: read again after a crash."""
    repeated: int = 0
    """Requests whose id came a moment ago: a producer sent them twice."""
    blocked: int = 0
    """Requests that were refused because of a verdict: they count nowhere."""
    decisions: list[Decision] = field(default_factory=list)
    unreadable: list[SetAside] = field(default_factory=list)
    appeared: list[str] = field(default_factory=list)
    """Accounts that had no profile before."""
    sightings: bytes | None = None
    """What its accounts have in common with others, for the campaign agent."""
    scores: FloatVector = field(default_factory=lambda: np.zeros(0))
    """The score of each account that the batch touched and that has sent enough to be judged."""
    event_at: int = 0
    """The newest `at` (ms) of the batch; 0 when nothing was readable."""
    one_account: str = ""
    """The account of one of its requests; empty when none was counted."""
    unverified: FloatVector = field(default_factory=lambda: np.zeros(len(TOTALS)))
    """What was served to accounts that nobody vouches for: one number for each of TOTALS."""
    alerts: list[Alert] = field(default_factory=list)
    """That the brake was pulled or is released, that the crowd has changed, or that a field is missing."""


class Pipeline:
    """Everything that happens to the requests of one partition, in one place and one order.

    The Faust agent, `replay` and the tests drive it. It is synchronous and deterministic: the same records in the same
    batches give the same decisions. Time is the newest `at` it has seen.
    """

    def __init__(
        self, policy: Policy, *, detector: Ensemble | None = None, most_profiles: int = 2_000_000, partitions: int = 1
    ) -> None:  # fmt: skip
        self._ladder = Ladder(policy, 1.0 / partitions)
        self.profiles = Profiles(most_profiles)
        self.typical = Typical()
        self.event_at = 0
        self._learned = Learned(detector)
        self._said = Said()
        self._repeats = Repeats()
        self._linker = Linker()
        self._standings = Standings()
        # The oldest request of all: whoever appears later is new to us, whoever was there before need not be.
        self._watched_since = _NEVER
        # (until, row) of every rung, soonest first; stale entries are dropped when they come up.
        self._ends: list[tuple[int, int]] = []

    @property
    def policy(self) -> Policy:
        """What decides."""
        return self._ladder.policy

    @property
    def crowd_share(self) -> float:
        """How many budgets all accounts that nobody vouches for were served within about a day, on all partitions."""
        return self._ladder.crowd_share(self._ladder.now)

    @property
    def braked(self) -> bool:
        """The brake is pulled: verdicts are shadows."""
        return self._ladder.brake.pulled

    @property
    def accounts(self) -> int:
        """Profiles held."""
        return len(self.profiles)

    @property
    def unprotected(self) -> bool:
        """Whether the detectors learn everything, because too much of what arrives looks extreme."""
        return self._learned.lifted

    @property
    def live_count(self) -> int:
        """Accounts that a verdict is in force for."""
        return len(self._live_rows())

    def process(self, records: Sequence[Record]) -> Outcome:
        """Take one micro-batch of raw records through all four steps."""
        batch, unreadable = read(records)
        if batch is None:
            return Outcome(unreadable=unreadable)
        readable = len(batch)
        # What a verdict kept from being served is no use and no exposure, and must not prove the verdict right.
        batch = batch.keep(~batch.blocked)
        blocked = readable - len(batch)
        batch = batch.keep(self._repeats.first_seen(batch.ids))
        repeated = readable - blocked - len(batch)
        self.profiles.appeared.clear()
        rows = self.profiles.rows(batch.accounts)
        # What is read again after a crash is known by its offset, account by account.
        held = batch.offsets <= self.profiles.table["offset"][rows]
        skipped = int(held.sum())
        batch, rows = batch.keep(~held), rows[~held]
        if not len(batch):
            return Outcome(0, skipped, repeated, blocked, unreadable=unreadable, appeared=self.profiles.appeared.copy())
        groups = Groups.by(rows)
        block = self.profiles.pick(groups.rows)
        was_at, were = block["at"].copy(), block["totals"].copy()
        observe(block, batch, self._cost(batch), groups)
        event_at = int(block["at"].max())
        self._watched_since = min(self._watched_since, int(batch.at.min()))
        # The median, so that a few wrong clocks do not end everybody's verdicts.
        self.event_at = max(self.event_at, int(np.median(batch.at)))
        self._learned.look(batch, groups, self.event_at)
        unverified = self._ladder.see(block, was_at, block["totals"] - were, self.event_at)
        self._standings.meet(self.profiles.appeared, self.profiles)
        kin = self._standings.among(groups.rows)
        judged = np.flatnonzero((block["totals"][:, 0] >= JUDGED_FROM) | kin)
        decisions, scores = self._judge(groups.rows, block, judged) if len(judged) else ([], np.zeros(0))
        self.profiles.put(groups.rows, block)
        self.typical.look(self.profiles, self.event_at, self._watched_since)
        decisions += self.expire(self.event_at)
        alerts = self._brake(decisions) + self._learned.alerts(self.event_at)
        return Outcome(
            requests=len(batch),
            skipped=skipped,
            repeated=repeated,
            blocked=blocked,
            decisions=decisions,
            unreadable=unreadable,
            appeared=self.profiles.appeared.copy(),
            sightings=self._linker.look(
                batch, groups, block, was_at == 0, kin, self.profiles.table, self.profiles.name
            ),
            scores=scores,
            event_at=event_at,
            one_account=batch.accounts[-1],
            unverified=unverified,
            alerts=alerts,
        )

    def _brake(self, decisions: list[Decision]) -> list[Alert]:
        """Pull or release the brake if it is time to; verdicts it turns into shadows are added to `decisions`."""
        now = self._ladder.now
        turned = self._ladder.brake.turn(now)
        if turned == "pulled":
            rows = self._live_rows()
            block = self.profiles.pick(rows)
            chosen = np.flatnonzero(self._ladder.shadows(block, now))
            block["shadowed"][chosen] = True
            decisions += self._announced(rows, block, chosen, now)
        return self._said.of(self._ladder.brake, self.policy.version, now)

    def adopt(self, policy: Policy) -> list[Decision]:
        """Go by another policy from here on; the verdicts in force that it changes, as they are now."""
        rows = self._live_rows()
        block = self.profiles.pick(rows)
        changed = self._ladder.adopt(policy, block, self._names(rows))
        return self._announced(rows, block, changed, self._ladder.now)

    def _announced(self, rows: IntVector, block: Block, chosen: IntVector, now: int) -> list[Decision]:
        """Announce the chosen profiles of a block as they stand now, and write them back."""
        decisions = []
        for position in chosen.tolist():
            one, row = block[position : position + 1], int(rows[position])
            one["ruled_at"] = max(now, int(one["ruled_at"][0]))
            values, largest = self._explained(one) if one["rung"][0] else ({}, None)
            standing = self._standings.of(row, now)
            decisions.append(self._decision(row, one, values, largest, standing))
        self.profiles.put(rows[chosen], whole.pick(block, chosen))
        return decisions

    def _names(self, rows: IntVector) -> Names:
        return lambda positions: [self.profiles.name(row) for row in rows[positions].tolist()]

    def hear(self, records: Sequence[Record]) -> Heard:
        """Take messages of the feedback topic, in their order; each changes its account's profile at once.

        What the profile already contains (by the message's offset) is skipped. Each message heard is answered with one
        decision, how the account stands now: announcing it again harms nobody, and the audit keeps what was said.
        """
        told, unreadable = hearing.read(records)
        self.profiles.appeared.clear()
        decisions: list[Decision] = []
        # What was said before an account was to be forgotten is forgotten too, and must not come back for a moment.
        erased = {one.feedback.value: one.offset for one in told if one.feedback.kind == "forget"}
        for one in told:
            stands = one.feedback.scope == "account" and one.offset >= erased.get(one.feedback.value, 0)
            decision = self._hear(one) if stands else None
            if decision is not None:
                decisions.append(decision)
        self._standings.meet(self.profiles.appeared, self.profiles)
        skipped = len(told) - len(decisions)
        return Heard(len(decisions), skipped, decisions, unreadable, self.profiles.appeared.copy())

    def _hear(self, told: hearing.Told) -> Decision | None:
        feedback = told.feedback
        if told.offset <= self.profiles.heard(feedback.value):
            return None
        if feedback.kind == "forget":
            return self._erase(told)
        rows = self.profiles.rows([feedback.value])
        row, block = int(rows[0]), self.profiles.pick(rows)
        if feedback.kind in hearing.LABELS and block["evidence"].any():
            # What it looked like when people judged it: afterwards it may be wiped out.
            own = block["evidence"][:, : len(scoring.OWN)].astype(np.float64)
            self._learned.learn_labels(own, np.array([hearing.LABELS[feedback.kind]]), [feedback.value])
        hearing.obey(block, told, self.policy)
        rung = int(block["rung"][0])
        block["ruled_at"] = feedback.at
        if rung:
            heapq.heappush(self._ends, (int(block["until"][0]), row))
        values, largest = self._explained(block) if rung else ({}, None)
        decision = self._decision(row, block, values, largest, feedback=feedback)
        self.profiles.put(rows, block)
        return decision

    def _erase(self, told: hearing.Told) -> Decision:
        """Forget an account; what is said of that is that it is free."""
        feedback, account = told.feedback, told.feedback.value
        row = int(self.profiles.rows([account])[0])
        one = blank(1)
        one["seq"], one["ruled_at"] = self.profiles.table["seq"][row], feedback.at
        decision = self._decision(row, one, {}, None, feedback=feedback)
        self._standings.erase(account, self.profiles)
        self._learned.forget(account)
        self.profiles.erase(account, told.offset)
        if account in self.profiles.appeared:
            self.profiles.appeared.remove(account)
        return decision

    def _explained(self, one: Block) -> tuple[dict[str, float], TermIndices | None]:
        """The features of one profile and the largest terms of its evidence, as it stands."""
        if not one["at"][0]:
            return {}, None
        found = features(one)
        return _of(found, 0), evidence(found, 1).terms[0]

    def _judge(self, rows: IntVector, block: Block, judged: IntVector) -> tuple[list[Decision], FloatVector]:
        """Score, decide and learn, for the profiles of a block that have enough to go on; in place."""
        enough, own = whole.pick(block, judged), rows[judged]
        found = features(enough, self._watched_since)
        view = matrix(found)
        largest = self._score(enough, found, self._learned.tails(view))
        decisions = self._decide(own, enough, found, largest)
        self._learn(own, enough, view)
        whole.put(block, judged, enough)
        return decisions, enough["score"].astype(np.float64)

    def expire(self, now: int) -> list[Decision]:
        """Lift every rung whose time is over at `now` (ms) and whose account has not been heard of since."""
        lifted = []
        table = self.profiles.table
        while self._ends and self._ends[0][0] <= now:
            until, row = heapq.heappop(self._ends)
            if table["until"][row] != until or not table["rung"][row]:
                continue
            block = table[row : row + 1].copy()
            added_until = moment(block, "added_until")
            held = added_until > until
            block["rung"] = np.where(held, block["added"], 0)
            block["until"] = np.where(held, added_until, 0)
            block["ruled_at"] = until
            if held[0]:
                heapq.heappush(self._ends, (int(block["until"][0]), row))
            lifted.append(self._decision(row, block, {}, None))
            self.profiles.put(np.array([row]), block)
        return lifted

    def stand(self, standings: Iterable[tuple[str, bytes | None]]) -> list[Decision]:
        """Hear from the campaign agent which accounts belong to a campaign, and decide on them at once.

        An account that is let go keeps no more than it earned by itself. What cannot be read is skipped: the newest
        message of an account comes again with every renewal.
        """
        changed: dict[int, bool] = {}
        for account, raw in standings:
            try:
                standing = None if raw is None else decode_standing(raw)
            except UnreadableStandingError:
                continue
            row = self._standings.hear(account, standing, self.profiles)
            if row is not None:
                changed[row] = standing is None
        if not changed:
            return []
        rows = np.array(sorted(changed), dtype=np.int64)
        block = self.profiles.pick(rows)
        freed = np.array([changed[row] for row in rows.tolist()])
        block["until"][freed] = np.minimum(block["until"][freed], block["at"][freed])
        decisions, _ = self._judge(rows, block, np.flatnonzero(block["at"] > 0))
        self.profiles.put(rows, block)
        return decisions

    def sweep(self) -> int:
        """Forget some of the accounts silent for too long (see Profiles); how many went."""
        gone = self.profiles.sweep(self.event_at)
        if gone:
            self._standings.forget(self.profiles)
        return gone

    def snapshot_dirty(self) -> list[tuple[str, bytes | None]]:
        """Profiles changed since the last call, for the changelog; None for one that was forgotten."""
        return self.profiles.changed()

    def restore(self, rows: Iterable[tuple[str, bytes | None]], accounts: int = 0) -> None:
        """Take stored profiles back, before the first batch; in as many pieces as one likes.

        `accounts` says how many there will be in all, where that is known: room is then made once, and what is typical
        of them looked for when all are there.
        """
        self.profiles.reserve(accounts)
        places, restored = self.profiles.restore(rows)
        self.event_at = max(self.event_at, int(restored["at"].max(initial=0)))
        self._watched_since = min(self._watched_since, int(restored["first_at"].min(initial=_NEVER)))
        self._ladder.restore(restored, self.event_at)
        on_a_rung = np.flatnonzero(restored["rung"])
        for until, row in zip(restored["until"][on_a_rung].tolist(), places[on_a_rung].tolist(), strict=True):
            heapq.heappush(self._ends, (until, row))
        if len(self.profiles) >= accounts:
            self.typical.look_again(self.profiles, self.event_at, self._watched_since)

    def recall(self, ids: Sequence[str]) -> None:
        """Remember ids of requests that were counted before this pipeline began."""
        self._repeats.first_seen(ids)

    def live(self) -> list[Decision]:
        """The verdicts in force, each as it was announced (same seq, same instant), to announce them again.

        Only their reasons may say a little more: they are worked out from what the profile holds by now.
        """
        rows = self._live_rows()
        if not len(rows):
            return []
        block = self.profiles.pick(rows)
        found = features(block, self._watched_since)
        found = self._with_pace(block, found)
        largest = evidence(found, len(block)).terms
        decisions = []
        for position, row in enumerate(rows.tolist()):
            one = block[position : position + 1]
            one["seq"] -= 1
            standing = self._standings.of(row, int(one["ruled_at"][0]))
            decisions.append(self._decision(row, one, _of(found, position), largest[position], standing))
        return decisions

    def _live_rows(self) -> IntVector:
        rows = np.unique(np.array([row for _, row in self._ends], dtype=np.int64))
        live: IntVector = rows[self.profiles.table["rung"][rows] > 0]
        return live

    def snapshot_models(self) -> bytes:
        """What was learned, compressed: below a megabyte."""
        return self._learned.snapshot()

    def restore_models(self, stored: bytes) -> None:
        """Continue from what `snapshot_models` gave. Raises SnapshotError when it is not of this release."""
        self._learned = Learned.restore(stored)

    def _cost(self, batch: Batch) -> FloatVector:
        per_input, per_output = self.policy.prices.per_token(batch.models)
        return batch.input_tokens * per_input + batch.output_tokens * per_output

    def _score(self, block: Block, found: Features, tail: FloatVector) -> TermIndices:
        seen = evidence(found, len(block))
        bounded = self.typical.bounded(seen.weights, block, found)
        now = np.concatenate((bounded, scoring.anomaly(tail)[:, None]), axis=1)
        before = block["evidence"][:, : len(scoring.OWN)].astype(np.float64)
        own = scoring.hold(now, before, block["at"] - block["scored_at"])
        weights = np.concatenate((own, self._learned.judged(own)[:, None]), axis=1)
        block["evidence"] = weights
        block["scored_at"] = block["at"]
        block["score"] = scoring.score(weights)
        return seen.terms

    def _learn(self, rows: IntVector, block: Block, view: FloatMatrix) -> None:
        """Let accounts teach the detectors, each once in a while: the crowd is made of accounts, not of requests."""
        due = np.flatnonzero(block["at"] - block["taught_at"] >= LESSON_MS)
        if len(due):
            block["taught_at"][due] = block["at"][due]
            self._learned.learn(view[due], rows[due])

    def _decide(self, rows: IntVector, block: Block, found: Features, largest: TermIndices) -> list[Decision]:
        at = block["at"].copy()
        kin = self._kin(rows, block, at)
        found = self._with_pace(block, found)
        theirs = np.zeros(len(block), dtype=np.int8)
        for position, standing in kin.items():
            theirs[position] = self.policy.rung_of(standing.action)
        decisions = []
        for position in self._ladder.move(block, at, self._names(rows), theirs, found["haste"]).tolist():
            one, row = block[position : position + 1], int(rows[position])
            if one["rung"][0]:
                heapq.heappush(self._ends, (int(one["until"][0]), row))
            decisions.append(self._decision(row, one, _of(found, position), largest[position], kin.get(position)))
        return decisions

    def haste(self, block: Block, found: Features) -> FloatVector:
        """How much the pace of each profile hurries the policy, 0 to 1; 0 for whom people spoke for."""
        haste = self.policy.haste(self._share_a_day(found), full_swing(found))
        return np.where(trust.verified(block, self.policy) | trust.cleared(block, self.policy), 0.0, haste)

    def _share_a_day(self, found: Features) -> FloatVector:
        return self.policy.share_of_budget(found["requests_day"], found["output_day"], found["reasoning_day"])

    def _with_pace(self, block: Block, found: Features) -> Features:
        return {**found, "haste": self.haste(block, found), "share_a_day": self._share_a_day(found)}

    def _kin(self, rows: IntVector, block: Block, at: IntVector) -> dict[int, Standing]:
        """The standings of a block's accounts by position; their scores and instants (`at`) take them in.

        An account is an attacker's if it shows so itself or if its campaign is one: the chance that neither holds is
        the product. A false alarm speaks against the campaign as well.
        """
        found = {}
        among = self._standings.among(rows) & ~trust.cleared(block, self.policy)
        for position in np.flatnonzero(among).tolist():
            standing = self._standings.of(int(rows[position]), int(at[position]))
            if standing is not None and standing.at >= moment(block, "cleared_at")[position]:
                found[position] = standing
                at[position] = max(at[position], standing.at)
                own = float(block["score"][position])
                block["score"][position] = 1.0 - (1.0 - own) * (1.0 - standing.score)
        return found

    def _decision(
        self, row: int, one: Block, values: dict[str, float], largest: TermIndices | None,
        standing: Standing | None = None, feedback: Feedback | None = None,
    ) -> Decision:  # fmt: skip
        """Write the verdict of one account as its profile (a block of 1) stands; its `seq` goes up."""
        one["seq"] += 1
        profile = one[0]
        rung, at = int(profile["rung"]), int(profile["ruled_at"])
        ruling = self._ladder.ruling(rung, shadowed=bool(profile["shadowed"]))
        name, seq = self.profiles.name(row), int(profile["seq"])
        reasons: tuple[Reason, ...] = ()
        if largest is not None:
            reasons = (*self._reasons(one, values, largest), *self._hurried(rung, values))
        own = scoring.scenario({_WORDS[i] for i in largest if i >= 0}) if rung and largest is not None else None
        if standing is not None and rung:
            reasons = (*standing.reasons, *reasons)[:REASONS_SHOWN]
            own = standing.scenario or own
        requests, _, output_tokens, reasoning_tokens, cost = profile["totals"].tolist()
        share = self.policy.share_of_budget(*(np.array([n]) for n in (requests, output_tokens, reasoning_tokens)))
        verdict = Verdict(
            id=blake2b(f"account:{name}:{seq}:{at}".encode(), digest_size=8).hexdigest(),
            at=at,
            seq=seq,
            scope="account",
            value=name,
            action=ruling.action,
            score=round(float(profile["score"]), 6),
            scenario=own,
            reasons=reasons,
            campaign=standing.campaign if standing is not None and rung else None,
            exposure=Exposure(
                requests=requests,
                output_tokens=output_tokens,
                reasoning_tokens=reasoning_tokens,
                cost=round(cost, 6),
                share_of_budget=round(float(share[0]), 6),
            ),
            parameters=ruling.parameters,
            expires_at=max(int(profile["until"]), at),
            origin="analyst" if _held(one) else "detector",
            mode=ruling.mode,
            policy=self.policy.version,
            model=scoring.VERSION,
        )
        return Decision(verdict, feedback)

    def _reasons(self, one: Block, values: dict[str, float], largest: TermIndices) -> Iterable[Reason]:
        weights: FloatVector = one["evidence"][0]
        order = np.argsort(-weights, kind="stable")[:REASONS_SHOWN]
        for column in order.tolist():
            weight = float(weights[column])
            if weight < REASON_FROM:
                return
            term = largest[column] if column < len(largest) else -1
            yield self.typical.reason(scoring.NAMES[column], weight, None if term < 0 else _WORDS[term], values, one)

    def _hurried(self, rung: int, values: dict[str, float]) -> Iterable[Reason]:
        """Why less evidence was enough, where it was."""
        weight = self.policy.haste_of(rung) * values.get("haste", 0.0)
        if weight >= REASON_FROM:
            days = 1.0 / values["share_a_day"]
            text = f"at this pace it takes all that a copy of a model needs within {days:.1f} days"
            yield Reason(signal="pace", weight=round(weight, 3), text=text, observed=round(days, 1))


def _held(one: Block) -> bool:
    """Whether it stands where people put it, and for as long as they said."""
    return bool(one["rung"] == one["added"] and one["until"] == moment(one, "added_until") and one["rung"] > 0)


def _of(found: Features, position: int) -> dict[str, float]:
    """The features of one profile."""
    return {name: float(value[position]) for name, value in found.items()}
