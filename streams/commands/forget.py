"""`stillwatch forget`: erase what is remembered of an account."""

import sys

import click

from .process import asked, settings_in_force
from .terminal import BAD_INPUT, fail


@click.command()
@click.argument("account")
@click.option("--reason", help="Why, in a sentence; kept in the audit.")
@click.option("--by", help="Who says so: a person or a service, by name; kept in the audit.")
@click.option("--check", is_flag=True, help="Only look whether anything is left; exit status 1 when there is.")
def forget(account: str, reason: str | None, by: str | None, check: bool) -> None:
    """Erase what is remembered of ACCOUNT: profile, verdict, its place in campaigns.

    The worker that owns it does so within seconds, from memory and from the topics. What stays for a while is
    told. Who comes back under the name is a stranger.
    """
    import time

    from gateway.feedback import UnreadableFeedbackError

    from ..forget import STAYS
    from ..forget import forget as erase
    from ..forget import left as remains
    from ..spoken import number

    if not check and not (reason and by):
        fail("say --reason and --by: both are kept in the audit", BAD_INPUT)
    where = settings_in_force()
    try:
        if check:
            found = asked(where, remains(where, account))
            for one in found:
                click.echo(f"still in {one.topic}, partition {one.partition}, as {one.key.decode()}")
            if not found:
                click.echo(f"no profile, verdict or campaign knows {account}")
            sys.exit(1 if found else 0)
        at = time.time_ns() // 1_000_000
        told = asked(where, erase(where, account, by=by or "", reason=reason or "", at=at, number=number("forget")))
    except UnreadableFeedbackError as error:
        fail(error, BAD_INPUT)
    click.echo(f"told the workers (feedback, partition {told.partition}, offset {told.offset}); look with --check")
    click.echo("what stays until its time is over:")
    for noun, text in STAYS.items():
        click.echo(f"  {where.topic_prefix}{noun}: {text}")
