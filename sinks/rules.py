"""Rules: a policy as its file states it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.verdict import ACTIONS

Floats: TypeAlias = npt.NDArray[np.float64]
Mode: TypeAlias = Literal["enforce", "shadow"]
Scope: TypeAlias = Literal["account", "org", "key", "campaign"]

LONGEST_SECONDS: Final = 366 * 86_400
"""No verdict of the detector outlives a year: by then nobody remembers why it stands."""

MOST_HASTE: Final = 4.0
"""Log-odds of evidence that pace may stand in for: odds of 55 to 1."""

LADDER: Final = ACTIONS[1:]
"""The actions that a rung may have, mildest first."""


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes an extraction worth something, in three units."""

    requests: int
    output_tokens: int
    reasoning_tokens: int


class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares of the budget served a day: from `low` on it counts as haste, at `high` fully."""

    low: float
    high: float


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
        known = {model: self.models.get(model, self) for model in set(models)}
        inputs = {model: price.input for model, price in known.items()}
        outputs = {model: price.output for model, price in known.items()}
        return (
            np.fromiter(map(inputs.__getitem__, models), np.float64, len(models)) / 1e6,
            np.fromiter(map(outputs.__getitem__, models), np.float64, len(models)) / 1e6,
        )


class Rung(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rung of the ladder: what it takes, and what follows. policy.toml explains each field."""

    action: str
    score: float
    leave: float
    seconds: int
    haste: float = 0.0
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


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long verdicts live, and how exactly. Without it every verdict of a rung lives equally long."""

    growth: float = 1.0
    longest_seconds: int = LONGEST_SECONDS
    forget_days: float = 30
    jitter: float = 0.0


class AccountLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The action that an unverified account meets once it was served a share of the budget and scores so much."""

    share: float
    score: float
    action: str


class CrowdLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The budgets that all unverified accounts together may take a day before their odds are multiplied."""

    share: float
    odds: float


class Exposure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits on what is served to accounts that have not shown who they are; none by default."""

    account: AccountLimit | None = None
    crowd: CrowdLimit | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the brake is pulled: shares of accounts and of traffic that came onto a costly rung within an hour."""

    accounts: float
    traffic: float
    least: int
    seconds: int


class Exempt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject that never goes above watch, for ever or until an instant."""

    scope: Scope
    value: str
    until: datetime | None = None


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tables of a policy file. policy.toml explains each field."""

    version: str
    budget: Budget
    prices: Prices
    rungs: tuple[Rung, ...]
    mode: Mode = "enforce"
    pace: Pace = Pace(0.08, 0.14)
    exempt: tuple[Exempt, ...] = ()
    feedback: Told = Told()
    timing: Timing = Timing()
    exposure: Exposure = Exposure()
    brake: Limits | None = None
