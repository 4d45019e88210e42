"""The command `stillwatch`."""

# Imports of the detector wait inside the commands: `stillwatch --help` must not load numpy, Kafka and Faust.

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console

    from .replay import Recording, Step
    from .settings import Settings
    from .simulate.stream import Stream

BAD_INPUT = 2
"""Exit status for what the caller can mend: a wrong option, file, policy or setting. Failures exit with 1."""


def _fail(message: object, status: int = 1) -> NoReturn:
    """End with one sentence on standard error."""
    click.echo(f"stillwatch: {message}", err=True)
    sys.exit(status)


def _settle() -> None:
    """Fit this process to a stream, before numpy is loaded."""
    # The models' matrices are 18 by 18: threads cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A micro-batch makes thousands of objects and no cycles; looking for some took a third of the time.
    gc.set_threshold(100_000, 50, 50)
    # The thread that fetches must not wait 5 ms for each of its many short turns.
    sys.setswitchinterval(0.0002)


def _settings() -> "Settings":
    from .settings import Settings, SettingsError

    try:
        return Settings.read(os.environ)
    except SettingsError as error:
        _fail(error, BAD_INPUT)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("stillwatch"), message="stillwatch %(version)s")
def main() -> None:
    """Watch the request stream of an LLM API and stop distillation attacks while they are still worth little.

    Where a worker runs is set by variables (see `stillwatch settings`), what a score earns by a policy file.
    """


@main.command()
def settings() -> None:
    """Print every setting, the value in force and what it is for; secrets are masked."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("variable", "value", "default", "what it is for")
    for row in _settings().describe():
        table.add_row(*(escape(cell) for cell in row))
    _console().print(table)


@main.group()
def topics() -> None:
    """Create or check the Kafka topics."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing."""
    import asyncio

    from aiokafka.errors import KafkaError

    from .topics import TopicsError, create

    where = _settings()
    try:
        created = asyncio.run(create(where))
    except TopicsError as error:
        _fail(error)
    except (KafkaError, OSError) as error:
        _fail(f"{where.brokers}: {error}")
    for name in created:
        click.echo(f"created {name}")
    if not created:
        click.echo("all topics exist")


@topics.command("check")
def topics_check() -> None:
    """Check that all topics exist and fit together; exit status 1 when they do not."""
    import asyncio

    from aiokafka.errors import KafkaError

    from .topics import TopicsError, check

    where = _settings()
    try:
        asyncio.run(check(where))
    except TopicsError as error:
        _fail(error)
    except (KafkaError, OSError) as error:
        _fail(f"{where.brokers}: {error}")
    click.echo("all topics exist and fit together")


@main.group()
def policy() -> None:
    """What a score earns."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path), required=False)
def policy_check(file: Path | None) -> None:
    """Check a policy FILE and print its ladder; exit status 2 when it is refused.

    Without FILE it is the packaged policy.
    """
    from rich.table import Table

    from sinks.policy import Policy, PolicyError

    try:
        checked = Policy.load(file)
    except PolicyError as error:
        _fail(error, BAD_INPUT)
    table = Table("rung", "score", "until below", "kinds", "after requests", "or share of budget", "for hours", "mode")
    for rung in checked.rungs:
        table.add_row(
            rung.action,
            f"{rung.score:g}",
            f"{rung.leave:g}",
            f"{rung.kinds}",
            f"{rung.requests:,}",
            "" if rung.share is None else f"{rung.share:.0%}",
            f"{rung.seconds / 3600:g}",
            (rung.mode or checked.mode) if rung.enabled else "off",
        )
    _console().print(table)
    click.echo(f"policy {checked.version}: {checked.mode}, {len(checked.exempt)} exempt")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--partitions",
    type=click.IntRange(1, 1_024),
    default=1,
    show_default=True,
    help="Pipelines side by side.",
)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    help="Policy file in place of the packaged one.",
)
@click.option("--verdicts", type=click.Path(path_type=Path), help="Write every verdict here, one JSON object a line.")
@click.option(
    "--unreadable",
    type=click.Path(path_type=Path),
    help="Keep the lines that cannot be read here, untouched.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Write all counts here as JSON.")
@click.option("--labels", type=click.Path(path_type=Path), help="Label file: tell honest accounts from attacks.")
def replay(
    files: tuple[Path, ...],
    partitions: int,
    policy_file: Path | None,
    verdicts: Path | None,
    unreadable: Path | None,
    report: Path | None,
    labels: Path | None,
) -> None:
    """Run recorded requests through the detector, in event time.

    FILES hold one request a line (JSON), plain, .gz or .zst; - is standard input. The same files and options
    give the same verdicts, byte for byte.
    """
    _settle()
    from time import perf_counter

    import msgspec

    from gateway.verdict import encode
    from sinks.policy import Policy, PolicyError

    from . import tally as tallying
    from .pipeline import Pipeline
    from .replay import STDIN, Recording, RecordingError
    from .replay import replay as steps_of

    for path in {verdicts, unreadable, report} & {*files, labels} - {None, STDIN}:
        _fail(f"{path} is read and cannot be written at once", BAD_INPUT)
    try:
        rules = Policy.load(policy_file)
        recording = Recording(files)
        tally = tallying.Tally(None if labels is None else tallying.read_labels(labels))
    except (PolicyError, RecordingError, tallying.LabelsError) as error:
        _fail(error, BAD_INPUT)
    pipelines = [Pipeline(rules) for _ in range(partitions)]
    started = perf_counter()
    with ExitStack() as stack:
        verdicts_out, unreadable_out, report_out = (_open(stack, path) for path in (verdicts, unreadable, report))
        try:
            for step in _with_progress(steps_of(recording, pipelines), recording):
                tally.add(step)
                if verdicts_out:
                    verdicts_out.writelines(encode(one.verdict) + b"\n" for one in step.outcome.decisions)
                if unreadable_out:
                    unreadable_out.writelines((aside.record.value or b"") + b"\n" for aside in step.outcome.unreadable)
        except RecordingError as error:
            _fail(f"{error} (after {tally.requests:,} requests)")
        seconds = perf_counter() - started
        found = tally.report()
        if report_out:
            report_out.write(msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2) + b"\n")
    console = _console()
    if found.subjects:
        console.print(tallying.subjects_table(found))
    if found.groups is not None:
        console.print(tallying.groups_table(found.groups))
    accounts = sum(pipeline.accounts for pipeline in pipelines)
    click.echo(f"{found.requests:,} requests in {seconds:.1f} s ({found.requests / seconds:,.0f}/s)")
    click.echo(f"{accounts:,} accounts, {len(found.subjects):,} of them met with a verdict")
    click.echo(f"{sum(found.unreadable.values()):,} lines could not be read{_reasons(found.unreadable)}")


@main.command()
@click.argument("part", type=click.Choice(["request", "verdict", "asyncapi"]), default="asyncapi")
def schema(part: str) -> None:
    """Print the contract: the JSON Schema of a message, or the AsyncAPI document of all topics."""
    import json

    from gateway.schema import asyncapi, request_schema, verdict_schema

    document = {"request": request_schema, "verdict": verdict_schema, "asyncapi": asyncapi}[part]()
    click.echo(json.dumps(document, indent=2))


@main.command()
def worker() -> None:
    """Watch the requests topic until SIGTERM; verdicts go to the enforcement topic."""
    where = _settings()
    _settle()

    from .app import worker as work

    sys.exit(work(where))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write: .jsonl, or .gz or .zst after it.")
@click.option("--rate", type=float, help="Send to Kafka instead, at this many requests a second.")
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
        _fail("say either --out FILE or --rate REQUESTS_A_SECOND", BAD_INPUT)
    if traces is not None and accounts is not None:
        _fail("--accounts does not go with --traces: the recordings say how many there are", BAD_INPUT)

    from .simulate.attacks import SCENARIOS
    from .simulate.families import FAMILIES
    from .simulate.output import write
    from .simulate.recordings import RECORDED_DAYS
    from .simulate.stream import simulate as simulated
    from .simulate.traces import recorded

    names = [name for name in scenarios if name != "none"] if scenarios else list(SCENARIOS)
    for name in set(names) - set(FAMILIES):
        _fail(f"unknown scenario {name}; known: {', '.join(FAMILIES)}, none", BAD_INPUT)
    try:
        if traces is not None:
            stream = recorded(traces, seed, days=days or RECORDED_DAYS, scenarios=names)
        else:
            stream = simulated(seed, days=days or 1.0, accounts=300 if accounts is None else accounts, scenarios=names)
        if out is None:
            _send(stream, rate or 0.0)
            return
        with _counting(out) as progress:
            written = write(stream, out, progress=progress)
    except (OSError, ValueError) as error:
        _fail(error, BAD_INPUT)
    click.echo(f"{written.requests:,} requests of {written.accounts:,} accounts in {out}, labels in {written.labels}")


def _send(stream: "Stream", rate: float) -> None:
    import asyncio
    import time

    from aiokafka.errors import KafkaError

    from .simulate.live import produce, steady
    from .topics import REQUESTS

    where = _settings()

    async def send() -> int:
        async with where.producer() as producer:
            return await produce(steady(stream, rate), producer, REQUESTS.name(where), clock=time.monotonic)

    try:
        click.echo(f"{asyncio.run(send()):,} requests sent to {REQUESTS.name(where)} at {where.brokers}")
    except KafkaError as error:
        _fail(f"{where.brokers}: {error}")


@main.command()
@click.option("--seconds", type=click.FloatRange(20, 3_600), default=120, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed is another stream.")
@click.option("--rate", type=click.FloatRange(10, 20_000), default=800, show_default=True, help="Requests a second.")
@click.option("--headless", is_flag=True, help="Lines in place of the live view, for scripts.")
def demo(seconds: float, seed: int, rate: float, headless: bool) -> None:
    """Watch an attack being caught: a broker, a worker and simulated traffic on this machine.

    It ends by itself. Exit status 0 only if the attack was caught and no honest account was throttled.
    """
    import asyncio
    import time

    from .demo import DemoError, Lines, Screen, summary
    from .demo import demo as play
    from .engine.embedded import EmbeddedError
    from .simulate.live import compressed, live
    from .tally import groups_table, subjects_table

    attack_at = min(30.0, seconds / 4)
    stream = live(seed, seconds=seconds, rate=rate, attack_after=attack_at, now=time.time_ns() // 1_000_000)
    labels = {label.account: label for label in stream.labels}
    console = _console()
    click.echo(f"A day of {len(labels):,} simulated accounts in {seconds:g} s (seed {seed}). Starting the broker.")
    try:
        with ExitStack() as stack:
            view = Lines(click.echo) if headless else stack.enter_context(Screen(console))
            end = asyncio.run(
                play(compressed(stream, seconds), labels, seconds=seconds, attack_at=attack_at, view=view)
            )
    except (DemoError, EmbeddedError) as error:
        _fail(error)
    console.print(subjects_table(end.report))
    if end.report.groups:
        console.print(groups_table(end.report.groups))
    for sentence in summary(end):
        click.echo(sentence)
    sys.exit(0 if end.good else 1)


@main.command()
@click.option("--traces", type=click.Path(path_type=Path), help="Play the recordings in this folder as well.")
@click.option("--report", "out", type=click.Path(path_type=Path), help="Write all numbers here as JSON.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Seed of the streams; may be repeated.  [default: 1]")
@click.option("--family", "families", multiple=True, help="Family to play, or none; may be repeated.  [default: all]")
@click.option("--without", multiple=True, help="Field that no request has, such as ip or sketch; may be repeated.")
@click.option("--drop", "dropped", multiple=True, help="Evidence that the detector goes without; may be repeated.")
@click.option("--policy", type=click.Path(path_type=Path), help="Policy file in place of the packaged one.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw share served against false actions: PNG, SVG.")
@click.option("--processes", type=click.IntRange(1), help="Processes side by side.  [default: one for each core]")
def evaluate(
    traces: Path | None,
    out: Path | None,
    seeds: tuple[int, ...],
    families: tuple[str, ...],
    without: tuple[str, ...],
    dropped: tuple[str, ...],
    policy: Path | None,
    picture: Path | None,
    processes: int | None,
) -> None:
    """Play attacks and honest traffic against the detector and two baselines: minutes, not hours.

    It tells what each family of attacks got before the detector acted, and whom it met wrongly. The same options
    give the same report.
    """
    from importlib.util import find_spec

    _settle()
    if picture is not None and find_spec("matplotlib") is None:
        _fail("--picture needs matplotlib: install the extra `pictures`", BAD_INPUT)

    from sinks.policy import Policy, PolicyError

    from .evaluate import report as reporting
    from .evaluate.arena import Plan, jobs
    from .evaluate.arena import evaluate as played
    from .simulate.families import FAMILIES

    chosen = tuple(name for name in families if name != "none") if families else tuple(FAMILIES)
    try:
        plan = Plan(
            seeds=seeds or (1,), families=chosen, traces=traces, without=without, dropped=dropped, policy=policy
        )
        Policy.load(policy)
    except (ValueError, PolicyError) as error:
        _fail(error, BAD_INPUT)
    todo = len(jobs(plan))
    click.echo(f"seeds {', '.join(map(str, plan.seeds))}; {todo} streams", err=True)
    with ExitStack() as stack:
        file = _open(stack, out)
        try:
            results = played(
                plan,
                processes=processes or os.cpu_count() or 1,
                done=lambda job: click.echo(f"played {job.kind} {job.name}, seed {job.seed}", err=True),
            )
            found = reporting.report(plan, results)
        except (OSError, ValueError) as error:
            _fail(error, BAD_INPUT)
        if file:
            file.write(reporting.encoded(found))
    console = _console()
    if plan.families:
        console.print(reporting.families_table(found))
    console.print(reporting.honest_table(found))
    click.echo(f"seeds {', '.join(map(str, found.seeds))}; policy {found.policy}; model {found.model}")
    for sentence in (found.simulated, found.recorded):
        if sentence:
            click.echo(sentence)
    if picture is not None:
        from .evaluate.picture import draw

        click.echo(f"drawn: {', '.join(map(str, draw(found, picture)))}")


def _reasons(unreadable: dict[str, int]) -> str:
    ranked = sorted(unreadable.items(), key=lambda row: (-row[1], row[0]))
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in ranked)})" if ranked else ""


def _open(stack: ExitStack, path: Path | None) -> BinaryIO | None:
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("wb"))
    except OSError as error:
        _fail(f"{path}: {error.strerror}", BAD_INPUT)


def _with_progress(steps: "Iterator[Step]", recording: "Recording") -> "Iterator[Step]":
    """The same steps, with a bar on standard error where a person looks at it."""
    if not sys.stderr.isatty():
        yield from steps
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,.0f} MB"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        total = None if recording.total is None else recording.total / 1e6
        bar = progress.add_task("replay", total=total)
        for step in steps:
            progress.update(bar, completed=recording.position / 1e6)
            yield step


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


def _console() -> "Console":
    from rich.console import Console

    # A pipe has no width; 80 columns would break every line.
    return Console(width=None if sys.stdout.isatty() else 160)


if __name__ == "__main__":
    main()
