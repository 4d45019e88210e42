"""Stages: what each step of the pipeline costs, in memory and without Kafka."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from rich.table import Table

import streams.batch
import streams.pipeline
from gateway.request import decoder, encode
from sinks.policy import Policy
from streams.pipeline import Pipeline
from streams.replay import Recorded

from .stopwatch import Stopwatch
from .traffic import Traffic

NEWEST_AT: Final = 1_790_000_000_000

FUNCTIONS: Final = (
    ("decode", streams.pipeline, ("read",)),
    ("columns", streams.batch, ("_columns",)),
    ("profiles", streams.pipeline, ("observe",)),
    ("features", streams.pipeline, ("features", "matrix")),
    ("evidence", streams.pipeline, ("evidence",)),
)
"""What the pipeline calls, by stage. A name that is gone fails at once, so this list cannot go stale."""

STAGES: Final = (
    *("decode", "columns", "repeats", "profiles", "features", "evidence", "detectors", "decide", "typical", "the rest"),
)


class Stage(msgspec.Struct, frozen=True):
    """One stage: CPU microseconds for each request."""

    name: str
    us: float


def records_of(traffic: Traffic, first_offset: int = 0) -> list[Recorded]:
    """The traffic as one partition's raw records."""
    return [Recorded(None, encode(one), offset, one.at) for offset, one in enumerate(traffic, first_offset)]


def cut(records: Sequence[Recorded], chunk: int) -> list[Sequence[Recorded]]:
    """Micro-batches of `chunk` records."""
    return [records[start : start + chunk] for start in range(0, len(records), chunk)]


def stages(warm: Sequence[Recorded], measured: Sequence[Recorded], chunk: int) -> list[Stage]:
    """Feed one pipeline `warm`, then time every stage while it takes `measured`, `chunk` records at a time.

    The last two stages returned are the whole and the bare decode of the same bytes.
    """
    pipeline = Pipeline(Policy.load())
    for batch in cut(warm, chunk):
        pipeline.process(batch)
    stopwatch = Stopwatch()
    whole, bare = stopwatch.timed(pipeline.process, "the rest"), 0.0
    originals = [(owner, name, getattr(owner, name)) for _, owner, names in FUNCTIONS for name in names]
    try:
        for stage, owner, names in FUNCTIONS:
            for name in names:
                stopwatch.watch(owner, name, stage)
        for stage, of_pipeline, name in (
            ("repeats", pipeline._repeats, "first_seen"),
            ("profiles", pipeline.profiles, "rows"),
            ("profiles", pipeline.profiles, "put"),
            ("evidence", pipeline, "_score"),
            ("detectors", pipeline._learned, "tails"),
            ("detectors", pipeline, "_learn"),
            ("decide", pipeline, "_decide"),
            ("decide", pipeline, "expire"),
            ("typical", pipeline.typical, "look"),
        ):
            stopwatch.watch(of_pipeline, name, stage)
        for batch in cut(measured, chunk):
            whole(batch)
            started = time.process_time()
            _decoded = [decoder.decode(record.value or b"") for record in batch]
            bare += time.process_time() - started
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
    each = 1e6 / len(measured)
    found = [Stage(name, stopwatch.seconds[name] * each) for name in STAGES]
    return [*found, Stage("whole", sum(part.us for part in found)), Stage("bare decode", bare * each)]


def table(found: Sequence[Stage]) -> Table:
    """The stages for a person to read."""
    *parts, whole, bare = found
    shown = Table("stage", title="CPU for each request", title_justify="left")
    shown.add_column("µs", justify="right")
    shown.add_column("share", justify="right")
    for part in parts:
        shown.add_row(part.name, f"{part.us:.2f}", f"{part.us / whole.us:.0%}")
    shown.add_section()
    shown.add_row("whole", f"{whole.us:.2f}", f"{1e6 / whole.us:,.0f}/s")
    shown.add_row("bare decode", f"{bare.us:.2f}", f"{bare.us / whole.us:.0%}")
    return shown
