"""Audit: every decision as a record that cannot be changed unnoticed."""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from gateway.feedback import encode as encode_feedback
from gateway.verdict import encode
from sinks.policy import Decision

GENESIS: Final = "0" * 64
"""What the first record of a writer names as its previous one."""

_SEAL: Final = re.compile(rb'^(\{.*),"hash":"([0-9a-f]{64})"\}\s*$', re.DOTALL)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says beside its own hash.

    `writer` names one chain (a partition in one run of a worker), `number` counts its records from 1,
    `previous` is the hash of the record before it. Verdict and feedback stay raw here: a chain outlives the shape of
    what it holds.
    """

    writer: str
    number: int
    previous: str
    verdict: msgspec.Raw
    feedback: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What somebody said that led to the verdict; absent when the detector came to it by itself."""


class Chain:
    """The records of one writer, each sealed with a BLAKE2b hash over its bytes and the hash before it.

    It shows that a record was changed, taken out, added or moved. It does not show that the end was cut off,
    or that somebody who may write the topic wrote the whole chain anew: keep the newest `hash` somewhere
    else for that.
    """

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.number = 0
        self.hash = GENESIS

    def append(self, decision: Decision) -> bytes:
        """The next record: one JSON object, no line end. The end of a verdict is recorded as `allow`."""
        self.number += 1
        verdict = msgspec.Raw(encode(decision.verdict))
        feedback = msgspec.UNSET if decision.feedback is None else msgspec.Raw(encode_feedback(decision.feedback))
        entry = Entry(writer=self.writer, number=self.number, previous=self.hash, verdict=verdict, feedback=feedback)
        body = msgspec.json.encode(entry)
        self.hash = _hash(body)
        return body[:-1] + b',"hash":"' + self.hash.encode() + b'"}'


def verify(records: Iterable[bytes], *, from_start: bool = True) -> int | None:
    """The index of the first record that does not belong where it stands, or None when all hold.

    Writers may be interleaved, as on a topic. With `from_start=False` each chain may begin anywhere, for a
    topic whose oldest records have aged out.
    """
    last: dict[str, tuple[int, str]] = {}
    for index, record in enumerate(records):
        seal = _SEAL.match(record)
        if seal is None:
            return index
        body = seal[1] + b"}"
        digest = seal[2].decode()
        try:
            entry = msgspec.json.decode(body, type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return index
        if _hash(body) != digest:
            return index
        number, previous = last.get(entry.writer, (0, GENESIS))
        unseen = number == 0 and not from_start
        if not unseen and (entry.number, entry.previous) != (number + 1, previous):
            return index
        last[entry.writer] = (entry.number, digest)
    return None


def _hash(body: bytes) -> str:
    return blake2b(body, digest_size=32, person=b"stillwatch.audit").hexdigest()
