"""Campaigns: groups of accounts found by what they share, weighed together, and told to whoever watches their members.

The campaign agent hears links and reports (`links`), and every few minutes of event time groups all accounts it knows
anew from the links that live: a group splits when its links expire or are cleared, and grows as accounts come. A group
keeps the name of the campaign that most of its members had. It knows no Kafka and no clock; time is the newest it has
heard of.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np

from gateway.verdict import Exposure
from models import campaign as weighing
from models import score as scoring
from models.belonging import Kin
from models.detector import BoolVector, IntVector
from models.kinship import kindred
from models.manner import manner
from models.rarity import NAMES, Ties
from models.same_source import Sources
from sinks.alerts import Alert
from sinks.policy import Decision, Policy

from . import hearing
from .acquaintances import Acquaintances
from .batch import Record, SetAside
from .campaign import Campaign, Member, Shared, alert_of, reasons, verdict_on
from .distinct import Hashes, mix
from .inferred import manner_ties, pivot_ties, together, topic_ties
from .ladder import THROTTLE
from .links import UnreadableSightingsError, decode
from .portrait import bare_questions, portraits
from .profiles import TOTALS, Block
from .standing import Standing
from .standing import encode as encode_standing
from .whole import pick
from .windows import DAY, WEEK

LOOK_MS: Final = 300_000
"""Event time between two looks for groups; with many accounts it grows, so that looking stays a small part of the
work."""

LOOK_ACCOUNTS: Final = 20_000
"""Accounts up to which a look comes every LOOK_MS; twice as many are looked at half as often."""

ESTABLISHED_MS: Final = WEEK * 1_000
"""Who was first seen so long ago is background, and who was first seen in the older half of all we have watched."""

STAY_MS: Final = DAY * 1_000
"""A member stays for so long after it was last found among the others."""

MOST_MEMBERS_NAMED: Final = 20

UNREADABLE: Final = "not_sightings"

CLEARING: Final = ("false_alarm", "lift")
"""Kinds of feedback that wipe out what ties accounts together."""

MOST_ERASED: Final = 65_536
"""Erased accounts that are remembered by name, so that links still under way are not taken in."""

_ACCOUNT: Final = "account:"
_CAMPAIGN: Final = "campaign:"


@dataclass(slots=True)
class Outcome:
    """What came of some messages, or of time going by."""

    links: int = 0
    reports: int = 0
    decisions: list[Decision] = field(default_factory=list)
    """Verdicts on campaigns."""
    standings: list[tuple[str, bytes | None]] = field(default_factory=list)
    """For accounts: their Standing, encoded; None where it ended."""
    alerts: list[Alert] = field(default_factory=list)
    unreadable: list[SetAside] = field(default_factory=list)
    event_at: int = 0


class Campaigns:
    """All campaigns, and the accounts they are made of."""

    def __init__(self, policy: Policy, *, most_accounts: int = 262_144) -> None:
        self.policy = policy
        self.known = Acquaintances(most_accounts)
        self.found: dict[str, Campaign] = {}
        self.event_at = 0
        self.sources = Sources()
        self._looked_at = 0
        self._heard = False
        self._erased: dict[str, int] = {}
        """Accounts that were to be forgotten, and when."""
        self._changed: set[str] = set()
        self._ended: set[str] = set()

    @property
    def accounts(self) -> int:
        """Accounts it has heard of."""
        return len(self.known)

    @property
    def campaigns(self) -> int:
        """Campaigns on a rung. May be asked for while another thread looks for more."""
        return sum(campaign.rung > 0 for campaign in list(self.found.values()))

    def process(self, records: Sequence[Record]) -> Outcome:
        """Hear messages of the links topic, and look for groups when it is time."""
        outcome = Outcome()
        for record in records:
            if record.value is None:
                continue
            try:
                told = decode(record.value)
            except UnreadableSightingsError as error:
                outcome.unreadable.append(SetAside(record, UNREADABLE, str(error)))
                continue
            self._learn_sources(told.accounts, told.reported, told.profiles)
            self.known.hear(told)
            if self._erased:
                self._erase(self._erased.keys() & set(told.accounts), outcome)
            outcome.links += len(told.links)
            outcome.reports += len(told.reported)
            newest = (int(told.links["at"].max(initial=0)), int(told.profiles["at"].max(initial=0)))
            outcome.event_at = max(outcome.event_at, *newest)
        self._heard |= bool(outcome.links or outcome.reports)
        self.event_at = max(self.event_at, outcome.event_at)
        pause = LOOK_MS * max(1, len(self.known) // LOOK_ACCOUNTS)
        if self._heard and self.event_at - self._looked_at >= pause:
            self._look(outcome)
        self._expire(self.event_at, outcome)
        return outcome

    def expire(self, now: int) -> Outcome:
        """Lift the verdicts whose time is over at `now` (ms)."""
        outcome = Outcome()
        self._expire(now, outcome)
        return outcome

    def sweep(self) -> int:
        """Forget accounts not heard of for long, and those too many; how many went."""
        return self.known.sweep(self.event_at)

    def hear(self, records: Sequence[Record]) -> Outcome:
        """Take messages of the feedback topic: whom people clear leaves its campaign, or a campaign ends.

        Heard twice it changes nothing. What cannot be read is left to the watch agent of its partition.
        """
        outcome = Outcome()
        told, _ = hearing.read(records)
        for _, said in told:
            if said.kind == "forget" and said.scope == "account":
                self._erased[said.value] = said.at
                self._erase([said.value], outcome)
            if said.kind not in CLEARING:
                continue
            if said.scope == "campaign":
                known = len(outcome.decisions)
                self._clear_campaign(said.value, said.at, outcome)
                # The audit keeps who ended it, and why.
                outcome.decisions[known:] = [replace(one, feedback=said) for one in outcome.decisions[known:]]
            else:
                self._clear(said.value, said.at, outcome)
        return outcome

    def _erase(self, accounts: Iterable[str], outcome: Outcome) -> None:
        """Erase accounts of which we know something from before they were to be forgotten.

        Who came back since then is another. Links may arrive after the message, though they were told before it.
        """
        for account in accounts:
            row = self.known.find(account)
            if row is not None and self.known.table["first_at"][row] <= self._erased.get(account, -1):
                self._release(np.array([row]), outcome)
                self.known.erase(account)
        while len(self._erased) > MOST_ERASED:
            del self._erased[next(iter(self._erased))]

    def _clear(self, account: str, at: int, outcome: Outcome) -> None:
        """Take an account out of its campaign, for good: nothing it showed so far ties it to anybody."""
        row = self.known.find(account)
        if row is not None and self.known.table["cleared_at"][row] < at:
            self._release(np.array([row]), outcome, at=at)

    def _clear_campaign(self, name: str, at: int, outcome: Outcome) -> None:
        """End a campaign and clear all of its members."""
        campaign = self.found.get(name)
        if campaign is not None:
            self._release(self._members(campaign), outcome, at=at)
            self._end(campaign, outcome)

    def _release(self, rows: IntVector, outcome: Outcome, *, at: int | None = None) -> None:
        """Let accounts go; with `at` they are cleared at that instant."""
        table = self.known.table
        if at is not None:
            table["cleared_at"][rows] = at + 60_000  # what was shown within this minute counts as before
        was_told = rows[table["campaign"][rows] != 0]
        table["campaign"][rows], table["belonging"][rows] = 0, 0.0
        self.known.touch(rows)
        outcome.standings += [(self.known.name(row), None) for row in was_told.tolist()]

    # State

    def snapshot_dirty(self) -> list[tuple[str, bytes | None]]:
        """Accounts and campaigns that changed since the last call; None for one that is no more."""
        rows: list[tuple[str, bytes | None]] = [(_ACCOUNT + name, row) for name, row in self.known.changed()]
        rows += [(_CAMPAIGN + name, None) for name in sorted(self._ended)]
        rows += [(_CAMPAIGN + name, msgspec.json.encode(self.found[name])) for name in sorted(self._changed)]
        self._ended.clear()
        self._changed.clear()
        return rows

    def restore(self, rows: Iterable[tuple[str, bytes | None]], accounts: int = 0) -> None:
        """Take back what `snapshot_dirty` gave, as `Pipeline.restore` does. Raises ValueError for a row that is not of
        this release."""
        self.known.reserve(accounts)
        known = []
        for key, row in rows:
            if key.startswith(_CAMPAIGN):
                name = key.removeprefix(_CAMPAIGN)
                if row is None:
                    self.found.pop(name, None)
                    continue
                try:
                    self.found[name] = msgspec.json.decode(row, type=Campaign)
                except (msgspec.DecodeError, RecursionError) as error:
                    raise ValueError(f"stored campaign {name!r}: {error}") from error
            else:
                known.append((key.removeprefix(_ACCOUNT), row))
        self.known.restore(known)
        at = self.known.table["at"][: self.known.height]
        self.event_at = max(self.event_at, int(at.max(initial=0)))
        self._heard = True

    def snapshot_models(self) -> bytes:
        """What is learned of how topics vary."""
        return self.sources.snapshot()

    def restore_models(self, stored: bytes) -> None:
        """Continue from what `snapshot_models` gave. Raises SnapshotError when it is not of this release."""
        self.sources = Sources.restore(stored)

    def live(self) -> list[Decision]:
        """The verdicts on campaigns in force, as they were announced."""
        return [Decision(verdict_on(campaign, self.policy)) for campaign in self.found.values() if campaign.rung]

    def standings(self) -> list[tuple[str, bytes | None]]:
        """The standings in force, to be told again."""
        outcome = Outcome()
        for campaign in self.found.values():
            if campaign.rung:
                self._tell(campaign, self._members(campaign), outcome)
        return outcome.standings

    def members_of(self, campaign: Campaign) -> list[Member]:
        """The accounts of a campaign, those served most first."""
        table = self.known.table
        members = [
            Member(
                self.known.name(row),
                float(table["belonging"][row]),
                float(table["profile"]["totals"][row, 0]),
                int(table["first_at"][row]),
            )
            for row in self._members(campaign).tolist()
        ]
        return sorted(members, key=lambda one: (-one.requests, one.account))

    def shown_by(self, campaign: Campaign) -> dict[str, set[int]]:
        """For each member the shared traits that it showed, without those that are worked out at each look."""
        shared = np.array([one.trait for one in campaign.shared], dtype=np.uint64)
        held: dict[str, set[int]] = {}
        for row in self._members(campaign).tolist():
            own = self.known.table["trait"][row]
            live = own[self.known.table["seen"][row] > 0]
            held[self.known.name(row)] = set(live[np.isin(live, shared)].tolist())
        return held

    # Looking for groups

    def _look(self, outcome: Outcome) -> None:
        self._looked_at, self._heard = self.event_at, False
        now, table = self.event_at, self.known.table[: self.known.height]
        present = self.known.present()
        if not present.any():
            return
        began = int(table["first_at"][present].min())
        cut = _established(now, began)
        newcomer = table["first_at"] > cut
        # Members of a campaign that was acted on are no background: else a patient attack would become normal.
        established = present & ~newcomer & ~np.isin(table["campaign"], self._acted_on())
        groups = kindred(self._ties(now, cut, present, newcomer), self._owners(table), established)
        self._name(groups, now, outcome)
        self._weigh(now, began, present, outcome)

    def _ties(self, now: int, cut: int, present: BoolVector, newcomer: BoolVector) -> Ties:
        """All that ties accounts together: what they showed, and what can be told from their profiles."""
        table = self.known.table[: self.known.height]
        profiles = table["profile"]
        told = present & (profiles["at"] >= table["cleared_at"])
        manners = {one.number: one.manner for one in self.found.values() if one.manner is not None}
        return together(
            (
                self.known.ties(now, cut),
                topic_ties(profiles, told, newcomer, self.sources),
                manner_ties(profiles, told, newcomer, manners, now),
                pivot_ties(profiles, told, now, cut),
            )
        )

    def _owners(self, table: Block) -> IntVector:
        """A number for the owner of each account: its organisation, or itself where none is known."""
        alone = table["owner"] == 0
        owner = table["owner"].copy()
        owner[alone] = mix(np.flatnonzero(alone).astype(np.uint64))
        _, number = np.unique(owner, return_inverse=True)
        return number

    def _learn_sources(self, accounts: Sequence[str], reported: IntVector, profiles: Block) -> None:
        """From two reports of one account: the means of what came before and of what came since."""
        rows = [self.known.find(accounts[position]) for position in reported.tolist()]
        both = np.array([position for position, row in enumerate(rows) if row is not None], dtype=np.int64)
        if not len(both):
            return
        own = np.array([rows[position] for position in both.tolist()], dtype=np.int64)
        before, after = pick(self.known.table["profile"], own), pick(profiles, both)
        # Sums fade between two reports; undo it for the older one.
        fade = np.exp((before["at"] - after["at"]) / (WEEK * 1_000.0))
        rest = after["topic_weights"][:, 0] - before["topic_weights"][:, 0] * fade
        enough = (before["topic_weights"][:, 0] >= 4.0) & (rest >= 4.0) & (before["at"] > 0) & (fade <= 1.0)
        if not enough.any():
            return
        before, after, fade, rest = pick(before, enough), pick(after, enough), fade[enough], rest[enough]
        old = before["topic"].astype(np.float64)
        new = (after["topic"].astype(np.float64) - old * fade[:, None]) / rest[:, None]
        held = before["topic_weights"][:, 0]
        self.sources.learn(old / held[:, None], new, held, rest)

    def _name(self, groups: list[Kin], now: int, outcome: Outcome) -> None:
        """Give each group its campaign: the one that most of its members had, or a new one."""
        table = self.known.table
        numbers = {campaign.number: campaign for campaign in self.found.values()}
        acted_on = self._acted_on()
        taken: set[str] = set()
        for kin in groups:
            had = Counter(table["campaign"][kin.members].tolist())
            had.pop(0, None)
            named = next(
                (numbers[n] for n, _ in had.most_common() if n in numbers and numbers[n].id not in taken), None
            )
            if named is None:
                first = min(self.known.name(row) for row in kin.members.tolist())
                digest = blake2b(f"{first}:{now}".encode(), digest_size=6).hexdigest()
                named = self.found[f"c{digest}"] = Campaign(id=f"c{digest}", found_at=now, at=now)
            taken.add(named.id)
            named.shared = tuple(
                Shared(NAMES[kind], trait, round(share, 4), round(background, 6))
                for trait, kind, share, background in kin.traits
            )
            moved = kin.members[table["campaign"][kin.members] != named.number]
            released = moved[np.isin(table["campaign"][moved], acted_on)]
            table["campaign"][kin.members] = named.number
            table["belonging"][kin.members] = kin.belonging
            table["joined_at"][kin.members] = now
            self.known.touch(kin.members)
            if named.rung and len(moved):
                self._tell(named, moved, outcome)
            elif not named.rung:
                # They left a campaign that was acted on for one that is not: what they were told of it ends.
                outcome.standings += [(self.known.name(row), None) for row in released.tolist()]

    def _acted_on(self) -> Hashes:
        """The campaigns on a rung, by their numbers."""
        return np.array([campaign.number for campaign in self.found.values() if campaign.rung], dtype=np.uint64)

    def _members(self, campaign: Campaign) -> IntVector:
        members: IntVector = np.flatnonzero(self.known.table["campaign"][: self.known.height] == campaign.number)
        return members

    def _rosters(self) -> dict[int, IntVector]:
        """The members of every campaign, by its number."""
        campaign = self.known.table["campaign"][: self.known.height]
        held = np.flatnonzero(campaign)
        held = held[np.argsort(campaign[held], kind="stable")]
        numbers, starts = np.unique(campaign[held], return_index=True)
        return dict(zip(numbers.tolist(), np.split(held, starts[1:]), strict=True)) if len(held) else {}

    def _weigh(self, now: int, began: int, present: BoolVector, outcome: Outcome) -> None:
        """Score every campaign on all of its members, and decide."""
        table = self.known.table
        held = np.flatnonzero(table["campaign"][: self.known.height])
        strayed = held[table["joined_at"][held] < now - STAY_MS]
        self._release(strayed, outcome)
        kin, rosters = [], self._rosters()
        for campaign in list(self.found.values()):
            members = rosters.get(campaign.number, strayed[:0])
            if len(members) < 2:
                self._release(members, outcome)
                self._end(campaign, outcome)
            else:
                shared = [(s.trait, NAMES.index(s.kind), s.share, s.background) for s in campaign.shared]
                kin.append((campaign, Kin(members, table["belonging"][members], shared)))
        if not kin:
            return
        # Who was new when its campaign was found remains so: patience does not make it less strange.
        new_from = np.array([_established(campaign.found_at, began) for campaign, _ in kin])
        found, whole = portraits(
            [group for _, group in kin], table[: self.known.height], new_from, present, self.sources, now
        )
        for position, (campaign, _) in enumerate(kin):
            if campaign.rates is not None:
                found["rate_variation"][position], found["rate_variation_least"][position] = campaign.rates
        weighed = weighing.evidence(found, len(kin))
        odds, kinds = weighing.log_odds(weighed.weights), weighing.kinds(weighed.weights)
        score = 1.0 / (1.0 + np.exp(-odds))
        totals = dict(zip(TOTALS, whole["totals"].T, strict=True))
        share = self.policy.share_of_budget(totals["requests"], totals["output_tokens"], totals["reasoning_tokens"])
        was = np.array([campaign.rung for campaign, _ in kin], dtype=np.int8)
        exempt = np.array([self.policy.exempts("campaign", campaign.id, now) for campaign, _ in kin], dtype=bool)
        earned = self.policy.rungs_for(score, totals["requests"], kinds, share, was, exempt)
        for position, (campaign, group) in enumerate(kin):
            campaign.at, campaign.score = now, round(float(score[position]), 6)
            campaign.kinds, campaign.members = int(kinds[position]), len(group.members)
            campaign.exposure = Exposure(
                requests=float(totals["requests"][position]),
                output_tokens=float(totals["output_tokens"][position]),
                reasoning_tokens=float(totals["reasoning_tokens"][position]),
                cost=round(float(totals["cost"][position]), 6),
                share_of_budget=round(float(share[position]), 6),
            )
            values = {name: float(column[position]) for name, column in found.items()}
            campaign.reasons = tuple(reasons(weighed.weights[position], weighed.terms[position], values))
            campaign.scenario = scoring.scenario({term for term in weighed.terms[position] if term})
            self._changed.add(campaign.id)
            self._decide(campaign, int(earned[position]), group.members, outcome)
            rates = values["rate_variation"], values["rate_variation_least"]
            if campaign.rung < THROTTLE:
                campaign.rates, campaign.manner = None, None
                continue
            if campaign.rates is None and np.isfinite(rates).all():
                campaign.rates = rates
            if campaign.manner is None:
                campaign.manner = manner(*bare_questions(pick(table["profile"], group.members), now))

    def _decide(self, campaign: Campaign, earned: int, members: IntVector, outcome: Outcome) -> None:
        """A rung holds for its time; it is left early only upwards."""
        over = campaign.until <= campaign.at
        rung = earned if over or earned > campaign.rung else campaign.rung
        half = self.policy.rulings[rung].seconds * 500
        renewed = rung > 0 and earned >= rung and campaign.until - campaign.at < half
        if rung == campaign.rung and not renewed:
            return
        was, campaign.rung = campaign.rung, rung
        campaign.until = campaign.at + self.policy.rulings[rung].seconds * 1000 if rung else 0
        campaign.seq += 1
        outcome.decisions.append(Decision(verdict_on(campaign, self.policy)))
        if rung:
            self._tell(campaign, members, outcome)
            if was == 0 or campaign.members >= 2 * campaign.alerted_members:
                some = [self.known.name(row) for row in members[:MOST_MEMBERS_NAMED].tolist()]
                outcome.alerts.append(alert_of(campaign, some, self.policy))
                campaign.alerted_members = campaign.members
        else:
            outcome.standings += [(self.known.name(row), None) for row in members.tolist()]

    def _tell(self, campaign: Campaign, members: IntVector, outcome: Outcome) -> None:
        """A standing for each of some members."""
        ruling = self.policy.rulings[campaign.rung]
        said: dict[float, bytes] = {}  # members of one belonging are told the same
        for row, belonging in zip(
            members.tolist(), self.known.table["belonging"][members].round(2).tolist(), strict=True
        ):
            if belonging not in said:
                said[belonging] = encode_standing(
                    Standing(
                        campaign=campaign.id,
                        at=campaign.at,
                        until=campaign.until,
                        action=ruling.action,
                        score=round(campaign.score * belonging, 6),
                        scenario=campaign.scenario,
                        reasons=campaign.reasons,
                    )
                )
            outcome.standings.append((self.known.name(row), said[belonging]))

    def _expire(self, now: int, outcome: Outcome) -> None:
        for campaign in list(self.found.values()):
            if campaign.rung and campaign.until <= now:
                self._lift(campaign, outcome)
                outcome.standings += [(self.known.name(row), None) for row in self._members(campaign).tolist()]
                self._changed.add(campaign.id)

    def _lift(self, campaign: Campaign, outcome: Outcome) -> None:
        campaign.rung, campaign.seq = 0, campaign.seq + 1
        outcome.decisions.append(Decision(verdict_on(campaign, self.policy)))

    def _end(self, campaign: Campaign, outcome: Outcome) -> None:
        """A campaign without members is no more."""
        if campaign.rung:
            self._lift(campaign, outcome)
        del self.found[campaign.id]
        self._changed.discard(campaign.id)
        self._ended.add(campaign.id)


def _established(now: int, began: int) -> int:
    """Who was first seen until then is established `now`; `began` is the first instant we know of (all ms)."""
    return max(now - ESTABLISHED_MS, began + (now - began) // 2)
