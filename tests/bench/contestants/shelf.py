"""Shelf: what a profile takes in memory, how fast profiles are restored, and what a request costs among so many."""

import os
import time
from pathlib import Path

from sinks.policy import Policy
from streams.commands.process import settle
from streams.pipeline import Pipeline

from ..contest import Report, Task, peak_mb, report, task
from ..stages import NEWEST_AT, cut, records_of
from ..traffic import DAY_MS, Traffic

RESTORED_AT_ONCE = 50_000
YESTERDAY = 20_000
MOST_MEASURED = 60_000
CHUNK = 2_000


class Shelf(Report, frozen=True, kw_only=True):
    """So many profiles in one pipeline."""

    profiles: int
    bytes_each: float
    """Growth of the process's memory for each profile, its name and its place in the index included."""
    restored_per_s: float
    us_per_request: float
    """CPU microseconds for a request to one of these accounts, drawn from a Zipf law."""


def shelf(told: Task) -> Shelf:
    """Restore so many profiles, the real ones of yesterday's accounts under other names, and go on with today's."""
    policy = Policy.load()
    yesterday = Pipeline(policy)
    yesterday.process(records_of(Traffic(YESTERDAY, NEWEST_AT - DAY_MS)))
    stored = [row for _, row in yesterday.snapshot_dirty()]
    pipeline = Pipeline(policy)
    before, spent, began_at = memory(), 0.0, time.time()
    for start in range(0, told.records, RESTORED_AT_ONCE):
        numbers = range(start, min(start + RESTORED_AT_ONCE, told.records))
        rows = [(f"acct-{number:07d}", stored[number % len(stored)]) for number in numbers]
        started = time.perf_counter()
        pipeline.restore(rows)
        spent += time.perf_counter() - started
    grown = memory() - before
    # Offsets go on where yesterday's end, or the profiles would know these requests already.
    half = min(MOST_MEASURED, 2 * told.records)
    today = records_of(Traffic(2 * half, NEWEST_AT, accounts=told.records), first_offset=YESTERDAY)
    for batch in cut(today[:half], CHUNK):
        pipeline.process(batch)
    started = time.process_time()
    for batch in cut(today[half:], CHUNK):
        pipeline.process(batch)
    return Shelf(
        peak_mb=peak_mb(),
        began_at=began_at,
        profiles=told.records,
        bytes_each=grown / told.records,
        restored_per_s=told.records / spent,
        us_per_request=(time.process_time() - started) / half * 1e6,
    )


def memory() -> float:
    """Bytes this process holds; where the system does not say, the most it ever held."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_mb() * 1e6


if __name__ == "__main__":
    settle()
    TOLD = task()
    report(TOLD, shelf(TOLD))
