"""Standing: what the campaign agent tells the watch agents about one account: it belongs to a campaign."""

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from gateway.request import Millis, Name
from gateway.verdict import Reason, Share
from models.detector import BoolVector, IntVector

from .profiles import Profiles


class UnreadableStandingError(ValueError):
    """A message of the standings topic that cannot be read."""


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One account's place in a campaign, as of `at`; it holds until `until` (both ms UTC).

    `action` is what the campaign has earned by the policy, `score` the probability that the account belongs to an
    attack. The newest of an account holds; heard twice it changes nothing.
    """

    campaign: Name
    at: Millis
    until: Millis
    action: Name
    score: Share
    scenario: Name | None = None
    reasons: tuple[Reason, ...] = ()


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder(Standing)


def encode(standing: Standing) -> bytes:
    """The message as bytes, the same for equal standings."""
    return _encoder.encode(standing)


def decode(raw: bytes) -> Standing:
    """Read one message. Raises UnreadableStandingError."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableStandingError(f"no standing: {error}") from error


MOST_AWAITED: Final = 100_000
"""Standings kept for accounts that have no profile yet; the oldest go first."""


class Standings:
    """The standings of a partition's accounts, by row, and of accounts that have not sent anything to it yet."""

    def __init__(self) -> None:
        self._of_row: dict[int, tuple[str, Standing]] = {}
        self._kin: BoolVector = np.zeros(0, dtype=bool)
        self._awaited: dict[str, Standing] = {}

    def __len__(self) -> int:
        return len(self._of_row)

    def hear(self, account: str, standing: Standing | None, profiles: Profiles) -> int | None:
        """Take note of what is said of an account; its row, if it has one and something changed."""
        if account not in profiles:
            self._awaited.pop(account, None)
            if standing is not None:
                self._awaited[account] = standing
                if len(self._awaited) > MOST_AWAITED:
                    del self._awaited[next(iter(self._awaited))]
            return None
        row = int(profiles.rows([account])[0])
        held = self._of_row.get(row)
        if standing is None:
            self._drop(row)
            return row if held else None
        if held is not None and held[1].at > standing.at:
            return None
        self._put(row, account, standing)
        return None if held is not None and held[1] == standing else row

    def meet(self, appeared: Iterable[str], profiles: Profiles) -> None:
        """Accounts that have just been given a row may have been awaited."""
        if not self._awaited:
            return
        for account in appeared:
            standing = self._awaited.pop(account, None)
            if standing is not None:
                self._put(int(profiles.rows([account])[0]), account, standing)

    def among(self, rows: IntVector) -> BoolVector:
        """Which of some rows belong to a campaign."""
        if len(rows) and rows.max() >= len(self._kin):
            self._kin = np.append(self._kin, np.zeros(int(rows.max()) + 4_096 - len(self._kin), dtype=bool))
        kin: BoolVector = self._kin[rows]
        return kin

    def of(self, row: int, at: int) -> Standing | None:
        """The standing of a row at an instant (ms); one that is over is dropped."""
        held = self._of_row.get(row)
        if held is None:
            return None
        if held[1].until <= at:
            self._drop(row)
            return None
        return held[1]

    def forget(self, profiles: Profiles) -> None:
        """Rows may have been given up: their accounts are awaited again."""
        for row, (account, standing) in list(self._of_row.items()):
            if account not in profiles:
                self._drop(row)
                self._awaited[account] = standing

    def erase(self, account: str, profiles: Profiles) -> None:
        """Keep nothing of an account, which still has its row."""
        self._awaited.pop(account, None)
        self._drop(int(profiles.rows([account])[0]))

    def _put(self, row: int, account: str, standing: Standing) -> None:
        self.among(np.array([row]))
        self._of_row[row] = account, standing
        self._kin[row] = True

    def _drop(self, row: int) -> None:
        if self._of_row.pop(row, None) is not None:
            self._kin[row] = False
