"""`stillwatch backup`, `restore` and `grow`: all that is remembered, moved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .process import settings_in_force
from .terminal import BAD_INPUT, fail

if TYPE_CHECKING:
    from ..backup import Summary


@contextmanager
def _answering(brokers: str) -> Iterator[None]:
    """End with one sentence where state cannot be moved."""
    from aiokafka.errors import KafkaError

    from ..compacted import StateError
    from ..topics import TopicsError

    try:
        yield
    except (StateError, TopicsError) as error:
        fail(error)
    except KafkaError as error:
        fail(f"{brokers}: {error}")
    except OSError as error:
        fail(error, BAD_INPUT)


def _told(summary: "Summary") -> str:
    rows = ", ".join(f"{count:,} of {noun}" for noun, count in sorted(summary.rows.items())) or "nothing"
    return f"{rows}; release {summary.head.release}, topics {summary.head.prefix}*"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--layout", type=int, help="Write profiles as an earlier release reads them, to go back to it.")
def backup(file: Path, layout: int | None) -> None:
    """Write all state to FILE (zstd): profiles, models, campaigns, verdicts in force. Workers may go on.

    FILE tells of accounts and what they did; it is readable for you alone.
    """
    import asyncio
    import time

    from ..backup import save
    from ..profiles import LAYOUT
    from ..rollback import known_layouts

    if layout is not None and layout not in known_layouts():
        fail(f"--layout {layout} is not known; known: {', '.join(map(str, known_layouts()))}", BAD_INPUT)
    where = settings_in_force()
    with _answering(where.brokers):
        summary = asyncio.run(save(where, file, time.time_ns() // 1_000_000, layout or LAYOUT))
    click.echo(f"{file}: {_told(summary)}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Only read FILE and say what is in it.")
@click.option("--replace", is_flag=True, help="Where there is state already, put this in its place.")
@click.option("--new-requests", is_flag=True, help="The requests topic is another one, whose offsets begin anew.")
def restore(file: Path, check: bool, replace: bool, new_requests: bool) -> None:
    """Put the state of FILE back. Stop the workers first, and start them afterwards.

    They go on reading requests where the backup was made, so that each counts once.
    """
    import asyncio
    import time

    from .. import backup as backups

    if check:
        with _answering(str(file)):
            click.echo(f"{file} is whole: {_told(backups.inspect(file))}")
        return
    where = settings_in_force()
    target = backups.Target(replace=replace, new_requests=new_requests)
    with _answering(where.brokers):
        summary = asyncio.run(backups.restore(where, file, target, time.time_ns() // 1_000_000))
    click.echo(f"restored {_told(summary)}")


@click.command()
@click.option("--prefix", required=True, help="Prefix of the new topics, such as stillwatch.24.")
@click.option("--partitions", required=True, type=click.IntRange(1, 10_000), help="Partitions of the new topics.")
@click.option("--transfer", "step", flag_value="transfer", help="With all workers stopped: take the state over.")
@click.option("--follow", "step", flag_value="follow", help="Copy what producers still send to the old topics.")
@click.option(
    "--idle-seconds", type=click.FloatRange(0), default=60, show_default=True,
    help="With --follow: end when nothing came for so long.",
)  # fmt: skip
def grow(prefix: str, partitions: int, step: str | None, idle_seconds: float) -> None:
    """Move to more partitions: make new topics, then --transfer, then --follow until producers have moved.

    Without a step it makes the topics of the new prefix and takes the verdicts in force there. The old topics
    are only read.
    """
    import asyncio

    from .. import growth

    where = settings_in_force()
    with _answering(where.brokers):
        new = growth.grown(where, prefix, partitions)
        if step == "follow":
            click.echo(f"copied {asyncio.run(growth.follow(where, new, idle_seconds=idle_seconds)):,} late requests")
        elif step == "transfer":
            moved = asyncio.run(growth.transfer(where, new, tell=lambda text: click.echo(text, err=True)))
            click.echo(
                f"moved {moved.profiles:,} profiles, {moved.verdicts:,} verdicts; copied {moved.requests:,} requests "
                f"and {moved.feedback:,} feedback not yet counted; {moved.doubles:,} second profiles left behind"
            )
            for number, text in enumerate(growth.next_steps(new), 1):
                click.echo(f"{number}. {text}")
        else:
            created = asyncio.run(growth.prepare(where, new))
            click.echo(
                f"created {len(created)} topics with prefix {prefix}; now stop all workers, then run it again with"
            )
            click.echo("  --transfer")
