"""Bare: records as aiokafka has unpacked them, without the dataclass of eleven fields that it makes of each.

To make that dataclass costs more than half of what it takes to unpack a request, and nobody here looks at what it adds.
aiokafka has no setting for it. All else about a fetch stays its own: checksums, offsets, what a rebalance drops. Should
it no longer keep what was fetched in `_records`, records come wrapped, as they would without this.
"""

from collections import OrderedDict
from collections.abc import Container

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult

from streams.batch import Record


class _Fetched(OrderedDict[TopicPartition, FetchResult | FetchError]):
    """What was fetched and nobody has taken yet. Records are made when they are taken: here is the time to say how."""

    def __init__(self, topics: Container[str]) -> None:
        super().__init__()
        self._topics = topics

    def __setitem__(self, tp: TopicPartition, result: FetchResult | FetchError) -> None:
        if tp.topic in self._topics and isinstance(result, FetchResult):
            result._partition_records._consumer_record = _as_it_is
        super().__setitem__(tp, result)


def _as_it_is(_: TopicPartition, record: Record) -> Record:
    return record


def make_bare(consumer: AIOKafkaConsumer, topics: Container[str]) -> None:
    """Let a consumer give bare records of these topics. Call it when it has started and has no partitions yet."""
    consumer._fetcher._records = _Fetched(topics)
