"""Bytewax: a count for each account, state in memory."""

from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
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
    read = op.input("requests", flow, KafkaSource(told.brokers.split(","), [told.topic], tail=False))
    op.output("nowhere", op.stateful_flat_map("count", op.map("account", read, by_account), count), TestingSink([]))
    cli_main(flow, workers_per_process=1)
