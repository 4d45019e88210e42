"""Faust as shipped: one table increment an event, state in memory."""

import os

import faust
from faust.types import StreamT

from gateway.request import decoder

from ..contest import Meter, task

told = task()
meter = Meter(told)
app = faust.App(
    told.group,
    broker=f"kafka://{told.brokers}",
    store="memory://",
    topic_partitions=told.partitions,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=told.session_seconds,
    topic_disable_leader=True,
    datadir=told.folder,
    web_enabled=False,
)
requests = app.topic(told.topic, key_serializer="raw", value_serializer="raw")
counts = app.Table("counts", key_type=str, value_type=int, default=int, partitions=told.partitions)


@app.agent(requests)
async def count(stream: StreamT[bytes]) -> None:
    """Count requests by account."""
    async for value in stream:
        meter.begin()
        counts[decoder.decode(value).account] += 1
        if meter.add(1):
            os._exit(0)  # Faust has no short way out of an agent.


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
