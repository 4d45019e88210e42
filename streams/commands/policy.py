"""`stillwatch policy`: what a score earns."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .process import settle
from .terminal import BAD_INPUT, console, fail, instant

if TYPE_CHECKING:
    from sinks.policy import Policy

    from ..replay import Recording


@click.group()
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
        fail(error, BAD_INPUT)
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
    console().print(table)
    click.echo(f"policy {checked.version}: {checked.mode}, {len(checked.exempt)} exempt")


@policy.command("show")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Every value in force, those that the file leaves out included.")
def policy_show(file: Path | None, as_json: bool) -> None:
    """Print the packaged policy with all its reasons, to copy it and change it; or what FILE says, once checked."""
    import msgspec

    from sinks.policy import PACKAGED, Policy, PolicyError

    try:
        checked = Policy.load(file)
    except PolicyError as error:
        fail(error, BAD_INPUT)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(checked), indent=2))
    else:
        click.echo((file or PACKAGED).read_text("utf-8"), nl=False)


@policy.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Subjects to list at most.")
def policy_diff(before: Path, after: Path, recordings: tuple[Path, ...], limit: int) -> None:
    """Compare two policies: what they say, and what a recorded stream would have met under each.

    "packaged" stands for the packaged policy. RECORDINGS hold one request a line, plain, .gz or .zst; without them only
    the rules are compared.
    """
    settle()
    from rich.markup import escape
    from rich.table import Table

    from sinks.policy import Policy, PolicyError

    from ..comparison import rules_changed
    from ..replay import STDIN, Recording, RecordingError

    if STDIN in recordings:
        fail("standard input cannot be played twice: name a file", BAD_INPUT)
    try:
        was, now = (Policy.load(None if str(file) == "packaged" else file) for file in (before, after))
        recording = Recording(recordings)
    except (PolicyError, RecordingError) as error:
        fail(error, BAD_INPUT)
    table = Table("rule", was.version, now.version)
    for row in rules_changed(was, now):
        table.add_row(*(escape(cell) for cell in row))
    if table.row_count:
        console().print(table)
    click.echo(f"{table.row_count:,} rules differ")
    if recordings:
        try:
            _played(recording, was, now, limit)
        except RecordingError as error:
            fail(error)


def _played(recording: "Recording", was: "Policy", now: "Policy", limit: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    from ..comparison import FREE, changes, counts, met

    first, second = met(recording, was), met(recording, now)
    changed = changes(first, second)
    table = Table("subject", f"under {was.version}", f"under {now.version}")
    for change in changed[:limit]:
        cells = (
            FREE if one is None else f"{one.name} at {instant(one.at)}, after {one.requests:,.0f} requests"
            for one in (change.before, change.after)
        )
        table.add_row(escape(change.subject), *cells)
    if changed:
        console().print(table)
    for policy, found in ((was, first), (now, second)):
        numbers = ", ".join(f"{name} {number:,}" for name, number in counts(found).items()) or "nobody met anything"
        click.echo(f"under {policy.version}: {numbers}")
    left = f", {len(changed) - limit:,} more than shown" if len(changed) > limit else ""
    click.echo(f"{len(changed):,} subjects fare otherwise{left}")
