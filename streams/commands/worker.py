"""`stillwatch worker` and `stillwatch settings`: where it runs."""

import sys

import click

from .process import settings_in_force, settle
from .terminal import console


@click.command()
def settings() -> None:
    """Print every setting, the value in force and what it is for; secrets are masked."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("variable", "value", "default", "what it is for")
    for row in settings_in_force().describe():
        table.add_row(*(escape(cell) for cell in row))
    console().print(table)


@click.command()
def worker() -> None:
    """Watch the requests topic until SIGTERM; verdicts go to the enforcement topic."""
    where = settings_in_force()
    settle()

    from ..app import worker as work

    sys.exit(work(where))
