"""`stillwatch verdicts`: what is in force, and an operator's own word in it."""

import click

from .process import asked, settings_in_force
from .spoken import tell
from .terminal import console


@click.group()
def verdicts() -> None:
    """List the verdicts in force; add one, or lift one."""


@verdicts.command("list")
@click.option("--action", help="Only these: watch, throttle, verify, degrade, suspend.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Every verdict as it stands on the topic, one a line.")
def verdicts_list(action: str | None, limit: int, as_json: bool) -> None:
    """List the verdicts in force, the harshest and surest first."""
    import time

    from rich.markup import escape
    from rich.table import Table

    from gateway.verdict import encode

    from ..in_force import in_force
    from .terminal import instant

    where = settings_in_force()
    found = asked(where, in_force(where, time.time_ns() // 1_000_000))
    chosen = [verdict for verdict in found if action in (None, verdict.action)]
    if as_json:
        for verdict in chosen[:limit]:
            click.echo(encode(verdict))
        return
    table = Table("subject", "action", "score", "until", "by", "looks like", "first reason")
    for verdict in chosen[:limit]:
        shown = verdict.action if verdict.mode == "enforce" else f"{verdict.action} (shadow)"
        first = verdict.reasons[0].text if verdict.reasons else ""
        row = (verdict.subject, shown, f"{verdict.score:.2f}", instant(verdict.expires_at), verdict.origin)
        table.add_row(*(escape(cell) for cell in (*row, verdict.scenario or "", first)))
    if chosen:
        console().print(table)
    left = f", {len(chosen) - limit:,} more than shown" if len(chosen) > limit else ""
    click.echo(f"{len(chosen):,} verdicts in force{left}")


@verdicts.command("add")
@click.argument("account")
@click.argument("action", type=click.Choice(["watch", "throttle", "verify", "degrade", "suspend"]))
@click.option("--reason", required=True, help="Why, in a sentence; kept in the audit.")
@click.option("--by", required=True, help="Who says so, by name; kept in the audit.")
@click.option("--until", help="Until when, such as 2027-06-30T00:00:00Z.")
@click.option("--for", "lasting", help="For how long: 30m, 6h, 90d.")
def verdicts_add(account: str, action: str, reason: str, by: str, until: str | None, lasting: str | None) -> None:
    """Hold ACCOUNT to an ACTION, or more where the detector finds more, until an instant.

    The policy states the parameters, such as a throttle's rate. In a shadow policy this is a shadow too.
    """
    tell("add", account, by=by, reason=reason, until=until, lasting=lasting, action=action)


@verdicts.command("lift")
@click.argument("subject")
@click.option("--reason", required=True, help="Why, in a sentence; kept in the audit.")
@click.option("--by", required=True, help="Who says so, by name; kept in the audit.")
def verdicts_lift(subject: str, reason: str, by: str) -> None:
    """End what is in force for SUBJECT (account:NAME, or the name alone; campaign:NAME), its suspicion with it.

    It does not say that the verdict was wrong; `stillwatch feedback false_alarm` does, and the models learn from that.
    """
    tell("lift", subject, by=by, reason=reason)
