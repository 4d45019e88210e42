"""Fixtures that more than one test file needs."""

from collections.abc import Iterator

import pytest
from brokers import FOR_TESTS, Broker, NoKafkaError, embedded_broker, kafka_broker


@pytest.fixture(scope="session")
def embedded() -> Iterator[Broker]:
    """The embedded broker."""
    with embedded_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Apache Kafka; where there is none the test is skipped, or fails if STILLWATCH_REQUIRE_KAFKA is set."""
    try:
        with kafka_broker(tmp_path_factory.mktemp("kafka")) as broker:
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
