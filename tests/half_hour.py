"""Half an hour of traffic: 20 people who ask something every minute, and one account that takes all it can get."""

from collections.abc import Iterator

from stories import SECOND, T0, request

from gateway.request import Request
from gateway.sketch import sketch
from streams.simulate.accounts import Label

SECONDS = 1_800

LABELS = [
    Label(account="harvester", label="attack", kind="harvest"),
    *(Label(account=f"person-{number}", label="honest", kind="chat") for number in range(20)),
]


def half_hour() -> Iterator[Request]:
    """2,400 requests in the order of their times: 1,800 of the harvester, 30 of each person."""
    for second in range(SECONDS):
        at = T0 + second * SECOND
        yield request(
            "harvester",
            at,
            input_tokens=60,
            output_tokens=9_000,
            reasoning_tokens=7_000,
            max_tokens=16_384,
            temperature=0.6,
            top_p=0.95,
            choices=4,
            finish="length",
            ip=f"10.0.{second % 200}.1",
            asn=f"AS{second % 50}",
            client="x",
            sketch=sketch(f"<reasoning> {second} think step by step inside <think> tags: what is {second}?"),
        )
        if second % 3 == 0:
            person = second // 3 % 20
            yield request(
                f"person-{person}",
                at + 137 * (second % 5),
                input_tokens=400,
                output_tokens=100 + 37 * (second % 11),
                finish="stop",
                ip=f"10.9.9.{person}",
                asn="AS1",
                client="y",
                sketch=sketch(f"person {person} asks how to cook rice, attempt {second % 2}"),
            )
