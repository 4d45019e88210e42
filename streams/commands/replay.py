"""`stillwatch replay`: recorded requests through the detector."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .process import settle
from .terminal import BAD_INPUT, console, fail, opened

if TYPE_CHECKING:
    from ..replay import Recording, Step


@click.command()
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
@click.option("--campaigns/--no-campaigns", default=True, help="Look for campaigns across accounts.  [default: yes]")
@click.option("--labels", type=click.Path(path_type=Path), help="Label file: tell honest accounts from attacks.")
def replay(
    files: tuple[Path, ...],
    partitions: int,
    policy_file: Path | None,
    verdicts: Path | None,
    unreadable: Path | None,
    report: Path | None,
    campaigns: bool,
    labels: Path | None,
) -> None:
    """Run recorded requests through the detector, in event time.

    FILES hold one request a line (JSON), plain, .gz or .zst; - is standard input. The same files and options
    give the same verdicts, byte for byte.
    """
    settle()
    from time import perf_counter

    import msgspec

    from gateway.verdict import encode
    from sinks.policy import Policy, PolicyError

    from .. import tally as tallying
    from ..campaigns import Campaigns
    from ..pipeline import Pipeline
    from ..replay import STDIN, Recording, RecordingError
    from ..replay import replay as steps_of

    for path in {verdicts, unreadable, report} & {*files, labels} - {None, STDIN}:
        fail(f"{path} is read and cannot be written at once", BAD_INPUT)
    try:
        rules = Policy.load(policy_file)
        recording = Recording(files)
        tally = tallying.Tally(None if labels is None else tallying.read_labels(labels))
    except (PolicyError, RecordingError, tallying.LabelsError) as error:
        fail(error, BAD_INPUT)
    pipelines = [Pipeline(rules) for _ in range(partitions)]
    kindred = Campaigns(rules) if campaigns else None
    started = perf_counter()
    with ExitStack() as stack:
        verdicts_out, unreadable_out, report_out = (opened(stack, path) for path in (verdicts, unreadable, report))
        try:
            for step in _with_progress(steps_of(recording, pipelines, kindred), recording):
                tally.add(step)
                if verdicts_out:
                    verdicts_out.writelines(encode(one.verdict) + b"\n" for one in step.outcome.decisions)
                if unreadable_out:
                    unreadable_out.writelines((aside.record.value or b"") + b"\n" for aside in step.outcome.unreadable)
        except RecordingError as error:
            fail(f"{error} (after {tally.requests:,} requests)")
        seconds = perf_counter() - started
        found = tally.report()
        if report_out:
            report_out.write(msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2) + b"\n")
    screen = console()
    if found.subjects:
        screen.print(tallying.subjects_table(found))
    if found.groups is not None:
        screen.print(tallying.groups_table(found.groups))
    accounts = sum(pipeline.accounts for pipeline in pipelines)
    click.echo(f"{found.requests:,} requests in {seconds:.1f} s ({found.requests / seconds:,.0f}/s)")
    click.echo(f"{accounts:,} accounts, {len(found.subjects):,} of them met with a verdict")
    click.echo(f"{sum(found.unreadable.values()):,} lines could not be read{_reasons(found.unreadable)}")


def _reasons(unreadable: dict[str, int]) -> str:
    ranked = sorted(unreadable.items(), key=lambda row: (-row[1], row[0]))
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in ranked)})" if ranked else ""


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
