"""Layouts: profiles as earlier releases stored them, brought up to what this one keeps."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.void]


class Layout(NamedTuple):
    """One earlier shape of a stored profile: its bytes after the layout's number, and the columns of its evidence."""

    profile: np.dtype[np.void]
    evidence: tuple[str, ...]


_FIRST: Final = np.dtype(
    [
        ("at", np.int64), ("first_at", np.int64), ("offset", np.int64), ("seq", np.int64), ("until", np.int64),
        ("scored_at", np.int64), ("taught_at", np.int64), ("opened_at", np.float64),
        ("volumes", np.float64, (4, 4)), ("traits", np.float64, 12), ("totals", np.float64, 5),
        ("topic_weights", np.float64, 2), ("topic", np.float32, 64), ("evidence", np.float32, 9),
        ("score", np.float32), ("minutes", np.uint16, 60), ("hours", np.uint8, 168),
        ("address_seen", np.uint8, (2, 64)), ("prefix_seen", np.uint8, (2, 64)), ("band_seen", np.uint8, (2, 64)),
        ("network_seen", np.uint8, (2, 32)), ("client_seen", np.uint8, (2, 32)), ("system_seen", np.uint8, (2, 32)),
        ("settings_seen", np.uint8, (2, 16)), ("rung", np.int8), ("spare", np.uint8, 7),
    ]
)  # fmt: skip

_SECOND: Final = np.dtype(
    [
        ("at", np.int64), ("first_at", np.int64), ("offset", np.int64), ("seq", np.int64), ("until", np.int64),
        ("ruled_at", np.int64), ("scored_at", np.int64), ("taught_at", np.int64), ("opened_at", np.float64),
        ("volumes", np.float64, (4, 4)), ("traits", np.float64, 12), ("totals", np.float64, 5),
        ("topic_weights", np.float64, 2), ("topic", np.float32, 64), ("evidence", np.float32, 11),
        ("score", np.float32), ("models", np.float32, (2, 4)), ("struck_at", np.uint32), ("added_until", np.uint32),
        ("verified_at", np.uint32), ("cleared_at", np.uint32), ("licensed_until", np.uint32),
        ("appealed_at", np.uint32), ("heard", np.int32), ("minutes", np.uint16, 60), ("plan", np.uint16),
        ("hours", np.uint8, 168), ("address_seen", np.uint8, (2, 64)), ("prefix_seen", np.uint8, (2, 64)),
        ("band_seen", np.uint8, (2, 64)), ("text_seen", np.uint8, (2, 64)), ("network_seen", np.uint8, (2, 32)),
        ("client_seen", np.uint8, (2, 32)), ("settings_seen", np.uint8, (2, 16)), ("rung", np.int8),
        ("added", np.int8), ("strikes", np.uint8), ("shadowed", np.bool_), ("spare", np.uint8, 6),
    ]
)  # fmt: skip

_THIRD: Final = np.dtype(
    [
        ("at", np.int64), ("first_at", np.int64), ("offset", np.int64), ("seq", np.int64), ("until", np.int64),
        ("ruled_at", np.int64), ("scored_at", np.int64), ("taught_at", np.int64), ("opened_at", np.float64),
        ("volumes", np.float64, (4, 4)), ("totals", np.float64, 5), ("topic_weights", np.float64, 2),
        ("topic", np.float32, 64), ("evidence", np.float32, 12), ("score", np.float32), ("models", np.float32, (2, 4)),
        ("traits", np.float32, 12), ("strands", np.float32, (8, 3)), ("struck_at", np.uint32),
        ("added_until", np.uint32), ("verified_at", np.uint32), ("cleared_at", np.uint32),
        ("licensed_until", np.uint32), ("appealed_at", np.uint32), ("heard", np.int32), ("minutes", np.uint16, 60),
        ("plan", np.uint16), ("hours", np.uint8, 168), ("address_seen", np.uint8, (2, 64)),
        ("prefix_seen", np.uint8, (2, 64)), ("band_seen", np.uint8, (2, 64)), ("text_seen", np.uint8, (2, 64)),
        ("network_seen", np.uint8, (2, 32)), ("client_seen", np.uint8, (2, 32)), ("settings_seen", np.uint8, (2, 16)),
        ("rung", np.int8), ("added", np.int8), ("strikes", np.uint8), ("shadowed", np.bool_), ("spare", np.uint8, 2),
    ]
)  # fmt: skip

_SECOND_EVIDENCE: Final = (
    "volume", "harvest", "automation", "churn", "breadth", "templates", "search", "pivot", "cues", "newness", "anomaly",
)  # fmt: skip

LAYOUTS: Final[dict[int, Layout]] = {
    1: Layout(
        _FIRST,
        ("volume", "harvest", "automation", "churn", "breadth", "templates", "cues", "newness", "anomaly"),
    ),
    2: Layout(_SECOND, _SECOND_EVIDENCE),
    3: Layout(_THIRD, (*_SECOND_EVIDENCE, "judgement")),
}
"""Every earlier layout by its number. Written out, for what a release stored never changes any more."""


def upgraded(row: bytes, into: Block, evidence: tuple[str, ...]) -> int:
    """Fill `into`, one blank profile, from a stored row of an earlier layout; the row's layout number.

    Fields go over by name where their shape is the same (sums kept in fewer digits are rounded), evidence by the name
    of its column (`evidence` names those of `into`); what is new stays blank, what is gone is dropped. Raises
    ValueError when the row is of no known layout.
    """
    number = int.from_bytes(row[:8], "little")
    layout = LAYOUTS.get(number)
    if layout is None:
        raise ValueError(f"layout {number}, which this release does not know")
    if len(row) != 8 + layout.profile.itemsize:
        raise ValueError(f"{len(row)} bytes, where layout {number} has {8 + layout.profile.itemsize}")
    (was,) = np.frombuffer(row, dtype=layout.profile, offset=8)
    for name in layout.profile.names or ():
        if name == "evidence":
            for column, weight in zip(layout.evidence, was[name], strict=True):
                if column in evidence:
                    into[name][0, evidence.index(column)] = weight
        elif name in (into.dtype.names or ()) and into.dtype[name].shape == layout.profile[name].shape:
            into[name][0] = was[name]
    return number
