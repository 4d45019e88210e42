"""Learned: all that is learned online, in one place: how the crowd is and whether it changes, what people judged, and
what requests used to carry."""

from typing import Final
from zlib import crc32

import msgspec
import numpy as np
import zstandard

from models import score as scoring
from models.detector import BoolVector, FloatMatrix, FloatVector, IntVector
from models.drift import Change, Drift
from models.ensemble import Ensemble
from models.judgement import Judgement
from models.snapshot import MAGIC, SnapshotError
from sinks.alerts import Alert, alert

from .batch import Batch
from .features import DETECTOR_FEATURES, unscaled
from .sight import Sight
from .typical import rounded
from .windows import Groups

DRIFTING: Final = (
    "output_length", "input_length", "reasoning_share", "capped_share", "single_turn_share", "topic_spread",
    "cue_share",
)  # fmt: skip
"""Features whose means are watched: those that do not depend on how long an account has been known, nor on the hour."""

_COLUMNS: Final = [DETECTOR_FEATURES.index(name) for name in DRIFTING]

_LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a partition's models, decompressed: a damaged header must not reserve all memory."""

ANSWERS: Final = 16_384
"""Scores that the answer is ranked among: enough to tell 1 in 10,000 from what is rarer."""

AGAIN_MS: Final = 3_600_000
"""How often a protection that stays lifted is announced again."""


class _Stored(msgspec.Struct, frozen=True):
    detector: bytes
    judgement: bytes
    drift: bytes
    sight: bytes = b""


class Learned:
    """What the detectors of one partition have learned."""

    def __init__(self, detector: Ensemble | None = None) -> None:
        self._detector = detector if detector is not None else Ensemble(DETECTOR_FEATURES, size=ANSWERS)
        self._judgement = Judgement(scoring.OWN)
        self._drift = Drift(DRIFTING)
        self._sight = Sight()
        self._lifted: Alert | None = None
        self._changes: list[Change] = []

    @property
    def lifted(self) -> bool:
        """Whether the detectors learn everything, because too much of what arrives looks extreme."""
        return self._detector.lifted

    def tails(self, view: FloatMatrix) -> FloatVector:
        """How probable rows as strange as these are."""
        return self._detector.tail_many(view)

    def judged(self, evidence: FloatMatrix) -> FloatVector:
        """What people's judgement adds to rows of evidence (columns `scoring.OWN`), in log-odds of either sign."""
        return self._judgement.weigh(evidence)

    def look(self, batch: Batch, groups: Groups, at: int) -> None:
        """See which fields a batch carries; `groups` are its accounts, `at` (ms) is its instant."""
        self._sight.look(batch, groups, at)

    def learn(self, view: FloatMatrix, groups: IntVector) -> None:
        """Learn rows of features, each of one account (`groups`, any integers)."""
        self._detector.learn_many(view, groups)
        self._changes += self._drift.learn_many(view[:, _COLUMNS])

    def learn_labels(self, evidence: FloatMatrix, labels: BoolVector, accounts: list[str]) -> None:
        """Learn that accounts with this evidence were attacks (true), or were none."""
        numbers = np.array([_number(account) for account in accounts], dtype=np.int64)
        self._judgement.learn_labels(evidence, labels, numbers)

    def forget(self, account: str) -> None:
        """Unlearn what people said of an account. What it taught the detectors cannot be told from what others did."""
        self._judgement.forget(_number(account))

    def alerts(self, at: int) -> list[Alert]:
        """What people should hear of the crowd at an instant (ms), once each."""
        said = [_changed(change, at) for change in self._changes]
        self._changes.clear()
        return said + self._protection(at) + self._sight.alerts(at)

    def _protection(self, at: int) -> list[Alert]:
        if self.lifted and self._lifted is None:
            share = self._detector.refused_share
            self._lifted = alert(
                "drift",
                "detector:protection",
                at,
                f"{share:.0%} of what arrives looks too extreme to learn, so the detectors learn everything until most "
                "of it is ordinary again",
                details={"refused_share": share},
            )
            return [self._lifted]
        if self._lifted is None:
            return []
        if not self.lifted:
            over, self._lifted = self._lifted.ended(at), None
            return [over]
        if at - self._lifted.at >= AGAIN_MS:
            self._lifted = self._lifted.again(at)
            return [self._lifted]
        return []

    def snapshot(self) -> bytes:
        """All of it, compressed: below a megabyte."""
        stored = _Stored(*(part.snapshot() for part in (self._detector, self._judgement, self._drift, self._sight)))
        return zstandard.compress(msgspec.msgpack.encode(stored))

    @classmethod
    def restore(cls, stored: bytes) -> "Learned":
        """Continue from what `snapshot` gave. Raises SnapshotError when it is not of this release."""
        try:
            if zstandard.frame_content_size(stored) > _LARGEST:
                raise SnapshotError("stored models are larger than any can be")
            raw = zstandard.decompress(stored)
            if raw.startswith(MAGIC):  # the first release stored the ensemble alone
                return cls(Ensemble.restore(raw))
            parts = msgspec.msgpack.decode(raw, type=_Stored)
        except (zstandard.ZstdError, msgspec.DecodeError) as error:
            raise SnapshotError(f"stored models cannot be read: {error}") from error
        learned = cls(Ensemble.restore(parts.detector))
        learned._judgement = Judgement.restore(parts.judgement, scoring.OWN)
        learned._drift = Drift.restore(parts.drift, DRIFTING)
        if parts.sight:
            learned._sight = Sight.restore(parts.sight)
        return learned


def _number(account: str) -> int:
    return crc32(account.encode())


def _changed(change: Change, at: int) -> Alert:
    before, now = (rounded(unscaled(change.feature, value)) for value in (change.before, change.now))
    return alert(
        "drift",
        f"feature:{change.feature}",
        at,
        f"the crowd's {change.feature.replace('_', ' ')} went from {before:g} to {now:g}",
        details={"feature": change.feature, "before": before, "now": now},
    )
