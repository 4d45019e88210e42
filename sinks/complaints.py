"""Complaints: what is wrong with a policy file, and where."""

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar, get_args

import msgspec

from gateway.verdict import LONGEST_NAME

from .rules import (
    LADDER,
    LONGEST_SECONDS,
    MOST_HASTE,
    AccountLimit,
    Budget,
    CrowdLimit,
    Exempt,
    Exposure,
    Limits,
    Mode,
    Pace,
    Price,
    Prices,
    Rules,
    Rung,
    Scope,
    Timing,
    Told,
    Trust,
)

AnyRules = TypeVar("AnyRules", bound=Rules)

_LONGEST: Final = 400
"""Characters of a complaint."""

_LONGEST_VERSION: Final = 64
"""Characters of a policy's version."""


class PolicyError(ValueError):
    """A policy that cannot be used; the message names the file, the place in it and what is wrong."""


def parsed(text: str, name: str, into: type[AnyRules]) -> AnyRules:
    """The rules written in a TOML text; `name` opens the message of a `PolicyError`."""
    try:
        tables: dict[str, object] = tomllib.loads(text)
    except ValueError as error:  # an int of thousands of digits is no TOMLDecodeError
        raise PolicyError(f"{name}: not TOML: {_cut(str(error))}") from error
    except RecursionError:
        raise PolicyError(f"{name}: nested too deeply") from None
    try:
        _check_model_prices(tables)
        rules = msgspec.convert(tables, into)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{name}: {_cut(_explain(str(error), tables))}") from error
    for complaint in _complaints(rules):
        raise PolicyError(f"{name}: {_cut(complaint)}")
    return rules


def _cut(text: str) -> str:
    """Errors end up in logs: what a file says is quoted, and not all of it."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
    "": Rules,
    "budget": Budget,
    "pace": Pace,
    "prices": Prices,
    "prices.models": Price,
    "rungs": Rung,
    "timing": Timing,
    "exposure": Exposure,
    "exposure.account": AccountLimit,
    "exposure.crowd": CrowdLimit,
    "brake": Limits,
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


def _complaints(rules: Rules) -> Iterator[str]:
    """What is impossible though well-formed, in the order of the file."""
    if not rules.version:
        yield "version: empty; every verdict names it"
    if len(rules.version) > _LONGEST_VERSION:
        yield f"version: {len(rules.version)} characters; every verdict names it, so at most {_LONGEST_VERSION}"
    for field in Budget.__struct_fields__:
        if (amount := getattr(rules.budget, field)) <= 0:
            yield f"budget.{field}: {amount} is not above 0"
    tables = {"prices": Price(rules.prices.input, rules.prices.output)}
    tables |= {f'prices.models."{name}"': price for name, price in rules.prices.models.items()}
    for where, price in tables.items():
        for field in Price.__struct_fields__:
            if not 0 <= (amount := getattr(price, field)) < float("inf"):
                yield f"{where}.{field}: {amount} is not a price"
    if not 0 < rules.pace.low < rules.pace.high < float("inf"):
        yield f"pace: low {rules.pace.low} and high {rules.pace.high} are not two rising shares above 0"
    if not rules.rungs:
        yield "rungs: none; without a rung nothing is ever decided"
    for index, rung in enumerate(rules.rungs):
        yield from _complaints_of_rung(f"rungs[{index}]", rung)
    yield from _complaints_of_order(rules.rungs)
    yield from _complaints_of_timing(rules.timing)
    yield from _complaints_of_exposure(rules.exposure)
    if rules.brake is not None:
        yield from _complaints_of_brake(rules.brake)
    yield from _complaints_of_feedback(rules.feedback)
    for index, row in enumerate(rules.exempt):
        if not row.value:
            yield f"exempt[{index}].value: empty"
        if row.until and row.until.tzinfo is None:
            yield f"exempt[{index}].until: {row.until} has no time zone; write it with a Z for UTC"


def _outside(where: str, value: float, low: float, high: float) -> Iterator[str]:
    if not low <= value <= high:
        yield f"{where}: {value} is not between {low:,} and {high:,}"


def _complaints_of_timing(timing: Timing) -> Iterator[str]:
    yield from _outside("timing.growth", timing.growth, 1, 100)
    yield from _outside("timing.longest_seconds", timing.longest_seconds, 1, LONGEST_SECONDS)
    yield from _outside("timing.forget_days", timing.forget_days, 1, 3_660)
    yield from _outside("timing.jitter", timing.jitter, 0, 0.5)


def _complaints_of_exposure(exposure: Exposure) -> Iterator[str]:
    if (account := exposure.account) is not None:
        yield from _outside("exposure.account.share", account.share, 0, 1_000)
        yield from _outside("exposure.account.score", account.score, 0, 1)
        if account.action not in LADDER:
            yield f"exposure.account.action: {_unknown('action', account.action, LADDER)}"
        if account.action in ("degrade", "suspend"):
            yield f'exposure.account.action: "{account.action}"; mere volume may be asked to verify, and nothing more'
    if (crowd := exposure.crowd) is not None:
        yield from _outside("exposure.crowd.share", crowd.share, 0, 1e9)
        yield from _outside("exposure.crowd.odds", crowd.odds, 1, 1_000)


def _complaints_of_brake(limits: Limits) -> Iterator[str]:
    for field in ("accounts", "traffic"):
        if not 0 < (share := getattr(limits, field)) <= 1:
            yield f"brake.{field}: {share} is not a share above 0"
    yield from _outside("brake.least", limits.least, 1, 10**9)
    # The window of an hour has to pass before one can tell whether it is over.
    yield from _outside("brake.seconds", limits.seconds, 3_600, LONGEST_SECONDS)


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
    if not 0 <= rung.haste <= MOST_HASTE:
        yield f"{where}.haste: {rung.haste} is not between 0 and {MOST_HASTE:g}"
    if rung.haste and rung.action in ("degrade", "suspend"):
        yield f"{where}.haste: {rung.haste}; what a {rung.action} takes from a customer needs all the evidence"
    rpm = rung.parameters.get("rpm")
    if rung.action == "throttle" and rpm is None:
        yield f"{where}.parameters: a throttle states its rate: parameters = {{ rpm = 20 }}"
    if rpm is not None and (isinstance(rpm, str) or not 0 < rpm < float("inf")):
        yield f"{where}.parameters.rpm: {rpm!r} is not a rate above 0"
    for name, given in rung.parameters.items():
        if not 0 < len(name) <= LONGEST_NAME:
            yield f"{where}.parameters: {name!r} is not a name of up to {LONGEST_NAME} characters"
        if isinstance(given, float) and not math.isfinite(given):
            yield f"{where}.parameters.{name}: {given} is not a number that a verdict can carry"
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
