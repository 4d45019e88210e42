"""Doctor: what is wrong between this machine and its brokers, and what to do about it."""

import asyncio
import platform
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import version
from typing import Final, Literal, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from sinks.policy import Policy, PolicyError

from .drift import Found, differences, survey
from .profiles import LAYOUT, STORED
from .settings import PREFIX, Settings
from .topics import PROFILES, REQUESTS, TopicsError, admin_client, verify

Level = Literal["ok", "note", "wrong"]

CONNECT_SECONDS: Final = 5.0
EXPIRES_SOON_DAYS: Final = 14
KEEPING_UP_REQUESTS: Final = 100_000
"""Uncommitted requests that a worker has seen through within seconds; more is worth a look."""

_FORBIDDEN: Final = (TopicAuthorizationFailedError, GroupAuthorizationFailedError)


class Finding(NamedTuple):
    """One thing looked at. `note`: works, and somebody should know; `wrong`: does not work."""

    level: Level
    about: str
    text: str
    remedy: str = ""


async def examine(settings: Settings, *, now: Callable[[], float] = time.time) -> AsyncIterator[Finding]:
    """Look at everything in order; what rests on something that is wrong is left out. `now` is in seconds UTC."""
    yield _versions()
    yield _policy(settings, now())
    reached = True
    for finding in await _addresses(settings, now()):
        reached = reached and finding.level != "wrong"
        yield finding
    if not reached:
        return
    try:
        yield await _cluster(settings)
        found = await survey(settings)
    except (KafkaError, OSError) as error:
        yield Finding("wrong", "brokers", f"{settings.brokers}: {error}", _how_to_talk(settings))
        return
    complete = True
    for finding in _topics(found, settings):
        complete = complete and finding.level != "wrong"
        yield finding
    if REQUESTS.name(settings) in found:
        yield await _group(settings, found[REQUESTS.name(settings)].partitions)
    if complete:
        yield await _layout(settings, found[PROFILES.name(settings)].partitions)


def _versions() -> Finding:
    parts = ", ".join(f"{name} {version(name)}" for name in ("aiokafka", "faust-streaming", "numpy"))
    return Finding("ok", "versions", f"stillwatch {version('stillwatch')}, Python {platform.python_version()}, {parts}")


def _policy(settings: Settings, now: float) -> Finding:
    name = str(settings.policy or "the packaged policy")
    try:
        policy = Policy.load(settings.policy)
    except PolicyError as error:
        return Finding("wrong", "policy", str(error), f"mend it; try it with: stillwatch policy check {name}")
    ended = [row.value for row in policy.exempt if row.until is not None and row.until.timestamp() <= now]
    if ended:
        text = f"{name}: exemptions have ended: {', '.join(ended)}"
        return Finding("note", "policy", text, "renew them or take them out")
    if policy.mode == "shadow":
        text = f"{name} ({policy.version}) is in shadow mode: nothing is enforced"
        return Finding("note", "policy", text, 'set mode = "enforce" when you trust it')
    return Finding("ok", "policy", f"{name} ({policy.version}), {len(policy.rungs)} rungs")


# Brokers


async def _addresses(settings: Settings, now: float) -> list[Finding]:
    """One finding a broker of the setting: its name, its port, its certificate."""
    addresses = [address.strip() for address in settings.brokers.split(",")]
    found = await asyncio.gather(*(_address(address, settings, now) for address in addresses))
    if any(finding.level != "wrong" for finding in found):
        # One that answers is enough to begin with: it names the others.
        return [found[i]._replace(level="note") if found[i].level == "wrong" else found[i] for i in range(len(found))]
    return list(found)


async def _address(address: str, settings: Settings, now: float) -> Finding:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return Finding("wrong", "brokers", f"{address} is no host:port", f"mend {PREFIX}BROKERS")
    tls = settings.ssl_context() if settings.security in ("SSL", "SASL_SSL") else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=tls)
    except TimeoutError:
        text = f"{address} does not answer within {CONNECT_SECONDS:g} s"
        return Finding("wrong", "brokers", text, "look at firewall, network policy and address")
    except ssl.SSLCertVerificationError as error:
        text = f"{address}: its certificate is not trusted: {error.verify_message}"
        return Finding("wrong", "brokers", text, f"set {PREFIX}TLS_CA to the authority that signed it")
    except ssl.SSLError as error:
        text = f"{address}: no TLS: {error.reason or error}"
        return Finding("wrong", "brokers", text, f"is this the TLS port? {PREFIX}SECURITY is {settings.security}")
    except OSError as error:
        text = f"{address}: {error.strerror or error}"
        return Finding("wrong", "brokers", text, f"is a broker there? Mend {PREFIX}BROKERS or start it")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return _expiry(address, certificate, now)


def _expiry(address: str, certificate: Mapping[str, str] | None, now: float) -> Finding:
    if not certificate:
        return Finding("ok", "brokers", f"{address} answers")
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - now) / 86_400
    text = f"{address} answers; its certificate ends in {days:.0f} days"
    if days < EXPIRES_SOON_DAYS:
        return Finding("note", "brokers", text, "renew it before")
    return Finding("ok", "brokers", text)


async def _cluster(settings: Settings) -> Finding:
    """The brokers as they name themselves: clients talk to these addresses, not to those of the setting."""
    async with admin_client(settings) as admin:
        brokers = (await admin.describe_cluster())["brokers"]
    named = {f"{broker['host']}:{broker['port']}" for broker in brokers}
    plain = Settings(brokers=settings.brokers)  # a port that answers is enough here
    seen = await asyncio.gather(*(_address(address, plain, 0) for address in sorted(named)))
    if dead := [finding.text for finding in seen if finding.level == "wrong"]:
        remedy = "mend advertised.listeners, or start the broker: clients are sent there"
        return Finding("wrong", "cluster", f"of {len(named)} brokers, {'; '.join(dead)}", remedy)
    return Finding("ok", "cluster", f"{len(named)} broker{'s' * (len(named) > 1)}: {', '.join(sorted(named))}")


def _how_to_talk(settings: Settings) -> str:
    if settings.security.startswith("SASL"):
        return f"check {PREFIX}SASL_USER ({settings.sasl_user}), its password and {PREFIX}SASL_MECHANISM"
    return f"do the brokers speak {settings.security} on this port? See {PREFIX}SECURITY"


# Topics, group, profiles


def _topics(found: Mapping[str, Found], settings: Settings) -> list[Finding]:
    try:
        verify({name: one.partitions for name, one in found.items()}, settings)
    except TopicsError as error:
        return [Finding("wrong", "topics", str(error))]
    findings = [
        Finding("wrong" if one.breaks else "note", "topics", f"{one.topic}: {one.text}", one.remedy)
        for one in differences(found, settings)
    ]
    unseen = [name for name, one in found.items() if one.config is None]
    if unseen:
        text = f"settings of {', '.join(unseen)} not looked at: no permission"
        findings.append(Finding("note", "topics", text, "look as a user that may DescribeConfigs"))
    partitions = found[REQUESTS.name(settings)].partitions
    return findings or [Finding("ok", "topics", f"all {len(found)} as they should be, {partitions} partitions")]


async def _group(settings: Settings, partitions: int) -> Finding:
    """Who works, and how far behind."""
    name = settings.group
    try:
        async with admin_client(settings) as admin:
            (described,) = await admin.describe_consumer_groups([name])
        _, _, state, _, _, members = described.groups[0]
        lag, never = await _lag(settings, partitions)
    except GroupCoordinatorNotAvailableError:
        # Kafka makes its own topic of offsets when the first group comes.
        return Finding("note", "workers", f"group {name} has never been here", "start a worker: stillwatch worker")
    except _FORBIDDEN:
        text = f"group {name} not looked at: no permission"
        return Finding("note", "workers", text, "look as a user that may Describe it and the topics")
    except (KafkaError, OSError) as error:
        return Finding("wrong", "workers", f"group {name}: {error}", "look at the brokers' logs")
    text = f"{len(members)} in group {name}, {lag:,} requests not yet committed"
    if not members:
        return Finding("wrong", "workers", f"none in group {name}; {lag:,} requests wait", "stillwatch worker")
    if len(members) > partitions:
        return Finding("note", "workers", f"{text}; of {partitions} partitions some get none", "run fewer")
    if state != "Stable":
        return Finding("note", "workers", f"{text}; the group is rebalancing ({state})", "look again in a minute")
    if never and lag:
        return Finding("note", "workers", f"{text}; nothing committed of {never} partitions", "look again in a minute")
    if lag > KEEPING_UP_REQUESTS:
        remedy = "look at stillwatch_event_lag_seconds; add workers, up to one a partition"
        return Finding("note", "workers", text, remedy)
    return Finding("ok", "workers", text)


async def _lag(settings: Settings, partitions: int) -> tuple[int, int]:
    """Requests not committed, and partitions of which nothing ever was."""
    tps = [TopicPartition(REQUESTS.name(settings), number) for number in range(partitions)]
    async with AIOKafkaConsumer(**settings.connection(), group_id=settings.group, enable_auto_commit=False) as consumer:
        consumer.assign(tps)
        ends, starts = await consumer.end_offsets(tps), await consumer.beginning_offsets(tps)
        committed = {tp: await consumer.committed(tp) for tp in tps}
    lag = sum(ends[tp] - max(starts[tp], committed[tp] or 0) for tp in tps)
    return lag, sum(offset is None for offset in committed.values())


async def _layout(settings: Settings, partitions: int) -> Finding:
    """Whether stored profiles can be read by this release."""
    try:
        layouts = await stored_layouts(settings, partitions)
    except _FORBIDDEN:
        return Finding("note", "profiles", "not looked at: no permission", "look as the workers' user")
    except (KafkaError, OSError) as error:
        return Finding("wrong", "profiles", f"cannot be read: {error}", "look at the brokers' logs")
    strange = sorted(layouts - {LAYOUT})
    if strange:
        text = f"stored with layout {', '.join(map(str, strange))}, where this release has {LAYOUT}"
        return Finding("note" if max(strange) < LAYOUT else "wrong", "profiles", text, "see docs/operations.md")
    return Finding("ok", "profiles", f"stored with layout {LAYOUT}" if layouts else "none stored yet")


async def stored_layouts(settings: Settings, partitions: int) -> set[int]:
    """The layouts of the newest row of each partition of profiles."""
    tps = [TopicPartition(PROFILES.name(settings), number) for number in range(partitions)]
    layouts = set()
    async with AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False) as consumer:
        consumer.assign(tps)
        ends, starts = await consumer.end_offsets(tps), await consumer.beginning_offsets(tps)
        for tp in tps:
            consumer.seek(tp, max(starts[tp], ends[tp] - 1_000))
        behind = {tp for tp in tps if ends[tp] > starts[tp]}
        while behind:
            for records in (await consumer.getmany(*behind, timeout_ms=1_000)).values():
                layouts |= {layout for record in records if (layout := _layout_of(record.key, record.value))}
            behind = {tp for tp in behind if await consumer.position(tp) < ends[tp]}
    return layouts


def _layout_of(key: bytes, row: bytes | None) -> int:
    """The layout of a stored row; 0 for what is none."""
    if row is None or key.startswith(b"\xff") or len(row) < STORED["layout"].itemsize:
        return 0
    return int(np.frombuffer(row[: STORED["layout"].itemsize], STORED["layout"])[0])
