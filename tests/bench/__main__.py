"""The bench: `make bench`. Every contestant on one topic, in one run, on one machine."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.table import Table

from streams import topics
from streams.settings import PREFIX, Settings
from tests.brokers import VERSION, Broker, NoKafkaError, embedded_broker, free_port, kafka_broker

from . import scaling
from .contest import ContestError, Run, Task, compete
from .contestants.restore import Restore
from .contestants.shelf import Shelf
from .latency import Latency, latency
from .machine import Machine, machine
from .topic import fill, forget_profiles, sendable
from .traffic import Traffic
from .worker import WorkerError, worker


class Contestant(NamedTuple):
    """Who takes part, in which module, and under which name."""

    module: str
    name: str
    needs: str | None = None
    """A module of the extra `peers`."""
    slow: bool = False
    """Reads only `--slow-records` records."""
    detectors: bool = True


CONTESTANTS: Final = {
    "consumer": Contestant("consumer", "aiokafka consumer, decoding only"),
    "stillwatch": Contestant("detector", "Stillwatch"),
    "signals": Contestant("detector", "Stillwatch without detectors", detectors=False),
    "replay": Contestant("replay", "Stillwatch, replay of a file"),
    "faust": Contestant("faust_table", "Faust, a count in a table", slow=True),
    "quix": Contestant("quix", "Quix Streams, a count", needs="quixstreams"),
    "bytewax": Contestant("bytewax_count", "Bytewax, a count", needs="bytewax"),
}
"""All decode the same bytes with the same decoder. One line more is one contestant more."""


class Row(msgspec.Struct, frozen=True):
    """One contestant's figures."""

    name: str
    requests_per_s: float
    ratio_to_consumer: float | None
    cpu_s_per_million: float
    peak_mb: float
    startup_s: float
    records: int
    verdicts: int


class Bench(msgspec.Struct):
    """All figures of one run."""

    machine: Machine
    rows: list[Row]
    latency: Latency | None = None
    restore: Restore | None = None
    shelves: list[Shelf] = []
    teams: list[scaling.Team] = []


class Options(NamedTuple):
    """What is measured, and how much of it."""

    records: int
    slow_records: int
    only: tuple[str, ...]
    seconds: float
    profiles: int
    scaling: bool


@click.command()
@click.option("--records", type=click.IntRange(1_000), default=2_000_000, show_default=True)
@click.option("--slow-records", type=click.IntRange(1), default=60_000, show_default=True, help="For Faust as shipped.")
@click.option("--partitions", type=click.IntRange(1), default=12, show_default=True)
@click.option("--only", type=click.Choice(list(CONTESTANTS)), multiple=True, help="Run these; may be given again.")
@click.option("--seconds", type=click.FloatRange(0), default=30, show_default=True, help="Latency; 0 leaves it out.")
@click.option("--profiles", type=click.IntRange(0), default=200_000, show_default=True, help="Memory; 0 leaves it out.")
@click.option("--scaling", is_flag=True, help="Also with more workers, and with 10 thousand to 2 million profiles.")
@click.option("--embedded", is_flag=True, help="On the embedded broker, even where Kafka can be had.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(
    records: int,
    slow_records: int,
    partitions: int,
    only: tuple[str, ...],
    seconds: float,
    profiles: int,
    scaling: bool,
    embedded: bool,
    out: Path | None,
) -> None:
    """Measure Stillwatch beside a bare consumer and beside other stream libraries.

    All read one topic from its start to its end, each in its own process. Uses Apache Kafka where STILLWATCH_KAFKA
    names one, or Java and Maven are there; else the embedded broker.
    """
    options = Options(records, min(slow_records, records), only or tuple(CONTESTANTS), seconds, profiles, scaling)
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _broker(Path(folder), embedded, console) as broker:
        try:
            found = _measure(options, Track(broker, partitions), Path(folder), console)
        except (ContestError, WorkerError, topics.TopicsError) as error:
            raise click.ClickException(str(error)) from error
    _show(found, console)
    if out:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


class Track(NamedTuple):
    """The broker everybody runs on."""

    broker: Broker
    partitions: int

    def environment(self, prefix: str = "") -> dict[str, str]:
        """The environment of a worker with topics and a group of its own; `prefix` names topics that exist."""
        fresh = f"bench-{os.urandom(4).hex()}"
        return {
            # Settings of a production worker would lead this one elsewhere.
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            # `stillwatch worker` sets this for itself, before it loads numpy; a contestant has loaded it by then.
            "OPENBLAS_NUM_THREADS": "1",
            f"{PREFIX}BROKERS": self.broker.address,
            f"{PREFIX}REPLICATION": "1",
            f"{PREFIX}PARTITIONS": str(self.partitions),
            f"{PREFIX}TOPIC_PREFIX": prefix or f"{fresh}.",
            f"{PREFIX}GROUP": fresh,
            f"{PREFIX}WEB_PORT": str(free_port()),
            **({} if self.broker.name == "kafka" else {f"{PREFIX}SESSION_SECONDS": "2"}),
            **self.broker.settings,
        }

    @property
    def name(self) -> str:
        """The broker for a person."""
        if self.broker.name == "embedded":
            return "the embedded broker (not Apache Kafka)"
        return f"Apache Kafka {VERSION}" if self.broker.java else f"Kafka at {self.broker.address}"


@contextmanager
def _broker(folder: Path, embedded: bool, console: Console) -> Iterator[Broker]:
    if not embedded:
        try:
            with kafka_broker(folder, java=()) as broker:
                yield broker
                return
        except NoKafkaError as error:
            console.print(f"{error}. Going on with the embedded broker.", style="yellow")
    with embedded_broker() as broker:
        yield broker


def _measure(options: Options, track: Track, folder: Path, console: Console) -> Bench:
    bench = Bench(machine(track.name), [])
    end_at = time.time_ns() // 1_000_000
    environment = track.environment()
    settings = Settings.read(environment)
    recording = folder / "requests.jsonl"
    took = asyncio.run(fill(settings, sendable(Traffic(options.records, end_at)), recording))
    size = recording.stat().st_size / options.records
    console.print(f"{options.records:,} requests of {size:.0f} bytes onto {track.name} in {took:.0f} s")
    consumer: float | None = None
    stillwatch: float | None = None
    for key in options.only:
        who = CONTESTANTS[key]
        if who.needs and find_spec(who.needs) is None:
            console.print(
                f'{who.name}: left out, for it is not installed: pip install --editable ".[peers]"', markup=False
            )
            continue
        asyncio.run(forget_profiles(settings))
        again = track.environment(settings.topic_prefix)
        told = Task(
            records=options.slow_records if who.slow else options.records,
            brokers=track.broker.address,
            topic=topics.REQUESTS.name(settings),
            partitions=track.partitions,
            group=again[f"{PREFIX}GROUP"],
            session_seconds=settings.session_seconds,
            detectors=who.detectors,
            recording=str(recording),
        )
        try:
            run, startup = compete(who.module, told, again, Run)
        except ContestError as error:
            if not who.needs:
                raise
            # Quix Streams asks the embedded broker for what it does not know. The others still count.
            console.print(f"{who.name}: left out. {error}", markup=False)
            continue
        consumer = run.per_second if key == "consumer" else consumer
        if key == "stillwatch":
            stillwatch = run.per_second
            bench.restore, _ = compete("restore", told, again, Restore)
        bench.rows.append(_row(who.name, run, startup, consumer))
        console.print(f"{who.name}: {run.per_second:,.0f}/s")
    if options.profiles:
        bench.shelves.append(_shelf(options.profiles, environment))
    if options.seconds and stillwatch:
        fresh = track.environment()
        where = Settings.read(fresh)
        asyncio.run(topics.create(where))
        with worker(fresh) as running:
            running.wait_until_ready()
            bench.latency = asyncio.run(latency(where, running, stillwatch / 2, options.seconds, end_at))
    if options.scaling:
        sent = list(sendable(Traffic(options.records, end_at)))
        bench.teams = [scaling.team(workers, sent, track.environment) for workers in scaling.teams()]
        bench.shelves = [_shelf(profiles, environment) for profiles in scaling.PROFILES]
    return bench


def _row(name: str, run: Run, startup: float, consumer: float | None) -> Row:
    return Row(
        name=name,
        requests_per_s=run.per_second,
        ratio_to_consumer=None if consumer is None else run.per_second / consumer,
        cpu_s_per_million=run.cpu_seconds / run.records * 1e6,
        peak_mb=run.peak_mb,
        startup_s=startup,
        records=run.records,
        verdicts=run.verdicts,
    )


def _shelf(profiles: int, environment: dict[str, str]) -> Shelf:
    found, _ = compete("shelf", Task(records=profiles), environment, Shelf)
    return found


def _show(bench: Bench, console: Console) -> None:
    console.print(_contest_table(bench))
    if bench.restore:
        profiles, speed = bench.restore.profiles, bench.restore.profiles / bench.restore.seconds
        spent = bench.restore.cpu_seconds / profiles * 1e6
        console.print(f"{profiles:,} profiles restored from the changelog: {speed:,.0f}/s, {spent:.1f} µs of CPU each")
    for shelf in bench.shelves:
        console.print(
            f"{shelf.profiles:,} profiles: {shelf.bytes_each:,.0f} bytes each, restored at "
            f"{shelf.restored_per_s:,.0f}/s, then {shelf.us_per_request:.1f} µs of CPU a request"
        )
    if bench.latency:
        found = bench.latency
        console.print(
            f"Request to verdict at {found.requests_per_s:,.0f} requests/s: p50 {found.p50_ms:,.0f} ms, "
            f"p99 {found.p99_ms:,.0f} ms, max {found.max_ms:,.0f} ms of {found.verdicts:,} verdicts "
            f"(sender up to {found.late_ms:,.0f} ms late)"
        )
    for team in bench.teams:
        console.print(f"{team.workers} workers: {team.requests_per_s:,.0f} requests/s")


def _contest_table(bench: Bench) -> Table:
    table = Table(title=str(bench.machine), title_justify="left")
    table.add_column("")
    for column in ("requests/s", "of the consumer", "CPU s a million", "peak MB", "start-up s", "read", "verdicts"):
        table.add_column(column, justify="right")
    for row in bench.rows:
        table.add_row(
            row.name,
            f"{row.requests_per_s:,.0f}",
            "" if row.ratio_to_consumer is None else f"{row.ratio_to_consumer:.0%}",
            f"{row.cpu_s_per_million:.1f}",
            f"{row.peak_mb:,.0f}",
            f"{row.startup_s:.1f}",
            f"{row.records:,}",
            f"{row.verdicts:,}",
        )
    return table


if __name__ == "__main__":
    main()
