"""`stillwatch policy`: what a score earns."""

from pathlib import Path

import click

from .terminal import BAD_INPUT, console, fail


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
