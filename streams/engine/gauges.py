"""Gauges: how a worker stands, in numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from faust.types import TP

from sinks.metrics import Metrics

from .acks import Acks
from .links import LinksPartition
from .partition import Partition
from .requests import RequestsPartition

Held: TypeAlias = Partition[Any]
"""A partition of any topic."""


def stand(metrics: Metrics, partitions: Mapping[TP, Held], acks: Mapping[TP, Acks], clock: float, now: int) -> None:
    """State how things are: `clock` in the seconds that spans were fetched by, `now` in ms UTC."""
    held = list(partitions.values())
    for tp, one in partitions.items():
        one.lag.committed = (acks[tp].committed or 0) if tp in acks else 0
    waiting = [one for one in held if not one.restored]
    metrics.partitions.labels("restored").set(len(held) - len(waiting))
    metrics.partitions.labels("restoring").set(len(waiting))
    metrics.restoring.set(max((clock - one.assigned_at for one in waiting), default=0.0))
    _requests(metrics, [one for one in held if isinstance(one, RequestsPartition)], now)
    _links(metrics, [one for one in held if isinstance(one, LinksPartition)], now)
    oldest = min((one.spans[0].fetched_at for one in acks.values() if one.spans), default=clock)
    metrics.checkpoint_age.set(clock - oldest)


def _requests(metrics: Metrics, held: Sequence[RequestsPartition], now: int) -> None:
    metrics.profiles.set(sum(one.memory.accounts for one in held if one.restored))
    metrics.live_verdicts.set(sum(one.memory.live_count for one in held if one.restored))
    metrics.braked.set(sum(one.memory.braked for one in held if one.restored))
    shares = [one.memory.crowd_share for one in held if one.restored]
    metrics.unverified_budgets.set(sum(shares) / max(len(shares), 1))
    metrics.lag.set(sum(one.lag.records for one in held))
    metrics.lag_seconds.set(max((one.lag.seconds(now) for one in held), default=0.0))
    metrics.uncommitted.set(sum(one.lag.uncommitted for one in held))
    newest_at = max((one.newest_at for one in held), default=0)
    metrics.event_lag.set((now - newest_at) / 1000 if newest_at else 0.0)


def _links(metrics: Metrics, held: Sequence[LinksPartition], now: int) -> None:
    metrics.acquaintances.set(sum(one.memory.accounts for one in held if one.restored))
    metrics.campaigns.set(sum(one.memory.campaigns for one in held if one.restored))
    metrics.links_lag.set(sum(one.lag.records for one in held))
    metrics.links_lag_seconds.set(max((one.lag.seconds(now) for one in held), default=0.0))
