"""`stillwatch topics`: what must exist on the broker."""

import click

from .process import settings_in_force
from .terminal import fail


@click.group()
def topics() -> None:
    """Create or check the Kafka topics."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing."""
    import asyncio

    from aiokafka.errors import KafkaError

    from ..topics import TopicsError, create

    where = settings_in_force()
    try:
        created = asyncio.run(create(where))
    except TopicsError as error:
        fail(error)
    except (KafkaError, OSError) as error:
        fail(f"{where.brokers}: {error}")
    for name in created:
        click.echo(f"created {name}")
    if not created:
        click.echo("all topics exist")


@topics.command("check")
def topics_check() -> None:
    """Check that all topics exist and fit together; exit status 1 when they do not."""
    import asyncio

    from aiokafka.errors import KafkaError

    from ..topics import TopicsError, check

    where = settings_in_force()
    try:
        asyncio.run(check(where))
    except TopicsError as error:
        fail(error)
    except (KafkaError, OSError) as error:
        fail(f"{where.brokers}: {error}")
    click.echo("all topics exist and fit together")
