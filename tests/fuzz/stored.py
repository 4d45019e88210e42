"""Stored: rows and models of a changelog are taken back whole, or refused by name; none is ever misread."""

from typing import Final

import zstandard
from hypothesis import strategies as st

from models.snapshot import SnapshotError
from streams.campaigns import Campaigns
from streams.layouts import LAYOUTS
from streams.pipeline import Pipeline
from streams.profiles import Profiles, blank, packed
from tests.stories import T0

from .machine import POLICY
from .odd import VALUES, changed, clear, cut, encoded, written


def _rows() -> list[bytes]:
    this = packed(blank(1))
    older = [number.to_bytes(8, "little") + bytes(layout.profile.itemsize) for number, layout in LAYOUTS.items()]
    return [this, *older]


ROWS: Final = st.lists(
    st.tuples(
        st.sampled_from(("ada", "bob", "")),
        st.none() | st.sampled_from(_rows()) | st.sampled_from(_rows()).flatmap(cut) | st.binary(max_size=40),
    ),
    max_size=4,
)


def profiles(rows: list[tuple[str, bytes | None]]) -> None:
    """Stored profiles, of this release and earlier ones, some of them damaged."""
    found = Profiles(100)
    try:
        places, _ = found.restore(rows)
    except ValueError as error:
        clear(error, "account")
        return
    assert len(places) == len({account for account, row in dict(rows).items() if row is not None})
    found.touch(places)
    assert len(found.changed()) == len(places)


_CAMPAIGN: Final = {
    "id": "c1", "found_at": T0, "at": T0, "score": 0.5, "kinds": 2, "members": 3, "rung": 0, "until": 0, "seq": 1,
    "shared": [{"kind": "card", "trait": 7, "share": 0.5, "background": 0.01}],
}  # fmt: skip
KEPT: Final = st.lists(
    st.tuples(
        st.sampled_from(("campaign:c1", "account:ada", "account:", "")),
        changed(_CAMPAIGN).map(written).map(encoded)
        | VALUES.map(written).map(encoded)
        | st.sampled_from(_rows()).flatmap(cut)
        | st.none(),
    ),
    max_size=3,
)


def campaigns(rows: list[tuple[str, bytes | None]]) -> None:
    """Stored campaigns, and accounts of theirs."""
    found = Campaigns(POLICY, most_accounts=100)
    try:
        found.restore(rows)
    except ValueError:
        return
    assert found.accounts <= len(rows)


def _models() -> bytes:
    return Pipeline(POLICY, most_profiles=1_000).snapshot_models()


MODELS: Final = st.one_of(
    st.builds(_models).flatmap(cut),
    st.builds(_models).map(zstandard.decompress).flatmap(cut).map(zstandard.compress),
    st.binary(max_size=100),
)


def models(raw: bytes) -> None:
    """What detectors had learned, damaged."""
    detector = Pipeline(POLICY, most_profiles=1_000)
    try:
        detector.restore_models(raw)
    except SnapshotError as error:
        clear(error)
        return
    assert detector.snapshot_models()
