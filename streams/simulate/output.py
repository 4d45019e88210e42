"""Output: a stream written to a file, with the truth beside it."""

import gzip
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import msgspec
import zstandard

from .accounts import Label
from .stream import Stream

_ENDINGS: Final = (".gz", ".zst", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: sizes in bytes, `plain` before compression, times in ms UTC (0 where nothing was sent)."""

    requests: int
    accounts: int
    plain: int
    first_at: int
    last_at: int
    labels: Path


def labels_path(out: Path) -> Path:
    """The label file of an output: `x.jsonl.zst` has `x.labels.jsonl` beside it."""
    name = out.name
    while name.endswith(_ENDINGS):
        name = name.rpartition(".")[0]
    return out.with_name(f"{name}.labels.jsonl")


def write(stream: Stream, out: Path, *, progress: Callable[[int], None] = lambda _: None) -> Written:
    """Writes a stream as JSON lines, compressed if `out` ends in .gz or .zst, and its labels beside it.

    Equal streams give equal bytes. `progress` is told the number of requests of each batch. OSError where the
    file cannot be written.
    """
    encoder = msgspec.json.Encoder()
    requests = plain = last_at = first_at = 0
    with ExitStack() as stack:
        file = _opened(out, stack)
        for batch in stream.batches():
            lines = encoder.encode_lines(batch)
            file.write(lines)
            first_at = first_at or batch[0].at
            last_at = batch[-1].at
            requests += len(batch)
            plain += len(lines)
            progress(len(batch))
    labels = write_labels(stream.labels, out)
    return Written(requests, len(stream.labels), plain, first_at, last_at, labels)


def write_labels(labels: Iterable[Label], out: Path) -> Path:
    """Writes one label a line into the label file of `out` and returns its path."""
    path = labels_path(out)
    path.write_bytes(msgspec.json.Encoder().encode_lines(labels))
    return path


def _opened(out: Path, stack: ExitStack) -> IO[bytes]:
    file: IO[bytes] = stack.enter_context(out.open("wb"))
    if out.name.endswith(".gz"):
        # No name and no time in the header: equal streams give equal files.
        zipped = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=5, mtime=0)
        stack.callback(zipped.close)
        return cast(IO[bytes], zipped)
    if out.name.endswith(".zst"):
        return stack.enter_context(zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False))
    return file
