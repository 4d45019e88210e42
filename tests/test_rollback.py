"""Rollback: an earlier release reads what it knows, and nothing else is changed by the way there and back."""

import numpy as np
import pytest
from stories import HOUR, T0, request, sketch
from test_profiles import observed

from models.score import NAMES
from streams.compacted import StateError
from streams.layouts import LAYOUTS
from streams.profiles import LAYOUT, PROFILE, Profiles
from streams.rollback import known_layouts, lowered


@pytest.mark.parametrize("number", known_layouts())
def test_there_and_back_keeps_what_both_know(number: int) -> None:
    profiles = observed(
        [request("ada", T0 + n * HOUR, id=str(n), ip=f"10.0.0.{n}", sketch=sketch(n)) for n in range(20)],
        [request("bob", T0, id="b", reasoning_tokens=7)],
    )
    profiles.table["evidence"][:2, NAMES.index("cues")] = [1.5, 0.25]
    stored = [(account, row) for account, row in profiles.changed() if row is not None]

    older = lowered(stored, number)

    assert {int.from_bytes(row[:8], "little") for row in older} == {number}
    again = Profiles()
    places, _ = again.restore(zip((account for account, _ in stored), older, strict=True))
    was, now = profiles.table[: len(stored)], again.table[places]
    kept = PROFILE if number == LAYOUT else LAYOUTS[number].profile
    for name in ("at", "offset", "seq", "totals", "volumes", "opened_at", "address_seen", "topic", "rung"):
        assert name in (kept.names or ())
        assert np.array_equal(was[name], now[name], equal_nan=name == "opened_at"), name
    assert now["evidence"][:, NAMES.index("cues")].tolist() == [1.5, 0.25]


def test_rows_of_different_layouts_are_restored_at_once() -> None:
    profiles = observed([request("ada", ip="10.0.0.1"), request("bob", reasoning_tokens=7)])
    today = [(account, row) for account, row in profiles.changed() if row is not None]
    mixed = [today[0], ("bob", lowered(today, LAYOUT - 1)[1]), ("eve", lowered(today, 1)[0])]

    places, block = (again := Profiles()).restore([*mixed, ("ada", None), today[0]])

    assert again.rows(["ada", "bob", "eve"]).tolist() == places.tolist()
    assert block["totals"][:, 0].tolist() == [1, 1, 1]
    assert block["totals"][1].tolist() == profiles.table["totals"][1].tolist()


def test_a_layout_that_nobody_ever_had_is_refused() -> None:
    with pytest.raises(StateError, match=f"layout 99 is not known; known: .*{LAYOUT}"):
        lowered([], 99)
