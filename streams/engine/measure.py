"""Measure: what a worker's work comes to in numbers."""

from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sinks.metrics import UNVERIFIED, Metrics
from streams.pipeline import Outcome

from .transport import Chunk


def took(
    metrics: Metrics, chunk: Chunk, outcome: Outcome, announced: Sequence[Future[object]], now: Callable[[], int]
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
    for amount, served in zip(UNVERIFIED, outcome.unverified.tolist(), strict=True):
        metrics.unverified.labels(amount).inc(served)
    if announced:
        newest = chunk.records[-1].timestamp
        announced[-1].add_done_callback(partial(_arrived, metrics, len(outcome.decisions), newest, now))


def _arrived(metrics: Metrics, verdicts: int, sent_at: int, now: Callable[[], int], last: Future[object]) -> None:
    if sent_at >= 0 and not last.cancelled() and last.exception() is None:
        seconds = max(0, now() - sent_at) / 1000
        for _ in range(verdicts):
            metrics.verdict_delay.observe(seconds)
