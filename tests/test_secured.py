"""A broker that demands TLS, a login and permission: each component runs as its own user, and may do nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from brokers import FOR_TESTS, Broker, NoKafkaError
from fleet import WATCH_EVERYONE, Fleet
from secured import ADMIN, Secured, secured_kafka, users
from stories import request

from gateway.emitter import Emitter
from gateway.exchange import Draft
from gateway.guard import Guard
from gateway.settings import Settings as GatewaySettings
from gateway.subscriber import Subscriber
from streams import topics
from streams.app import worker
from streams.backup import inspect, save
from streams.doctor import Finding, examine
from streams.forget import forget, left
from streams.settings import Settings
from streams.topics import ENFORCEMENT, REQUESTS, TOPICS, TopicsError

pytestmark = pytest.mark.kafka
SECONDS = 30


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker with our topics on it."""
    try:
        with secured_kafka(tmp_path_factory.mktemp("secured")) as broker:
            asyncio.run(topics.create(broker.settings(ADMIN)))
            yield broker
    except NoKafkaError as error:
        if FOR_TESTS.get("STILLWATCH_REQUIRE_KAFKA"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
async def fleet(secured: Secured, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Workers that log in as the manifest says; what the test itself reads and writes, it does as administrator."""
    policy = tmp_path / "policy.toml"
    policy.write_text(WATCH_EVERYONE)
    environment = secured.environment("stillwatch-worker", STILLWATCH_POLICY=str(policy))
    fleet = Fleet(Broker("secured", secured.address), tmp_path, environment, secured.settings(ADMIN))
    yield fleet
    fleet.dismiss()


def gateway(secured: Secured, user: str) -> GatewaySettings:
    return GatewaySettings.read({**secured.gateway(user), "STILLWATCH_ACCOUNT_HEADER": "x-account"})


def ended(settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    """What a worker says that cannot begin."""
    assert worker(settings) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


async def findings(settings: Settings) -> dict[str, Finding]:
    return {one.about: one async for one in examine(settings)}


async def test_from_request_to_verdict_each_as_its_own_user(secured: Secured, fleet: Fleet) -> None:
    """The gateway tells of 200 requests, the worker watches the account, the gateway hears of it."""
    serving = gateway(secured, "stillwatch-gateway")
    emitter = Emitter(serving.connection(), serving.topic_prefix + "requests")
    guard = Guard()
    subscriber = Subscriber(
        guard, serving.connection(), serving.topic_prefix + "enforcement", clock=lambda: time.time_ns() // 1_000_000
    )
    running = [asyncio.create_task(emitter.run()), asyncio.create_task(subscriber.run())]
    one = fleet.start()
    now = int(time.time() * 1000)
    for n in range(200):
        emitter.emit(Draft(request("ada", now, id=str(n))))

    await fleet.until(lambda: guard.find(now, "ada") is not None)

    assert emitter.failed == emitter.dropped == subscriber.failures == 0
    found = await findings(secured.settings("stillwatch-operator"))
    assert found["topics"].level == "ok"
    assert found["workers"].text.startswith("1 in group stillwatch, ")
    assert one.end() == 0
    for task in running:
        task.cancel()


async def may_write(settings: Settings, topic: str) -> bool:
    try:
        async with asyncio.timeout(SECONDS), AIOKafkaProducer(**settings.connection(), acks="all") as producer:
            await producer.send_and_wait(topic, b"from a test", key=b"k", partition=0)
    except TopicAuthorizationFailedError:
        return False
    return True


async def may_read(settings: Settings, topic: str) -> bool:
    tp = TopicPartition(topic, 0)
    async with topics.admin_client(settings) as admin:
        (described,) = await admin.describe_topics([topic])
    if described["error_code"] == TopicAuthorizationFailedError.errno:
        return False  # not even seen: a consumer would wait for it to appear
    try:
        async with asyncio.timeout(SECONDS), AIOKafkaConsumer(**settings.connection()) as consumer:
            consumer.assign([tp])
            consumer.seek(tp, 0)
            while consumer.highwater(tp) is None:  # until an answer came
                await consumer.getmany(tp, timeout_ms=50)
    except TopicAuthorizationFailedError:
        return False
    return True


async def may_join(settings: Settings, group: str, topic: str) -> bool:
    try:
        async with asyncio.timeout(SECONDS), AIOKafkaConsumer(**settings.connection(), group_id=group) as consumer:
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            await consumer.commit({tp: 0})
    except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
        return False
    return True


@pytest.mark.parametrize("user", users())
async def test_what_the_manifest_does_not_allow_is_refused(secured: Secured, user: str) -> None:
    """Every user against every topic and group, by trying."""
    settings = secured.settings(user)
    allowed = {
        (rule["resource"]["type"], rule["resource"]["name"], operation)
        for rule in users()[user]
        for operation in rule["operations"]
    }
    names = [topic.name(settings) for topic in TOPICS]
    # What may be written is not tried: other tests count requests and verdicts.
    for name in names:
        if ("topic", name, "Write") not in allowed:
            assert not await may_write(settings, name), f"{user} may write {name}"
        assert await may_read(settings, name) == (("topic", name, "Read") in allowed), f"{user} reads {name}"
    for group in ("stillwatch", "stillwatch-forwarder", "another"):
        readable = next((name for name in names if ("topic", name, "Read") in allowed), names[0])
        may = ("group", group, "Read") in allowed
        assert await may_join(settings, group, readable) == may, f"{user} joins {group}"
    with pytest.raises(TopicsError, match=f"^mine.requests: {user} may not create topics$"):
        await topics.create(Settings.read(secured.environment(user, STILLWATCH_TOPIC_PREFIX="mine.")))


async def test_the_analyst_may_let_an_account_be_forgotten_and_the_gateway_not(secured: Secured) -> None:
    words = {"by": "noor", "reason": "ticket 4711", "at": int(time.time() * 1000), "number": "1"}
    assert (await forget(secured.settings("stillwatch-analyst"), "eve", **words)).offset == 0
    with pytest.raises(TopicsError, match=r"or stillwatch-gateway may not see it: stillwatch.feedback"):
        await forget(secured.settings("stillwatch-gateway"), "eve", **words)


async def test_the_keeper_may_save_the_state_and_look_whether_anything_is_left(
    secured: Secured, tmp_path: Path
) -> None:
    settings = secured.settings("stillwatch-keeper")
    await save(settings, tmp_path / "state.zst", at=int(time.time() * 1000))
    assert inspect(tmp_path / "state.zst").head.committed
    assert await left(settings, "nobody") == []
    with pytest.raises(TopicsError, match="or stillwatch-forwarder may not see them"):
        await save(secured.settings("stillwatch-forwarder"), tmp_path / "no.zst", at=0)


def test_a_worker_that_logs_in_as_somebody_else_says_so_and_ends(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ended(secured.settings("stillwatch-gateway"), capsys)
    assert told.startswith(
        "missing topics, or stillwatch-gateway may not see them: stillwatch.profiles, stillwatch.links, "
    )


def test_a_wrong_password(secured: Secured, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.read(secured.environment("stillwatch-worker", STILLWATCH_SASL_PASSWORD="guess"))
    told = ended(settings, capsys)
    assert "127.0.0.1" in told
    assert "guess" not in told
    found = asyncio.run(findings(settings))
    assert found["brokers"].level == "wrong"
    assert found["brokers"].remedy.startswith("check STILLWATCH_SASL_USER (stillwatch-worker)")


def test_no_login_at_all(secured: Secured) -> None:
    settings = Settings.read(secured.environment("stillwatch-worker", STILLWATCH_SECURITY="SSL"))
    assert asyncio.run(findings(settings))["brokers"].level == "wrong"


def test_a_certificate_that_nobody_vouches_for_is_not_talked_to(
    secured: Secured, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.read(secured.environment("stillwatch-worker", STILLWATCH_TLS_CA=""))
    ended(settings, capsys)
    found = asyncio.run(findings(settings))
    assert found["brokers"].level == "wrong"
    assert "its certificate is not trusted" in found["brokers"].text
    assert "STILLWATCH_TLS_CA" in found["brokers"].remedy


async def test_a_gateway_with_the_wrong_user_keeps_serving_and_counts_what_it_lost(secured: Secured) -> None:
    serving = gateway(secured, "stillwatch-forwarder")
    emitter = Emitter(serving.connection(), REQUESTS.name(secured.settings(ADMIN)))
    guard = Guard()
    subscriber = Subscriber(guard, serving.connection(), ENFORCEMENT.name(secured.settings(ADMIN)), clock=lambda: 0)
    running = [asyncio.create_task(emitter.run()), asyncio.create_task(subscriber.run())]
    emitter.emit(Draft(request("ada")))
    async with asyncio.timeout(SECONDS):
        while not (emitter.failed or emitter.waiting) or not subscriber.failures:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert emitter.sent == 0
    assert not any(task.done() for task in running)
    assert guard.find(0, "ada") is None
    for task in running:
        task.cancel()


def test_kafka_refuses_a_plain_connection(secured: Secured) -> None:
    async def connect() -> None:
        async with AIOKafkaConsumer(bootstrap_servers=secured.address, request_timeout_ms=2_000):
            pass

    with pytest.raises(KafkaError):
        asyncio.run(connect())
