"""Targets: everything that takes what others wrote, by name, with what it is given."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from . import doors, machine, policies, prompts, stored, wire


class Target(NamedTuple):
    """What is drawn, and what is done with it: it raises where something broke."""

    given: st.SearchStrategy[Any]
    holds: Callable[[Any], None]
    few: int = 60
    """Examples in `make test`."""


TARGETS: Final = {
    "requests": Target(wire.REQUESTS, wire.requests),
    "verdicts": Target(wire.VERDICTS, wire.verdicts),
    "feedback": Target(wire.FEEDBACK, wire.said),
    "links": Target(wire.SIGHTINGS, wire.sightings),
    "standings": Target(wire.STANDINGS, wire.standings),
    "alerts": Target(wire.ALERTS, wire.told),
    "profiles": Target(stored.ROWS, stored.profiles),
    "campaigns": Target(stored.KEPT, stored.campaigns),
    "models": Target(stored.MODELS, stored.models),
    "pipeline": Target(machine.STEPS, machine.pipeline, few=20),
    "kin": Target(wire.SIGHTINGS, machine.campaigns),
    "sketch": Target(prompts.PROMPTS, prompts.prompts),
    "policy": Target(policies.FILES, policies.policies),
    "ingest": Target(doors.INGEST, doors.ingest),
    "web": Target(doors.HEADS, doors.web),
    "envoy": Target(doors.ENVOY, doors.authz),
    "crowdsec": Target(doors.BOUNCERS, doors.bouncers),
    "gate": Target(doors.CHATS, doors.chats),
}
"""Every one, by name."""
