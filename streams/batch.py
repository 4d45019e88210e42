"""Batch: a micro-batch of requests as columns; what cannot be read is set aside with its reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, repeat
from typing import Any, Final, NamedTuple, Protocol, cast
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.request import (
    BLOCKED,
    EARLIEST_AT,
    FAILURES,
    MAX_AHEAD_MS,
    MAX_BYTES,
    Request,
    Sketch,
    UnreadableError,
    check_at,
    decode,
    decoder,
    wrong_digits,
)
from gateway.sketch import sketch_many
from models.detector import BoolVector, FloatVector, IntVector

from .distinct import Hashes, mix

CUES: Final = (("reasoning",), ("inline_tags",), ("rationale",), ("rubric", "judge"))
"""The cues that signals read: any of these names sets its column of `Batch.cues`."""


PIECE: Final = 500
"""Records decoded before their columns are made: the processor's cache still has what they were decoded to."""

MOST_SUMS: Final = 65_536
"""Values whose hash is remembered."""

TOPIC_SIZE: Final = 64
_NO_HASH: Final = "0" * 16
_FINISH: Final = {"length": 1, "refusal": 2, BLOCKED: 3}


class Record(Protocol):
    """One raw message: aiokafka's ConsumerRecord fits."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """The broker's time in ms; -1 when there was no broker."""


class SetAside(NamedTuple):
    """A record that cannot be read: its reason (a word of `gateway.request.REASONS`) and a sentence for a person."""

    record: Record
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Readable requests of one partition as columns of equal length, in the order they came.

    Counts and tokens are float64. In `opened_at`, `max_tokens`, `turns` and the like NaN means absent. What is
    only told apart (addresses, clients, prompts) is a 64-bit hash; 0 means absent.
    """

    ids: tuple[str, ...]
    accounts: tuple[str, ...]
    models: tuple[str, ...]
    offsets: IntVector
    at: IntVector
    input_tokens: FloatVector
    output_tokens: FloatVector
    reasoning_tokens: FloatVector
    opened_at: FloatVector
    max_tokens: FloatVector
    turns: FloatVector
    tools: FloatVector
    choices: FloatVector
    top_logprobs: FloatVector
    status: FloatVector
    finish_length: BoolVector
    finish_refusal: BoolVector
    blocked: BoolVector
    """What our own verdicts kept from being served."""
    address: Hashes
    block: Hashes
    """The address block: the first 24 bits of an IPv4 address, 48 of an IPv6 one; any other text whole."""
    network: Hashes
    client: Hashes
    settings: Hashes
    org: Hashes
    payment: Hashes
    system: Hashes
    prefix: Hashes
    band: Hashes
    text: Hashes
    """The prompt's last message as a whole, by its beginning, topic vector and length."""
    plan: Hashes
    model: Hashes
    sketched: IntVector
    """Positions of the requests that carry a sketch; the next two have one row for each of them."""
    topic: npt.NDArray[np.int8]
    cues: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.accounts)

    def keep(self, mask: BoolVector) -> "Batch":
        """The requests where `mask` is true, all columns together."""
        if mask.all():
            return self
        kept: dict[str, Any] = {}  # every column keeps its own type
        of_sketches = mask[self.sketched]
        for name in self.__slots__:
            column = getattr(self, name)
            if name == "sketched":
                kept[name] = (np.cumsum(mask) - 1)[column[of_sketches]]
            elif name in ("topic", "cues"):
                kept[name] = column[of_sketches]
            elif isinstance(column, tuple):
                kept[name] = tuple(compress(column, mask.tolist()))
            else:
                kept[name] = column[mask]
        return replace(self, **kept)


def read(records: Sequence[Record]) -> tuple[Batch | None, list[SetAside]]:
    """Decode a micro-batch: its readable requests as columns (None when there are none), the others set aside.

    One decoding pass where all is well; where it is not, each record stands on its own and costs its neighbours
    nothing. Records without a value (tombstones) are skipped.
    """
    aside: list[SetAside] = []
    pieces = [_read(records[start : start + PIECE], aside) for start in range(0, len(records), PIECE)]
    return _joined([piece for piece in pieces if piece is not None]), aside


def _read(records: Sequence[Record], aside: list[SetAside]) -> Batch | None:
    held = [record for record in records if record.value is not None]
    values = [record.value or b"" for record in held]
    try:
        if values and max(map(len, values)) > MAX_BYTES:
            raise msgspec.DecodeError
        requests = list(map(decoder.decode, values))
        if wrong_digits(requests):
            raise msgspec.DecodeError
    except FAILURES:
        requests, held = _read_singly(held, aside)
    at = np.array([request.at for request in requests], dtype=np.int64)
    broker_at = np.array([record.timestamp for record in held], dtype=np.int64)
    timely = (at >= EARLIEST_AT) & ((broker_at < 0) | (at <= broker_at + MAX_AHEAD_MS))
    for position in np.flatnonzero(~timely).tolist():
        error = check_at(int(at[position]), int(broker_at[position]))
        if error is not None:
            aside.append(SetAside(held[position], error.reason, str(error)))
    if not timely.all():
        requests, held, at = list(compress(requests, timely)), list(compress(held, timely)), at[timely]
    return _columns(requests, at, held) if requests else None


def _joined(pieces: Sequence[Batch]) -> Batch | None:
    """Pieces of one micro-batch, one after the other."""
    if len(pieces) < 2:
        return pieces[0] if pieces else None
    joined: dict[str, Any] = {}  # every column keeps its own type
    for name in Batch.__slots__:
        columns: list[Any] = [getattr(piece, name) for piece in pieces]
        if isinstance(columns[0], tuple):
            joined[name] = tuple(chain.from_iterable(columns))
        else:
            joined[name] = np.concatenate(columns)
    first = np.cumsum([0, *map(len, pieces)])
    joined["sketched"] += np.repeat(first[:-1], [len(piece.sketched) for piece in pieces])
    return Batch(**joined)


def _read_singly(records: Sequence[Record], aside: list[SetAside]) -> tuple[list[Request], list[Record]]:
    requests, held = [], []
    for record in records:
        try:
            requests.append(decode(record.value or b""))
            held.append(record)
        except UnreadableError as error:
            aside.append(SetAside(record, error.reason, str(error)))
    return requests, held


def _columns(requests: Sequence[Request], at: IntVector, records: Sequence[Record]) -> Batch:
    column = _transposed(Request, requests)

    def numbers(name: str) -> FloatVector:
        return _numbers(column[name])

    max_tokens, choices = numbers("max_tokens"), numbers("choices")
    finish = np.array([_FINISH.get(word, 0) for word in column["finish"]], dtype=np.int8)
    sketches = _sketches(column["sketch"], column["text"], column["instructions"])
    sketched = np.array([position for position, sketch in enumerate(sketches) if sketch is not None], dtype=np.int64)
    told = _transposed(Sketch, [sketch for sketch in sketches if sketch is not None])

    prefix = _hex(told["prefix"])

    def of_sketches(hashes: Hashes) -> Hashes:
        spread = np.zeros(len(requests), dtype=np.uint64)
        spread[sketched] = hashes
        return spread

    # Two prompts share the first LSH band when most of their word shingles agree; 0 is a prompt without words.
    band = np.array([bands[0] for bands in told["bands"]], dtype=np.uint64)
    # Behind an equal beginning a word more or less moves the topic vector or the length.
    text = _mixed(prefix) ^ (
        np.array([crc32(topic) for topic in told["topic"]], dtype=np.uint64) + _above(told["chars"])
    )
    hashes = _all_mixed(
        address=_sums(column["ip"]),
        block=_known_sums(_BLOCKS, column["ip"]),
        network=_known_sums(_WORDS, column["asn"]),
        client=_known_sums(_WORDS, column["client"]),
        org=_known_sums(_WORDS, column["org"]),
        payment=_known_sums(_WORDS, column["payment"]),
        system=of_sketches(_hex(told["system"])),
        prefix=of_sketches(prefix),
        band=of_sketches(band),
        text=of_sketches(text),
        plan=_known_sums(_WORDS, column["plan"]),
        model=_known_sums(_WORDS, column["model"]),
    )
    return Batch(
        ids=column["id"],
        accounts=column["account"],
        models=column["model"],
        offsets=np.array([record.offset for record in records], dtype=np.int64),
        at=at,
        input_tokens=numbers("input_tokens"),
        output_tokens=numbers("output_tokens"),
        reasoning_tokens=numbers("reasoning_tokens"),
        opened_at=numbers("opened_at"),
        max_tokens=max_tokens,
        turns=numbers("turns"),
        tools=numbers("tools"),
        choices=choices,
        top_logprobs=numbers("top_logprobs"),
        status=numbers("status"),
        finish_length=finish == _FINISH["length"],
        finish_refusal=finish == _FINISH["refusal"],
        blocked=finish == _FINISH[BLOCKED],
        settings=_hashed_rows(np.stack((max_tokens, numbers("temperature"), numbers("top_p"), choices))),
        sketched=sketched,
        topic=np.frombuffer(b"".join(told["topic"]), dtype=np.int8).reshape(-1, TOPIC_SIZE),
        cues=_cues([cues or () for cues in told["cues"]]),
        **hashes,
    )


def _numbers(column: Sequence[float | None]) -> FloatVector:
    """Numbers with NaN for None. Most columns are all there or all absent: both are read faster than a mixture."""
    absent = column.count(None)
    if absent == len(column):
        return np.full(len(column), np.nan)
    if absent:
        return np.array(column, dtype=np.float64)
    return np.fromiter(cast(Sequence[float], column), dtype=np.float64, count=len(column))


def _transposed(kind: type[msgspec.Struct], structs: Sequence[msgspec.Struct]) -> dict[str, tuple[Any, ...]]:
    """The fields of equal structs as columns by name. C all the way: about 15 ns a field."""
    columns = zip(*map(msgspec.structs.astuple, structs), strict=True) if structs else repeat(())
    return dict(zip(kind.__struct_fields__, columns, strict=False))


def _sketches(
    sketches: Sequence[Sketch | None], texts: Sequence[str | None], instructions: Sequence[str | None]
) -> Sequence[Sketch | None]:
    """The sketch of each request; raw text, where a deployment sends it, is sketched here and goes no further."""
    raw = [
        i for i, (sketch, text) in enumerate(zip(sketches, texts, strict=True)) if sketch is None and text is not None
    ]
    if not raw:
        return sketches
    filled = list(sketches)
    made = sketch_many([texts[i] or "" for i in raw], [instructions[i] for i in raw])
    for position, sketch in zip(raw, made, strict=True):
        filled[position] = sketch
    return filled


def _above(lengths: Sequence[int]) -> Hashes:
    """Lengths moved above 32 bits."""
    return np.array(lengths, dtype=np.uint64) << np.uint64(32)


def _mixed(raw: Hashes) -> Hashes:
    """Every bit spread over all 64; 0, which stands for absent, stays."""
    return np.where(raw == 0, np.uint64(0), mix(raw))


def _all_mixed(**raw: Hashes) -> dict[str, Hashes]:
    """The same for many columns at once: for 500 values a dozen small steps cost more than all they work on."""
    return dict(zip(raw, _mixed(np.stack(list(raw.values()))), strict=True))


def _sums(column: Sequence[str | None]) -> Hashes:
    """Text by its CRC-32, which tells enough apart to count thousands; 0 is absent."""
    return np.array([0 if value is None else crc32(value.encode()) + 1 for value in column], dtype=np.uint64)


def _block(address: str) -> str:
    head, dot, last = address.rpartition(".")
    return head if dot and last.isdigit() else ":".join(address.split(":", 3)[:3])


class _Known(dict[str | int | None, int]):
    """CRC-32 of values that come again and again. A look-up costs half of what `lru_cache` takes; when full it begins
    anew."""

    def __init__(self, of: Callable[[Any], str]) -> None:
        super().__init__({None: 0})
        self._of = of

    def __missing__(self, value: str | int) -> int:
        if len(self) >= MOST_SUMS:
            self.clear()
            self[None] = 0
        found = self[value] = crc32(self._of(value).encode()) + 1
        return found


_WORDS: Final = _Known(str)
_BLOCKS: Final = _Known(_block)


def _known_sums(known: _Known, column: Sequence[str | int | None]) -> Hashes:
    """The same for a column of values that come again and again."""
    if column.count(None) == len(column):
        return np.zeros(len(column), dtype=np.uint64)
    return np.fromiter(map(known.__getitem__, column), dtype=np.uint64, count=len(column))


def _hashed_rows(numbers: npt.NDArray[np.float64]) -> Hashes:
    """Each column of `numbers` as one hash; absent when all of it is NaN."""
    combined = np.zeros(numbers.shape[1], dtype=np.uint64)
    for row in numbers:
        combined = mix(combined ^ np.where(np.isnan(row), -1.0, row + 0.0).view(np.uint64))
    return np.where(np.isnan(numbers).all(axis=0), np.uint64(0), combined)


def _hex(column: Sequence[str | None]) -> Hashes:
    """64-bit numbers written as 16 hexadecimal digits (the contract has checked them); 0 is absent."""
    digits = bytes.fromhex("".join([value or _NO_HASH for value in column]))
    return np.frombuffer(digits, dtype=">u8").astype(np.uint64)


def _cues(named: Sequence[tuple[str, ...]]) -> npt.NDArray[np.bool_]:
    """Which of CUES each sketch names. Few combinations occur, so each is looked at once a batch."""
    combinations = {names: position for position, names in enumerate(dict.fromkeys(named))}
    table = [[not set(cue).isdisjoint(names) for cue in CUES] for names in combinations]
    return np.array(table, dtype=bool).reshape(-1, len(CUES))[
        np.fromiter((combinations[names] for names in named), dtype=np.int64, count=len(named))
    ]
