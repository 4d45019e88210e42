"""Growth: more partitions, by moving to topics of another prefix.

The partitions of a topic that profiles rest on cannot be raised in place: an account's requests would go to one
partition and its profile lie on another. So new topics are made beside the old ones, each profile goes to the partition
where murmur2 puts its account, and workers begin there. The old topics are only read: until the last step one can turn
back.

Nothing counts twice, and nothing is lost: a profile holds old requests up to an offset of its own; those behind it,
read or unread, are copied to the new topic; and because that topic's offsets begin anew, so do the profiles'.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from gateway.request import UnreadableError
from gateway.request import decode as decode_request

from . import compacted
from .compacted import POSITION, Kept, StateError
from .partitioner import partition_of
from .profiles import Profiles
from .settings import PREFIX, Settings
from .topics import ENFORCEMENT, FEEDBACK, PROFILES, REQUESTS, Topic, counts, create, verify

ANEW: Final = [(POSITION, bytes(8))]
"""The stamp of a row that holds nothing of its topic yet."""

_SPECIAL: Final = b"\xff"
"""What keys of a changelog begin with that are no account's."""


@dataclass(slots=True)
class Moved:
    """What went over."""

    profiles: int = 0
    verdicts: int = 0
    requests: int = 0
    """Requests that no worker had counted yet."""
    feedback: int = 0
    doubles: int = 0
    """Second profiles that strays had left on a wrong partition: left behind."""


def grown(settings: Settings, prefix: str, partitions: int) -> Settings:
    """The settings to run with afterwards. Raises StateError."""
    if prefix == settings.topic_prefix:
        raise StateError(f"new topics need another prefix than {prefix}")
    return replace(settings, topic_prefix=prefix, partitions=partitions)


def copier(settings: Settings) -> str:
    """The group that remembers how far old requests were copied."""
    return settings.group + ".grow"


async def prepare(old: Settings, new: Settings) -> list[str]:
    """Create the new topics and take the verdicts in force there, so that gateways may move before workers do.

    Verdicts that are announced meanwhile follow with `transfer`. Raises TopicsError, KafkaError.
    """
    verify(await counts(old), old)
    created = await create(new)
    await _copy_verdicts(old, new)
    return created


async def _copy_verdicts(old: Settings, new: Settings) -> int:
    there, here = (await counts(old))[ENFORCEMENT.name(old)], (await counts(new))[ENFORCEMENT.name(new)]
    copied = 0
    async with new.producer() as producer:
        for partition in range(there):
            found = await compacted.newest(old, ENFORCEMENT.name(old), partition)
            split: dict[int, list[tuple[bytes, Kept]]] = {}
            for key, kept in found.items():
                # Nulls too: what was lifted since the first copy must not stay.
                split.setdefault(partition_of(key, here), []).append((key, kept))
            for place, rows in split.items():
                copied += await compacted.write(producer, ENFORCEMENT.name(new), place, rows)
    return copied


async def transfer(old: Settings, new: Settings, *, tell: Callable[[str], None] = lambda _: None) -> Moved:
    """Take over profiles, models, verdicts, and what no worker had counted yet. Workers must not run meanwhile.

    Raises StateError, TopicsError, KafkaError. If it breaks off, delete the new topics and begin again.
    """
    here, there = await counts(new), await counts(old)
    verify(here, new)
    verify(there, old)
    await compacted.require_no_workers(old)
    _, after = await compacted.ends(new, PROFILES.name(new), here[PROFILES.name(new)])
    if any(after.values()):
        raise StateError(f"{PROFILES.name(new)} is not empty: delete the topics {new.topic_prefix}* and begin again")
    moved = Moved(verdicts=await _copy_verdicts(old, new))
    move = _Move(old, new, there[REQUESTS.name(old)], here[REQUESTS.name(new)], moved)
    async with new.producer() as producer:
        for partition in range(move.old_partitions):
            await move.take(producer, partition)
            tell(f"partition {partition + 1} of {move.old_partitions}: {moved.profiles:,} profiles")
        await move.place_strays(producer)
    return moved


async def follow(old: Settings, new: Settings, *, idle_seconds: float) -> int:
    """Copy what producers still send to the old requests, until none came for so long; how many.

    A crash in the middle of it may copy some twice, which their ids give away. Raises StateError, KafkaError.
    """
    partitions = (await counts(old))[REQUESTS.name(old)]
    if len(await compacted.committed(old, REQUESTS.name(old), partitions, copier(old))) < partitions:
        raise StateError("the state was not taken over yet: run it with --transfer first")
    copied = 0
    async with new.producer() as producer:
        while True:
            count = 0
            for partition in range(partitions):
                start = (await compacted.committed(old, REQUESTS.name(old), partitions, copier(old))).get(partition, 0)
                one = await _copy(old, new, REQUESTS, partition, start, producer, lambda _: True)
                await compacted.commit(old, REQUESTS.name(old), {partition: one.end}, copier(old))
                count += one.copied
            copied += count
            if not count:
                await asyncio.sleep(idle_seconds)
                _, after = await compacted.ends(old, REQUESTS.name(old), partitions)
                if after == await compacted.committed(old, REQUESTS.name(old), partitions, copier(old)):
                    return copied


@dataclass(frozen=True, slots=True)
class _Copied:
    copied: int
    end: int
    """The offset after the last record looked at."""


async def _copy(
    old: Settings, new: Settings, topic: Topic, partition: int, start: int, producer: AIOKafkaProducer,
    wanted: Callable[[ConsumerRecord], bool],
) -> _Copied:  # fmt: skip
    """Copy a partition's records from an offset on, their bytes untouched, to where murmur2 puts their key."""
    tp = TopicPartition(topic.name(old), partition)
    sent: list[asyncio.Future[object]] = []
    copied = 0
    async with AIOKafkaConsumer(**old.connection(), enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, max(start, (await consumer.beginning_offsets([tp]))[tp]))
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, ()):
                if record.offset < end and wanted(record):
                    headers = list(record.headers)
                    name = topic.name(new)
                    sent.append(await producer.send(name, record.value, record.key, headers=headers))
                    copied += 1
            await asyncio.gather(*sent)
            sent.clear()
    return _Copied(copied, end)


@dataclass(slots=True)
class _Move:
    """One move, partition by partition: only one partition's profiles are in memory at once."""

    old: Settings
    new: Settings
    old_partitions: int
    new_partitions: int
    moved: Moved
    strays: dict[bytes, Kept] = field(default_factory=dict)
    """Profiles found on a wrong partition."""

    async def take(self, producer: AIOKafkaProducer, partition: int) -> None:
        """Move what belongs to one old partition."""
        found = await compacted.newest(self.old, PROFILES.name(self.old), partition)
        profiles = Profiles()
        profiles.restore((key.decode(), kept.value) for key, kept in found.items() if not key.startswith(_SPECIAL))
        await self._copy_unread(producer, partition, profiles)
        profiles.begin_anew()
        split: dict[int, list[tuple[bytes, Kept]]] = {place: [] for place in range(self.new_partitions)}
        for account, row in profiles.changed():
            key, kept = account.encode(), Kept(row, ANEW)
            if partition_of(key, self.old_partitions) != partition:
                self.strays[key] = kept
            else:
                split[partition_of(key, self.new_partitions)].append((key, kept))
        models = [(key, Kept(kept.value, ANEW)) for key, kept in found.items() if key.startswith(_SPECIAL)]
        for place in range(partition, self.new_partitions, self.old_partitions):
            # What is normal is much the same everywhere: each new partition begins with the models of an old one.
            await compacted.write(producer, PROFILES.name(self.new), place, models)
        for place, rows in split.items():
            self.moved.profiles += await compacted.write(producer, PROFILES.name(self.new), place, rows)

    async def _copy_unread(self, producer: AIOKafkaProducer, partition: int, profiles: Profiles) -> None:
        """Copy what stands behind the offset of each profile."""
        for topic, column, account_of in (
            (REQUESTS, "offset", _account_of_request),
            (FEEDBACK, "heard", _account_of_feedback),
        ):
            name = topic.name(self.old)
            start = (await compacted.committed(self.old, name, self.old_partitions)).get(partition, 0)

            def uncounted(record: ConsumerRecord, column: str = column, of: _AccountOf = account_of) -> bool:
                account = of(record)
                if account is None or account not in profiles:
                    return True
                (row,) = profiles.rows([account])
                return bool(record.offset > profiles.table[column][row])

            one = await _copy(self.old, self.new, topic, partition, start, producer, uncounted)
            if topic is REQUESTS:
                await compacted.commit(self.old, name, {partition: one.end}, copier(self.old))
                self.moved.requests += one.copied
            else:
                self.moved.feedback += one.copied

    async def place_strays(self, producer: AIOKafkaProducer) -> None:
        """Profiles that lay on a wrong partition go where they belong, unless their account has one there."""
        if not self.strays:
            return
        homes = {partition_of(key, self.old_partitions) for key in self.strays}
        for home in homes:
            for key in await compacted.newest(self.old, PROFILES.name(self.old), home):
                if partition_of(key, self.old_partitions) == home and self.strays.pop(key, None) is not None:
                    self.moved.doubles += 1
        for key, kept in self.strays.items():
            place = partition_of(key, self.new_partitions)
            self.moved.profiles += await compacted.write(producer, PROFILES.name(self.new), place, [(key, kept)])


_AccountOf = Callable[[ConsumerRecord], str | None]


def _account_of_request(record: ConsumerRecord) -> str | None:
    try:
        return None if record.value is None else decode_request(record.value).account
    except UnreadableError:
        return None  # set aside where it arrives


def _account_of_feedback(record: ConsumerRecord) -> str | None:
    return None if record.key is None else record.key.decode("utf-8", "replace")


def next_steps(new: Settings) -> Iterator[str]:
    """What remains to be done by hand after the transfer."""
    yield f"start the workers with {PREFIX}TOPIC_PREFIX={new.topic_prefix} {PREFIX}PARTITIONS={new.partitions}"
    yield f"restart gateways and other producers with {PREFIX}TOPIC_PREFIX={new.topic_prefix}, one after the other"
    yield "meanwhile run the same command with --follow: it copies what still comes to the old topic"
