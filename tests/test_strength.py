"""How hard a verdict degrades: by exposure and probing, and nobody else."""

import pytest
from stories import HOUR, T0
from test_guard import verdict

from gateway.strength import strength
from gateway.verdict import Exposure


def of(share: float | None, score: float = 0.99, action: str = "degrade", **more: object) -> float:
    exposure = None
    if share is not None:
        exposure = Exposure(requests=1, output_tokens=1, reasoning_tokens=0, cost=0, share_of_budget=share)
    return strength(verdict("ada", action, exposure=exposure, score=score, expires_at=T0 + HOUR, **more))


@pytest.mark.parametrize("action", ["allow", "watch", "throttle", "verify", "suspend", "something new"])
def test_who_is_not_degraded_loses_nothing(action: str) -> None:
    assert of(9.0, action=action, parameters={"strength": 1.0}) == 0


def test_it_grows_with_what_was_served() -> None:
    assert [of(share) for share in (0.0, 0.125, 0.126, 0.25, 0.375, 0.5, 9.0)] == [0.25, 0.25, 0.5, 0.5, 0.75, 1, 1]
    assert of(None) == 1, "nothing is known that speaks for mildness"


def test_it_grows_with_how_sure_the_probing_is() -> None:
    assert [of(0.5, score) for score in (0.0, 0.5, 0.75, 0.95, 0.99, 1.0)] == [0.25, 0.25, 0.25, 0.75, 1, 1]
    assert of(0.5, 0.6, campaign="c-1") == 1, "a campaign is sure"


def test_a_stated_strength_decides() -> None:
    assert [of(1.0, parameters={"strength": stated}) for stated in (0.0, 0.3, 1.0)] == [0, 0.5, 1]
    assert [of(0.3, parameters={"strength": wrong}) for wrong in (7.0, -1.0, "all")] == [0.75] * 3
