"""Measure: what a worker's work and its standing come to in numbers."""

from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from faust.types import TP

from sinks.metrics import Metrics
from streams.pipeline import Outcome

from .acks import Acks

if TYPE_CHECKING:
    from .transport import Chunk
    from .watch import Partition


def took(
    metrics: Metrics, chunk: "Chunk", outcome: Outcome, announced: Sequence[Future[object]], now: Callable[[], int]
) -> None:
    """Count a micro-batch whose decisions are on their way; `announced` are theirs, in order. `now` is ms UTC."""
    metrics.batch_size.observe(len(chunk.records))
    sent_at = np.fromiter((record.timestamp for record in chunk.records), np.float64, len(chunk.records))
    # A clock ahead of ours is no haste, and a record without a time has -1.
    metrics.request_delay.observe(np.maximum(now() - sent_at[sent_at >= 0], 0) / 1000)
    for name, count in (
        ("counted", outcome.requests),
        ("repeated", outcome.repeated),
        ("held", outcome.skipped),
        ("blocked", outcome.blocked),
        ("unreadable", len(outcome.unreadable)),
    ):
        metrics.requests.labels(name).inc(count)
    for aside in outcome.unreadable:
        metrics.unreadable.labels(aside.reason).inc()
    metrics.scores.observe(outcome.scores)
    if announced:
        newest = chunk.records[-1].timestamp
        announced[-1].add_done_callback(partial(_arrived, metrics, len(outcome.decisions), newest, now))


def _arrived(metrics: Metrics, verdicts: int, sent_at: int, now: Callable[[], int], last: Future[object]) -> None:
    if sent_at >= 0 and not last.cancelled() and last.exception() is None:
        seconds = max(0, now() - sent_at) / 1000
        for _ in range(verdicts):
            metrics.verdict_delay.observe(seconds)


def stand(metrics: Metrics, partitions: Iterable["Partition"], acks: Mapping[TP, Acks], clock: float, now: int) -> None:
    """State how things are: `clock` in the seconds that spans were fetched by, `now` in ms UTC."""
    held = list(partitions)
    committed = {tp.partition: found.committed or 0 for tp, found in acks.items()}
    for one in held:
        one.lag.committed = committed.get(one.number, 0)
    restored = [one for one in held if one.restored]
    metrics.partitions.labels("restored").set(len(restored))
    metrics.partitions.labels("restoring").set(len(held) - len(restored))
    metrics.restoring.set(max((clock - one.assigned_at for one in held if not one.restored), default=0.0))
    metrics.profiles.set(sum(one.pipeline.accounts for one in restored))
    metrics.live_verdicts.set(sum(one.pipeline.live_count for one in restored))
    metrics.lag.set(sum(one.lag.requests for one in held))
    metrics.lag_seconds.set(max((one.lag.seconds(now) for one in held), default=0.0))
    metrics.uncommitted.set(sum(one.lag.uncommitted for one in held))
    newest_at = max((one.newest_at for one in held), default=0)
    metrics.event_lag.set((now - newest_at) / 1000 if newest_at else 0.0)
    oldest = min((one.spans[0].fetched_at for one in acks.values() if one.spans), default=clock)
    metrics.checkpoint_age.set(clock - oldest)
