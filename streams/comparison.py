"""Comparison: what a recorded stream would meet under two policies."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from gateway.verdict import ACTIONS, Verdict
from sinks.policy import Policy

from .campaigns import Campaigns
from .pipeline import Pipeline
from .replay import replay

FREE: Final = "free"
"""What is met by whom no verdict was ever given."""


class Met(NamedTuple):
    """The harshest that a subject met, and when first."""

    action: str
    shadow: bool
    at: int
    requests: float
    """What it had been served by then."""

    @property
    def name(self) -> str:
        """The action as it is shown and counted."""
        return f"{self.action} (shadow)" if self.shadow else self.action


class Change(NamedTuple):
    """One subject that fares otherwise. None stands for no verdict at all."""

    subject: str
    before: Met | None
    after: Met | None


def met(lines: Iterable[bytes], policy: Policy) -> dict[str, Met]:
    """What each subject of a stream meets under a policy; whoever meets nothing is left out."""
    found: dict[str, Met] = {}
    for step in replay(lines, [Pipeline(policy)], Campaigns(policy)):
        for decision in step.outcome.decisions:
            _note(found, decision.verdict)
    return found


def _note(found: dict[str, Met], verdict: Verdict) -> None:
    shadow = verdict.mode == "shadow"
    held = found.get(verdict.subject)
    if verdict.action != "allow" and (held is None or _harshness(verdict.action, shadow) > _harshness(*held[:2])):
        served = 0.0 if verdict.exposure is None else verdict.exposure.requests
        found[verdict.subject] = Met(verdict.action, shadow, verdict.at, served)


def _harshness(action: str, shadow: bool) -> tuple[bool, int]:
    """What is enforced counts above all that is only shown."""
    return not shadow, ACTIONS.index(action) if action in ACTIONS else 1


def changes(before: dict[str, Met], after: dict[str, Met]) -> list[Change]:
    """Who fares otherwise: those for whom it gets harsher first, then by name."""

    def rise(change: Change) -> tuple[bool, int]:
        return _harshness(*change.after[:2]) if change.after else (False, 0)

    subjects = sorted(before.keys() | after.keys())
    found = [Change(subject, before.get(subject), after.get(subject)) for subject in subjects]
    return sorted((one for one in found if one.before != one.after), key=rise, reverse=True)


def counts(found: dict[str, Met]) -> dict[str, int]:
    """Subjects by the harshest they met, the harshest first."""
    names = [f"{action}{shadow}" for action in reversed(ACTIONS[1:]) for shadow in ("", " (shadow)")]
    numbers = {name: sum(one.name == name for one in found.values()) for name in names}
    return {name: number for name, number in numbers.items() if number}


def rules_changed(before: Policy, after: Policy) -> Iterator[tuple[str, str, str]]:
    """Every place of the policies that differs: its path, what stood there, what stands there now."""
    was, now = (dict(_flat(msgspec.to_builtins(policy), "")) for policy in (before, after))
    for path in sorted(was.keys() | now.keys()):
        if was.get(path) != now.get(path):
            yield path, was.get(path, ""), now.get(path, "")


def _flat(part: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _flat(value, f"{path}.{name}".lstrip("."))
    elif isinstance(part, list | tuple):
        for position, value in enumerate(part):
            # A rung is known by its action, wherever it stands.
            label = value["action"] if isinstance(value, dict) and "action" in value else position
            yield from _flat(value, f"{path}[{label}]")
    elif part is not None:
        yield path, f"{part}"
