"""Partitioner: where Kafka's own partitioner puts a key."""

from aiokafka.partitioner import murmur2  # pure Python and slow: ask once for each key


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, of so many: murmur2 without its sign, modulo the partitions."""
    place: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return place
