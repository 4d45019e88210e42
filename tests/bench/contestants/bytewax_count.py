"""Bytewax: a count for each account, state in memory."""

from typing import cast

from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow, Stream
from bytewax.run import cli_main
from bytewax.testing import TestingSink

from gateway.request import Request, decoder

from ..contest import Meter, task

told = task()
meter = Meter(told)


def by_account(message: KafkaSourceMessage[bytes, bytes]) -> tuple[str, Request]:
    """Read one request."""
    meter.begin()
    request = decoder.decode(message.value)
    return request.account, request


def count(requests: int | None, _: Request) -> tuple[int, tuple[()]]:
    """Count it; nothing is passed on, for whatever comes next would cost extra."""
    meter.add(1)
    return (requests or 0) + 1, ()


if __name__ == "__main__":
    flow = Dataflow("bench")
    source = KafkaSource(told.brokers.split(","), [told.topic], tail=False)
    # Its errors are raised, and our messages have keys and values.
    read = cast(Stream[KafkaSourceMessage[bytes, bytes]], op.input("requests", flow, source))
    op.output("nowhere", op.stateful_flat_map("count", op.map("account", read, by_account), count), TestingSink([]))
    cli_main(flow, workers_per_process=1)  # type: ignore[no-untyped-call]
