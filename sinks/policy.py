"""Policy: what a score earns."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.feedback import Feedback
from gateway.verdict import ACTIONS, Verdict

Floats: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = npt.NDArray[np.floating | np.integer]
Rungs: TypeAlias = npt.NDArray[np.int8]
Bools: TypeAlias = npt.NDArray[np.bool_]
Mode: TypeAlias = Literal["enforce", "shadow"]
Scope: TypeAlias = Literal["account", "org", "key", "campaign"]

PACKAGED: Final = Path(__file__).with_name("policy.toml")
"""The policy used when no other is named."""

LONGEST_SECONDS: Final = 366 * 86_400
"""No verdict of the detector outlives a year: by then nobody remembers why it stands."""

LADDER: Final = ACTIONS[1:]
"""The actions that a rung may have, mildest first."""

UNSAID_SECONDS: Final = 86_400
"""How long a verdict lives whose rung the policy does not have."""


class PolicyError(ValueError):
    """A policy that cannot be used; the message names the file, the place in it and what is wrong."""


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes an extraction worth something, in three units."""

    requests: int
    output_tokens: int
    reasoning_tokens: int


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """List price of a model in US dollars per million tokens."""

    input: float
    output: float


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of most models, and of those that differ."""

    input: float
    output: float
    models: dict[str, Price] = {}

    def per_token(self, models: Sequence[str]) -> tuple[Floats, Floats]:
        """US dollars for one input and one output token of each model: two vectors of `len(models)`."""
        rows = [self.models.get(model, self) for model in models]
        count = len(rows)
        return (
            np.fromiter((row.input for row in rows), np.float64, count) / 1e6,
            np.fromiter((row.output for row in rows), np.float64, count) / 1e6,
        )


class Rung(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rung of the ladder: what it takes, and what follows. policy.toml explains each field."""

    action: str
    score: float
    leave: float
    seconds: int
    kinds: int = 1
    requests: int = 0
    share: float | None = None
    enabled: bool = True
    mode: Mode | None = None
    parameters: dict[str, float | str] = {}


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people have said for an account: for `days` it divides its odds of being an attack by `odds`."""

    days: float
    odds: float


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What follows when people have told us about an account. What the file does not say does not happen."""

    confirmed: str | None = None
    verification_failed: str | None = None
    appeal_days: float = 0
    verified: Trust | None = None
    cleared: Trust | None = None


class Exempt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject that never goes above watch, for ever or until an instant."""

    scope: Scope
    value: str
    until: datetime | None = None


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


class Policy(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """Scores and exposure in, rungs out. It never changes, reads no clock and remembers no subject.

    A rung is the place of its action in `gateway.verdict.ACTIONS`, whatever the file leaves out, so that it means the
    same under every policy; 0 is none. Doubt (a score that is not a number) resolves to no rung: a fault of ours must
    never be an outage of a customer.
    """

    version: str
    budget: Budget
    prices: Prices
    rungs: tuple[Rung, ...]
    mode: Mode = "enforce"
    exempt: tuple[Exempt, ...] = ()
    feedback: Told = Told()

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
        try:
            tables: dict[str, object] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PolicyError(f"{name}: not TOML: {error}") from error
        try:
            _check_model_prices(tables)
            policy = msgspec.convert(tables, cls)
        except msgspec.ValidationError as error:
            raise PolicyError(f"{name}: {_explain(str(error), tables)}") from error
        for complaint in _complaints(policy):
            raise PolicyError(f"{name}: {complaint}")
        return policy

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
    ) -> Rungs:
        """The rung of each subject: one row a subject in every vector, in and out.

        `score` in [0, 1]; `requests` and `share_of_budget` served in its lifetime; `kinds` of evidence;
        `rung_now` where it stands. It climbs to the highest rung whose conditions it meets, and holds any
        rung at or below its own while its score is at least that rung's `leave`. Exempt subjects go no
        higher than watch; who is verified is not asked to verify again.
        """
        result = np.zeros(len(score), np.int8)
        for rung in self.rungs:
            if not rung.enabled:
                continue
            index = ACTIONS.index(rung.action)
            floor = requests >= rung.requests
            if rung.share is not None:
                floor = floor | (share_of_budget >= rung.share)
            enters = (score >= rung.score) & (kinds >= rung.kinds) & floor
            stays = (rung_now >= index) & (score >= rung.leave)
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

    def trusted(self, score: Floats, verified: Bools, cleared: Bools) -> Floats:
        """Scores as they count for accounts that people spoke for: their odds divided by what the policy says."""
        told, odds = self.feedback, np.ones(len(score))
        if told.verified is not None:
            odds[verified] *= told.verified.odds
        if told.cleared is not None:
            odds[cleared] *= told.cleared.odds
        # s / (s + (1 - s) * odds) is 0 / 0 nowhere, for odds are at least 1.
        counted: Floats = score / (score + (1.0 - score) * odds)
        return np.where(odds == 1.0, score, counted)

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

    def share_of_budget(self, requests: Floats, output_tokens: Floats, reasoning_tokens: Floats) -> Floats:
        """How much of a viable budget was served, in the unit that is furthest; above 1 is possible."""
        budget = self.budget
        tokens = np.maximum(output_tokens / budget.output_tokens, reasoning_tokens / budget.reasoning_tokens)
        return np.maximum(requests / budget.requests, tokens)


def _check_model_prices(tables: dict[str, object]) -> None:
    """Convert each model's price alone: msgspec does not say which key of a dict was wrong."""
    prices = tables.get("prices")
    models = prices.get("models") if isinstance(prices, dict) else None
    for name, price in models.items() if isinstance(models, dict) else ():
        try:
            msgspec.convert(price, Price)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            raise msgspec.ValidationError(f'{what} - at `$.prices.models."{name}"{where or "`"}') from error


_FIELDS: Final[dict[str, type[msgspec.Struct]]] = {
    "": Policy,
    "budget": Budget,
    "prices": Prices,
    "prices.models": Price,
    "rungs": Rung,
    "feedback": Told,
    "feedback.verified": Trust,
    "feedback.cleared": Trust,
    "exempt": Exempt,
}


def _explain(message: str, tables: dict[str, object]) -> str:
    """A msgspec message in the words of the file: place first, then what is wrong there."""
    what, _, where = message.partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    if unknown := re.search(r"unknown field `(.*)`", what):
        name = unknown[1]
        table = re.sub(r'\[\d+\]|\."[^"]*"$', "", where)
        near = difflib.get_close_matches(name, _FIELDS[table].__struct_fields__, n=1)
        # An abbreviation is too far from its word for difflib, and the likeliest slip of all.
        near = near or [field for field in _FIELDS[table].__struct_fields__ if field.startswith(name[:3])]
        hint = f'; did you mean "{near[0]}"?' if near else ""
        return f'unknown field "{name}"{f" in {where}" if where else ""}{hint}'
    if missing := re.search(r"missing required field `(.*)`", what):
        return f'"{missing[1]}" is missing{f" in {where}" if where else ""}'
    if re.search(r"Invalid enum value", what):
        value = str(_at(tables, where))
        allowed = get_args(Scope) if where.endswith("scope") else get_args(Mode)
        return f"{where}: {_unknown('value', value, allowed)}"
    return f"{where}: {what[0].lower()}{what[1:].replace('`', '')}"


def _at(tables: object, where: str) -> object:
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", where):
        if isinstance(tables, list):
            tables = tables[int(index)]
        elif isinstance(tables, dict):
            tables = tables[key]
    return tables


def _unknown(kind: str, value: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, allowed, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"one of {', '.join(allowed)}"
    return f'unknown {kind} "{value}"; {hint}'


def _complaints(policy: Policy) -> Iterator[str]:
    """What is impossible though well-formed, in the order of the file."""
    if not policy.version:
        yield "version: empty; every verdict names it"
    for field in Budget.__struct_fields__:
        if (amount := getattr(policy.budget, field)) <= 0:
            yield f"budget.{field}: {amount} is not above 0"
    tables = {"prices": Price(policy.prices.input, policy.prices.output)}
    tables |= {f'prices.models."{name}"': price for name, price in policy.prices.models.items()}
    for where, price in tables.items():
        for field in Price.__struct_fields__:
            if not 0 <= (amount := getattr(price, field)) < float("inf"):
                yield f"{where}.{field}: {amount} is not a price"
    if not policy.rungs:
        yield "rungs: none; without a rung nothing is ever decided"
    for index, rung in enumerate(policy.rungs):
        yield from _complaints_of_rung(f"rungs[{index}]", rung)
    yield from _complaints_of_order(policy.rungs)
    yield from _complaints_of_feedback(policy.feedback)
    for index, row in enumerate(policy.exempt):
        if not row.value:
            yield f"exempt[{index}].value: empty"
        if row.until and row.until.tzinfo is None:
            yield f"exempt[{index}].until: {row.until} has no time zone; write it with a Z for UTC"


def _complaints_of_feedback(told: Told) -> Iterator[str]:
    for field in ("confirmed", "verification_failed"):
        action = getattr(told, field)
        if action is not None and action not in LADDER:
            yield f"feedback.{field}: {_unknown('action', action, LADDER)}"
    if not 0 <= told.appeal_days <= 366:
        yield f"feedback.appeal_days: {told.appeal_days} is not between 0 and 366"
    for field in ("verified", "cleared"):
        trust = getattr(told, field)
        if trust is not None and not 0 < trust.days <= 3_660:
            yield f"feedback.{field}.days: {trust.days} is not between 0 and 3,660"
        if trust is not None and not 1 <= trust.odds <= 1e9:
            yield f"feedback.{field}.odds: {trust.odds} does not divide: it must be at least 1"


def _complaints_of_rung(where: str, rung: Rung) -> Iterator[str]:
    if rung.action not in LADDER:
        yield f"{where}.action: {_unknown('action', rung.action, LADDER)}"
    for field, value in (("score", rung.score), ("leave", rung.leave), ("share", rung.share)):
        if value is not None and not 0 <= value <= 1:
            yield f"{where}.{field}: {value} is not between 0 and 1"
    if rung.leave >= rung.score:
        yield f"{where}.leave: {rung.leave} is not below the score {rung.score} at which the rung is entered"
    if not 0 < rung.seconds <= LONGEST_SECONDS:
        yield f"{where}.seconds: {rung.seconds} is not between 1 and {LONGEST_SECONDS} (a year)"
    for field, amount in (("kinds", rung.kinds), ("requests", rung.requests)):
        if amount < 0:
            yield f"{where}.{field}: {amount} is negative"
    if rung.action == "suspend" and rung.enabled and rung.kinds < 2:
        yield f"{where}.kinds: {rung.kinds}; suspension needs at least 2 independent kinds of evidence"
    rpm = rung.parameters.get("rpm")
    if rung.action == "throttle" and rpm is None:
        yield f"{where}.parameters: a throttle states its rate: parameters = {{ rpm = 20 }}"
    if rpm is not None and (isinstance(rpm, str) or not 0 < rpm < float("inf")):
        yield f"{where}.parameters.rpm: {rpm!r} is not a rate above 0"
    if "shadow" in rung.parameters:
        yield f"{where}.parameters.shadow: reserved for the action of a shadow rung"


def _complaints_of_order(rungs: tuple[Rung, ...]) -> Iterator[str]:
    """A harsher rung asks for more than a milder one, and is not enforced while that one is only tried."""
    for index in range(1, len(rungs)):
        milder, rung, where = rungs[index - 1], rungs[index], f"rungs[{index}]"
        if rung.action in (earlier.action for earlier in rungs[:index]):
            yield f'{where}.action: "{rung.action}" is there already'
        elif LADDER.index(rung.action) < LADDER.index(milder.action):
            yield f'{where}.action: "{rung.action}" is milder than "{milder.action}" before it; mildest first'
        if rung.score <= milder.score:
            yield f"{where}.score: {rung.score} does not rise above {milder.score} of rungs[{index - 1}]"
        for field in ("kinds", "requests", "share"):
            asks, asked = getattr(rung, field), getattr(milder, field)
            if asks is not None and asked is not None and asks < asked:
                yield f"{where}.{field}: {asks} is below {asked} of rungs[{index - 1}] before it"
        if milder.mode == "shadow" and rung.mode != "shadow" and rung.enabled and milder.enabled:
            yield f'{where}.mode: enforced above rungs[{index - 1}], which is only "shadow"'
