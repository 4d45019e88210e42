"""A bare aiokafka consumer that decodes every request: what any Python program pays at least."""

import asyncio

import aiokafka

from gateway.request import decoder

from ..contest import Meter, Task, task


async def consume(told: Task) -> None:
    """Read and decode to the end."""
    meter = Meter(told)
    consumer = aiokafka.AIOKafkaConsumer(
        told.topic,
        bootstrap_servers=told.brokers,
        group_id=told.group,
        auto_offset_reset="earliest",
        session_timeout_ms=int(told.session_seconds * 1_000),
    )
    await consumer.start()
    done = False
    while not done:
        polled = await consumer.getmany(timeout_ms=1_000)
        for records in polled.values():
            meter.begin()
            for record in records:
                decoder.decode(record.value)
            done = meter.add(len(records)) or done
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(consume(task()))
