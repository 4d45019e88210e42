"""Requests and records for tests, with everything that a story does not mention left at a plain default."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from gateway.request import Request, Sketch, encode

T0 = 1_767_225_600_000
"""2026-01-01 00:00 UTC, a Thursday."""

SECOND, MINUTE, HOUR, DAY, WEEK = 1_000, 60_000, 3_600_000, 86_400_000, 604_800_000


class Raw(NamedTuple):
    """A record as a consumer would hand it over."""

    value: bytes | None
    offset: int = 0
    key: bytes | None = None
    timestamp: int = -1


def request(account: str = "ada", at: int = T0, **fields: object) -> Request:
    """A readable request: 100 tokens in, 50 out."""
    given = {"id": f"{account}-{at}", "model": "m", "input_tokens": 100, "output_tokens": 50, **fields}
    return msgspec.convert({"account": account, "at": at, **given}, Request)


def sketch(prompt: int = 0, system: int | None = None, axis: int = 0, cues: Sequence[str] = ()) -> Sketch:
    """A sketch whose topic points along one axis; prompts with another number share nothing."""
    return Sketch(
        v=1,
        system=None if system is None else f"{system:016x}",
        prefix=f"{prompt:016x}",
        bands=tuple(prompt * 8 + band for band in range(8)),
        topic=bytes(127 if dimension == axis else 0 for dimension in range(64)),
        chars=80,
        cues=tuple(cues),
    )


def records(requests: Iterable[Request], first_offset: int = 0) -> list[Raw]:
    """The requests as raw records, one offset after the other."""
    return [Raw(encode(one), offset, one.account.encode(), one.at) for offset, one in enumerate(requests, first_offset)]
