"""Played: one stream of the arena, and what came of it."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from .judge import Met
from .membership import Membership


class Job(NamedTuple):
    """One stream to play."""

    kind: Literal["honest", "recorded", "family", "crowd", "tool"]
    seed: int
    name: str


class Played(NamedTuple):
    """What came of a job: for each watcher the accounts it met, and what these accounts are.

    `truth` gives an account's label (honest, lookalike, attack; crowd for the members of an honest crowd) and its kind,
    or for an attack its family. In a family's or a crowd's job `accounts` holds bystanders too: honest accounts of the
    backdrop. `membership` is whom the detector held to be one.
    """

    job: Job
    accounts: Mapping[str, Mapping[str, Met]]
    truth: Mapping[str, tuple[str, str]]
    membership: Membership = Membership()
