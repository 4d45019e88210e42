"""`stillwatch topics`: what must exist on the broker."""

import click

from .process import asked, settings_in_force
from .terminal import fail


@click.group()
def topics() -> None:
    """Create or check the Kafka topics."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing."""
    from ..topics import create

    where = settings_in_force()
    created = asked(where, create(where))
    for name in created:
        click.echo(f"created {name}")
    if not created:
        click.echo("all topics exist")


@topics.command("check")
def topics_check() -> None:
    """Check that all topics exist, fit together and are set as they should be.

    Exit status 1 where messages would be lost or refused. Other differences are told and left to you.
    """
    from ..drift import check

    where = settings_in_force()
    found = asked(where, check(where))
    for one in found:
        click.echo(f"{'wrong' if one.breaks else 'differs'}: {one.topic}: {one.text}\n  {one.remedy}")
    if any(one.breaks for one in found):
        fail("topics are not as they should be")
    click.echo("all topics exist and fit together")
