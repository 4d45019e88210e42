"""Sight: fields that producers no longer fill are missed, once, until they come back."""

import numpy as np
import pytest
from stories import HOUR, T0, Raw, request, sketch

from gateway.request import Request, encode
from models.snapshot import SnapshotError
from sinks.policy import Policy
from streams.pipeline import Pipeline
from streams.sight import AGAIN_MS, Sight

POLICY = Policy.load()


def hour(number: int, *, sketched: bool = True, accounts: int = 400) -> list[Request]:
    """An hour in which every account sends one request, a second of 400 after the other."""
    start = T0 + number * HOUR
    return [
        request(
            f"a{n}", start + n * 9_000 * 400 // accounts, id=f"{number} {n}", sketch=sketch(n) if sketched else None
        )
        for n in range(accounts)
    ]


def told(pipeline: Pipeline, requests: list[Request]) -> list[tuple[str, bool]]:
    """Subjects of the alerts of blindness, and whether each says that it is over."""
    said = []
    for start in range(0, len(requests), 20):
        piece = requests[start : start + 20]
        records = [Raw(encode(one), _offset(one), None, one.at) for one in piece]
        said += [(one.subject, one.over) for one in pipeline.process(records).alerts if one.kind == "detector_blind"]
    return said


def _offset(one: Request) -> int:
    return one.at - T0


def days(pipeline: Pipeline, hours: range, *, sketched: bool = True) -> list[tuple[str, bool]]:
    return [said for number in hours for said in told(pipeline, hour(number, sketched=sketched))]


def test_a_field_that_goes_is_missed_while_it_is_away_and_no_longer() -> None:
    pipeline = Pipeline(POLICY)
    assert days(pipeline, range(12)) == []
    away = days(pipeline, range(12, 16), sketched=False)
    assert set(away) == {("field:sketch", False)}
    # Said again every half hour, from about an hour and a half after the last sketch on.
    assert 3 <= len(away) <= 4 * HOUR // AGAIN_MS
    back = days(pipeline, range(16, 20))
    assert back[-1] == ("field:sketch", True)
    assert back.count(("field:sketch", True)) == 1


def test_a_restart_does_not_forget_what_was_usual() -> None:
    pipeline = Pipeline(POLICY)
    days(pipeline, range(12))
    again = Pipeline(POLICY)
    again.restore_models(pipeline.snapshot_models())
    assert ("field:sketch", False) in days(again, range(12, 16), sketched=False)


def test_a_field_that_nobody_ever_filled_is_not_missed() -> None:
    assert days(Pipeline(POLICY), range(8), sketched=False) == []


def test_one_loud_account_without_the_field_hides_nothing() -> None:
    pipeline = Pipeline(POLICY)
    days(pipeline, range(8))
    for number in range(8, 12):
        loud = [request("loud", T0 + number * HOUR + n * 900, id=f"l{number} {n}") for n in range(4_000)]
        both = sorted(loud + hour(number), key=lambda one: one.at)
        for start in range(0, len(both), 200):
            records = [Raw(encode(one), _offset(one), None, one.at) for one in both[start : start + 200]]
            assert pipeline.process(records).alerts == []


def test_what_is_no_snapshot_of_it_is_refused() -> None:
    with pytest.raises(SnapshotError):
        Sight.restore(b"nonsense")
    assert np.all(Sight.restore(Sight().snapshot())._seen == 0)
