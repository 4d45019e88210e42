"""Snapshot: what a detector has learned, as bytes that outlive the process.

Layout: 8 bytes magic, then as little-endian uint32 the version, the header's length and the CRC-32 of all
that follows; the header (JSON: kind, settings, numbers, and name, type and shape of each array); the arrays'
raw bytes in that order. No pickle: reading runs no code, and foreign, damaged or newer bytes are refused.
"""

import struct
import zlib
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

MAGIC: Final = b"SWATCHML"
VERSION: Final = 1
_PREFIX: Final = struct.Struct("<8sIII")

Setting: TypeAlias = str | int | float | bool | tuple[str, ...] | None
Number: TypeAlias = int | float | bool
Array: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int64] | npt.NDArray[np.uint8]

_TYPES: Final = ("<f8", "<i8", "|u1")


class SnapshotError(ValueError):
    """These bytes are no snapshot that can be restored here; the message says why."""


class State(NamedTuple):
    """All that learning changed: counters and arrays by name."""

    numbers: dict[str, Number]
    arrays: dict[str, Array]


class _Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    type: str
    shape: list[int]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    settings: dict[str, str | int | float | bool | list[str] | None]
    numbers: dict[str, int | float | bool]
    arrays: list[_Column]


_decoder: Final = msgspec.json.Decoder(_Header)


def pack(kind: str, settings: dict[str, Setting], state: State) -> bytes:
    """The snapshot of one detector. Equal states give equal bytes."""
    columns = [_Column(name, array.dtype.str, list(array.shape)) for name, array in state.arrays.items()]
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    header = msgspec.json.encode(_Header(kind, listed, state.numbers, columns))
    body = b"".join([header, *(np.ascontiguousarray(array).tobytes() for array in state.arrays.values())])
    return _PREFIX.pack(MAGIC, VERSION, len(header), zlib.crc32(body)) + body


def unpack(raw: bytes) -> tuple[str, dict[str, Setting], State]:
    """Kind, settings and state of a snapshot. Raises `SnapshotError`."""
    if len(raw) < _PREFIX.size or raw[:8] != MAGIC:
        raise SnapshotError("not a detector's snapshot: the first bytes are not its mark")
    _, version, length, checksum = _PREFIX.unpack_from(raw)
    if version != VERSION:
        raise SnapshotError(f"snapshot of version {version}; this release reads version {VERSION}")
    body = raw[_PREFIX.size :]
    if zlib.crc32(body) != checksum:
        raise SnapshotError("snapshot cut short or damaged: its checksum does not match")
    try:
        header = _decoder.decode(body[:length])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(f"snapshot with an unreadable header: {error}") from error
    arrays: dict[str, Array] = {}
    offset = length
    for column in header.arrays:
        if column.type not in _TYPES or min(column.shape, default=0) < 0:
            raise SnapshotError(f"snapshot array {column.name!r} has type {column.type!r}, shape {column.shape}")
        dtype = np.dtype(column.type)
        count = int(np.prod(column.shape, dtype=np.int64))
        if offset + count * dtype.itemsize > len(body):
            raise SnapshotError(f"snapshot array {column.name!r} is longer than what is there")
        arrays[column.name] = np.frombuffer(body, dtype, count, offset).reshape(column.shape).copy()
        offset += count * dtype.itemsize
    if offset != len(body):
        raise SnapshotError(f"snapshot with {len(body) - offset} bytes after its last array")
    settings: dict[str, Setting] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in header.settings.items()
    }
    return header.kind, settings, State(header.numbers, arrays)
