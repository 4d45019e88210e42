"""Quix Streams: a count for each account, as its documentation writes it."""

from quixstreams import Application, State

from gateway.request import Request, decoder

from ..contest import Meter, task

told = task()
meter = Meter(told)

if __name__ == "__main__":
    app = Application(
        broker_address=told.brokers,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        state_dir=told.folder,
        loglevel="WARNING",
    )
    topic = app.topic(told.topic, key_deserializer="str", value_deserializer="bytes")

    def decode(value: bytes) -> Request:
        """Read one request."""
        meter.begin()
        return decoder.decode(value)

    def count(_: Request, state: State[str, int]) -> int:
        """Count it for its account, which is its key."""
        requests: int = state.get("requests", 0) + 1
        state.set("requests", requests)
        if meter.add(1):
            app.stop()
        return requests

    app.run(app.dataframe(topic).apply(decode).apply(count, stateful=True))
