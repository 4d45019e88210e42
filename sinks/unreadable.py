"""Unreadable: what came in and could not be read, kept as it came."""

from typing import Protocol, TypeAlias

Headers: TypeAlias = list[tuple[str, bytes]]


class Record(Protocol):
    """A record as the broker gave it. Its bytes are the only evidence of what its producer does wrong."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def offset(self) -> int: ...


def set_aside(
    record: Record, *, reason: str, text: str, topic: str, partition: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers for the unreadable topic: the bytes untouched, why and from where in headers."""
    headers = [
        ("reason", reason.encode()),
        ("text", text.encode("utf-8", "backslashreplace")),
        ("topic", topic.encode()),
        ("partition", str(partition).encode()),
        ("offset", str(record.offset).encode()),
    ]
    return record.key, record.value, headers
