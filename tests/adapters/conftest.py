"""Fixtures of the adapters."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attack import LADDER
from brokers import Broker
from fleet import Fleet


@pytest.fixture
async def fleet(embedded: Broker, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A worker that is ready, on the ladder of the attack."""
    fleet = await Fleet.assemble(embedded, tmp_path)
    (tmp_path / "policy.toml").write_text(LADDER)
    worker = fleet.start()
    await fleet.until(lambda: worker.status("/ready") == 200)
    yield fleet
    fleet.dismiss()
