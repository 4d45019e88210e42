"""`stillwatch simulate`: a labelled stream, into a file or onto Kafka."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .process import asked, settings_in_force
from .terminal import BAD_INPUT, fail

if TYPE_CHECKING:
    from ..simulate.live import Due

LATE: Final = 0.7
"""With --minutes, the share of the day after which attacks begin: verdicts on them still hold when it is over."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write: .jsonl, or .gz or .zst after it.")
@click.option("--rate", type=float, help="Send to Kafka instead, at this many requests a second.")
@click.option(
    "--minutes",
    type=click.FloatRange(0.05, 1_440),
    help="With --rate: a day that ends by then, with its times, in place of one long ago.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed is another stream.")
@click.option(
    "--days", type=click.FloatRange(0, 3_650, min_open=True), help="Event time.  [default: 1, or the recording's]"
)
@click.option("--accounts", type=click.IntRange(0), help="Honest accounts.  [default: 300, or the recording's]")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    help="Attack to include, or none; may be repeated.  [default: harvest, sweep, reasoning]",
)
@click.option(
    "--traces", type=click.Path(path_type=Path), help="Compose honest traffic of the recordings in this folder."
)
def simulate(
    out: Path | None,
    rate: float | None,
    minutes: float | None,
    seed: int,
    days: float | None,
    accounts: int | None,
    scenarios: tuple[str, ...],
    traces: Path | None,
) -> None:
    """Write a labelled stream of honest accounts and attacks, or send it to Kafka.

    The same options give the same bytes. The truth about each account lies beside FILE in FILE.labels.jsonl.
    """
    if (out is None) == (rate is None):
        fail("say either --out FILE or --rate REQUESTS_A_SECOND", BAD_INPUT)
    if minutes is not None and rate is None:
        fail("--minutes needs --rate", BAD_INPUT)
    for name, value in (("--accounts", accounts), ("--days", days), ("--traces", traces)):
        if minutes is not None and value is not None:
            fail(f"{name} does not go with --minutes: it is one day, of as many accounts as make the rate", BAD_INPUT)
    if traces is not None and accounts is not None:
        fail("--accounts does not go with --traces: the recordings say how many there are", BAD_INPUT)

    import time

    from ..simulate.attacks import SCENARIOS
    from ..simulate.families import FAMILIES
    from ..simulate.live import compressed, live, steady
    from ..simulate.output import write
    from ..simulate.recordings import RECORDED_DAYS
    from ..simulate.stream import simulate as simulated
    from ..simulate.traces import recorded

    names = [name for name in scenarios if name != "none"] if scenarios else list(SCENARIOS)
    for name in set(names) - set(FAMILIES):
        fail(f"unknown scenario {name}; known: {', '.join(FAMILIES)}, none", BAD_INPUT)
    try:
        if minutes is not None and rate is not None:
            seconds, now = 60 * minutes, time.time_ns() // 1_000_000 + int(60_000 * minutes)
            today = live(seed, seconds=seconds, rate=rate, attack_after=LATE * seconds, now=now, scenarios=names)
            _send(compressed(today, seconds))
            return
        if traces is not None:
            stream = recorded(traces, seed, days=days or RECORDED_DAYS, scenarios=names)
        else:
            stream = simulated(seed, days=days or 1.0, accounts=300 if accounts is None else accounts, scenarios=names)
        if out is None:
            _send(steady(stream, rate or 0.0))
            return
        with _counting(out) as progress:
            written = write(stream, out, progress=progress)
    except (OSError, ValueError) as error:
        fail(error, BAD_INPUT)
    click.echo(f"{written.requests:,} requests of {written.accounts:,} accounts in {out}, labels in {written.labels}")


def _send(traffic: "Iterable[Due]") -> None:
    import time

    from ..simulate.live import produce
    from ..topics import REQUESTS

    where = settings_in_force()

    async def send() -> int:
        async with where.producer() as producer:
            return await produce(traffic, producer, REQUESTS.name(where), clock=time.monotonic)

    click.echo(f"{asked(where, send()):,} requests sent to {REQUESTS.name(where)} at {where.brokers}")


@contextmanager
def _counting(out: Path) -> Iterator[Callable[[int], None]]:
    """A count on standard error where a person looks at it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} requests"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        count = progress.add_task(str(out), total=None)
        yield lambda requests: progress.advance(count, requests)
