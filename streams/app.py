"""App: the worker as a Faust application."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, cast

import aiokafka
import faust
from aiokafka.errors import KafkaError
from faust.types import TP, StreamT
from prometheus_client import CollectorRegistry

from sinks.metrics import Metrics
from sinks.policy import PolicyError

from . import topics
from .campaigns import Campaigns
from .engine.changelog import Changelog
from .engine.delivery import Delivery
from .engine.follow import Follower
from .engine.lag import LOOK_SECONDS, Ends, KafkaEnds
from .engine.links import LinksPartition
from .engine.memory import limit_bytes
from .engine.outbox import Outbox
from .engine.partition import Means
from .engine.policy_file import PolicyFile
from .engine.recent import RecentRequests
from .engine.register import Register
from .engine.requests import RequestsPartition
from .engine.strays import Strays
from .engine.transport import App, Chunk, Consumer
from .engine.vitals import vitals
from .engine.watch import TICK_SECONDS, Watch
from .pipeline import Pipeline
from .settings import Settings

AGENTS: Final = {"watch": topics.REQUESTS, "campaigns": topics.LINKS}
"""Faust's agents by name, and what each reads. Links wait in a queue of their own, not behind requests."""

STUCK_SECONDS: Final = 30.0
"""Past the drain's deadline, how long Faust may take to end before the process is ended for it."""

ANSWER_MS: Final = 10_000
"""How long Kafka may take to tell where a partition ends."""

log = logging.getLogger("stillwatch")


def create_app(settings: Settings, watch: Watch) -> App:
    """The Faust application: an agent over the requests and one over the links, whose micro-batches go to `watch`."""
    brokers = [f"stillwatch://{broker.strip()}" for broker in settings.brokers.split(",")]
    app = App(
        settings.group,
        broker=brokers,
        broker_credentials=_credentials(settings),
        broker_commit_interval=1.0,
        broker_session_timeout=settings.session_seconds,
        broker_request_timeout=settings.session_seconds + 30,
        broker_rebalance_timeout=settings.rebalance_seconds,
        broker_heartbeat_interval=min(3.0, settings.session_seconds / 3),
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id,
        producer_request_timeout=settings.delivery_seconds,
        processing_guarantee="at_least_once",
        stream_wait_empty=True,
        # Faust's own assignor, which standbys would bring, gives a third worker none of four partitions.
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        autodiscover=False,
    )
    app.batching = watch

    async def agent(stream: StreamT[Chunk]) -> None:
        async for chunk in cast(faust.Stream[Chunk], stream).noack():
            try:
                await watch.take(chunk)
            except Exception as fault:
                # Faust would count the batch as done and go on. What is at fault is ours: stop before it.
                await app.crash(fault)
                raise

    for name, topic in AGENTS.items():
        # Not `app.topic`: it forgets `maxsize`, and 4,096 chunks would wait in memory.
        source = faust.Topic(
            app,
            topics=[topic.name(settings)],
            key_serializer="raw",
            value_serializer="raw",
            maxsize=settings.buffer_chunks,
        )
        # Named here: otherwise the name, and with it internal topics, would follow the module's path.
        app.agent(source, name=name)(agent)
    watch.fail = app.crash
    watch.release = lambda tp: cast(Consumer, app.consumer).release(tp)
    return app


def worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; the exit status. What is wrong goes to stderr."""
    try:
        metrics = Metrics(CollectorRegistry())
        return asyncio.run(_work(settings, metrics, PolicyFile(settings.policy, metrics)))
    except (PolicyError, topics.TopicsError) as error:
        sys.stderr.write(f"{error}\n")
    except KafkaError as error:
        sys.stderr.write(f"Kafka at {settings.brokers}: {error}\n")
    return 1


async def _work(settings: Settings, metrics: Metrics, rules: PolicyFile) -> int:
    found = await topics.counts(settings)
    topics.verify(found, settings)
    settings = replace(settings, partitions=found[topics.REQUESTS.name(settings)])
    onlooker = aiokafka.AIOKafkaConsumer(**settings.connection(), request_timeout_ms=ANSWER_MS)
    async with settings.producer() as producer, onlooker:
        delivery = Delivery(producer.send, settings, metrics, time.monotonic)
        means = Means(settings, Outbox(delivery.send, settings), metrics, time.monotonic, _now, _now())
        register = Register(settings.partitions)
        standings = Follower(topics.STANDINGS, settings, metrics, register.hear)
        feedback = Follower(topics.FEEDBACK, settings, metrics, lambda *told: watch.hear(*told))
        requests = partial(
            RequestsPartition,
            means=means,
            new_pipeline=lambda: Pipeline(rules.policy, partitions=settings.partitions),
            changelog=Changelog(producer, settings, topics.PROFILES),
            recent=RecentRequests(settings),
            strays=Strays(topics.REQUESTS.name(settings), settings.partitions),
            register=register,
            feedback=feedback,
        )
        links = partial(
            LinksPartition,
            means=means,
            new_campaigns=lambda: Campaigns(rules.policy),
            changelog=Changelog(producer, settings, topics.CAMPAIGNS),
            register=register,
            feedback=feedback,
        )
        watch = Watch(means, {topics.REQUESTS: requests, topics.LINKS: links})
        register.pass_on, register.correct, register.caught_up = watch.stand, watch.correct, standings.caught_up
        app = create_app(settings, watch)

        def measure() -> None:
            watch.measure(cast(Consumer, app.consumer).acks)
            metrics.standings.set(len(register))
            delivery.measure()
            metrics.memory_limit.set(limit_bytes())  # a pod can be resized while it runs

        async with vitals(
            settings.web_host,
            settings.web_port,
            registry=metrics.registry,
            ready=lambda: watch.ready and not app.rebalancing,
            alive=lambda: watch.alive and not app.crashed,
            measure=measure,
        ):
            return await _run(app, watch, KafkaEnds(onlooker), [standings, feedback], settings, rules)


async def _run(
    app: App, watch: Watch, ends: Ends, followers: Sequence[Follower], settings: Settings, rules: PolicyFile
) -> int:  # fmt: skip
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    starting = asyncio.create_task(app.start())
    ended = asyncio.create_task(app.wait_until_stopped())
    asked = asyncio.create_task(told.wait())
    ticking = asyncio.create_task(_tick(app, watch, rules))
    looking = asyncio.create_task(_look(app, watch, ends, TP(topics.REQUESTS.name(settings), 0)))
    following = [asyncio.create_task(_follow(app, follower)) for follower in followers]
    await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with asyncio.timeout(settings.drain_seconds + STUCK_SECONDS):
            await app.stop()
    except TimeoutError:
        # A thread of Faust's that waits for a dead broker would keep the process for ever.
        log.critical("the worker did not end in time")
        os._exit(1)
    for task in (starting, ended, asked, ticking, looking, *following):
        task.cancel()
    if app.crashed:
        log.error("the worker stopped: %r", app.crash_reason)
        return 1
    return 0


async def _tick(app: App, watch: Watch, rules: PolicyFile) -> None:
    try:
        while not app.should_stop:
            if (policy := rules.look()) is not None:
                await watch.adopt(policy)
            await watch.tick()
            await app.sleep(TICK_SECONDS)
    except Exception as fault:
        await app.crash(fault)
        raise


async def _follow(app: App, follower: Follower) -> None:
    try:
        await follower.run()
    except Exception as fault:
        await app.crash(fault)
        raise


async def _look(app: App, watch: Watch, ends: Ends, first: TP) -> None:
    while not app.should_stop:
        # A silent Kafka is measured, not an error: the fetcher and the outbox decide when it is one. Without a
        # partition of our own the first is asked for, just to hear something.
        with suppress(KafkaError):
            watch.heard(await ends(watch.partitions or [first]))
        await app.sleep(LOOK_SECONDS)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _credentials(settings: Settings) -> faust.auth.Credentials | None:
    if settings.security == "PLAINTEXT":
        return None
    if settings.security == "SSL":
        return faust.SSLCredentials(settings.ssl_context())
    return faust.SASLCredentials(
        username=settings.sasl_user,
        password=settings.password(),
        mechanism=settings.sasl_mechanism,
        ssl_context=settings.ssl_context() if settings.security == "SASL_SSL" else None,
    )
