"""Away: what the detector makes of the same streams when producers leave some fields away.

An attack that only one group of fields gives away is caught by an artefact, or by what the next attacker will hide. And
what is absent must never speak against anybody: with fewer fields nobody honest may be met who is not met with all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.table import Table as RichTable

from sinks.policy import Policy

from ..batch import Record
from ..replay import Recorded
from .watchers import Seen, Stillwatch, Watcher

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "addresses": ("ip", "asn", "country", "network"),
    "clients": ("client",),
    "identity": ("org", "key", "plan", "opened_at"),
    "payment": ("payment", "billing_country"),
    "sketches": ("sketch",),
    "settings": ("max_tokens", "temperature", "top_p", "choices", "top_logprobs", "stream"),
    "turns": ("session", "turns", "tools"),
    "outcomes": ("reasoning_tokens", "cached_tokens", "finish", "status", "latency_ms"),
}
"""Optional fields of a request that come from one place, and so are there or missing together."""

_decoder: Final = msgspec.json.Decoder(dict[str, Any])
_encoder: Final = msgspec.json.Encoder()


def watcher_name(group: str) -> str:
    """The name of the watcher that goes without a group of fields."""
    return f"without {group}"


class Blind:
    """A watcher that is told nothing of some fields."""

    def __init__(self, watcher: Watcher, fields: Sequence[str]) -> None:
        self._watcher = watcher
        self._fields = tuple(fields)

    def watch(self, records: Sequence[Record], accounts: Sequence[str]) -> Seen:
        return self._watcher.watch([self._stripped(record) for record in records], accounts)

    def _stripped(self, record: Record) -> Record:
        told = _decoder.decode(record.value or b"{}")
        for field in self._fields:
            told.pop(field, None)
        return Recorded(None, _encoder.encode(told), record.offset)


def blind(policy: Policy, dropped: Sequence[str] = ()) -> dict[str, Watcher]:
    """New detectors by name, each without one group of fields."""
    return {watcher_name(group): Blind(Stillwatch(policy, dropped), fields) for group, fields in GROUPS.items()}


class Away(msgspec.Struct, frozen=True):
    """The same streams without one group of fields."""

    without: str
    fields: tuple[str, ...]
    served: dict[str, float]
    """By family: the share served before a throttle or a harsher rung."""
    accused: int
    """Honest account-days throttled or worse, of those that are counted with all fields."""


def away_table(served: Mapping[str, float], accused: int, found: Sequence[Away]) -> RichTable:
    """What each family got with all fields and without each group; `served` and `accused` are with all fields."""
    table = RichTable(title="Served before a throttle without some fields, in per cent", title_justify="left")
    table.add_column("family", min_width=17, overflow="fold")
    table.add_column("given away by", min_width=9, overflow="fold")
    for column in ("all fields", *(one.without for one in found)):
        table.add_column(column, justify="right")
    for family, share in served.items():
        table.add_row(
            family,
            ", ".join(given_away_by(family, share, found)),
            f"{100 * share:.1f}",
            *(f"{100 * one.served[family]:.1f}" for one in found),
        )
    table.add_section()
    table.add_row("honest days met", "", f"{accused:,}", *(f"{one.accused:,}" for one in found), style="bold")
    return table


def given_away_by(family: str, served: float, found: Sequence[Away]) -> list[str]:
    """The groups of fields without which a family gets at least twice as much, and five points more; most first."""
    more = {one.without: one.served[family] for one in found}
    needed = [group for group, share in more.items() if share >= max(2 * served, served + 0.05)]
    return sorted(needed, key=lambda group: -more[group])
