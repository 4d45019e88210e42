"""Fixtures that more than one test file needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import FOR_TESTS, Broker, NoKafkaError, embedded_broker, kafka_broker
from hypothesis import HealthCheck, settings

# Tests run side by side, so what one example takes on the wall says nothing.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session")
def embedded() -> Iterator[Broker]:
    """The embedded broker."""
    with embedded_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Apache Kafka; where there is none the test is skipped, or fails if STILLWATCH_REQUIRE_KAFKA is set."""
    yield from _apache(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def frail_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Another one, for tests that stop it: with the topics of all others it would take half a minute to come back."""
    yield from _apache(tmp_path_factory.mktemp("frail"))


def _apache(folder: Path) -> Iterator[Broker]:
    try:
        with kafka_broker(folder) as broker:
            yield broker
    except NoKafkaError as error:
        if FOR_TESTS.get("STILLWATCH_REQUIRE_KAFKA"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two in turn."""
    found: Broker = request.getfixturevalue(request.param)
    return found
