"""`stillwatch explain`: why an account stands where it stands."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .process import asked, settings_in_force
from .terminal import BAD_INPUT, console, fail, instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sinks.policy import Policy

    from ..trail import Entry

SHOWN: int = 10
"""Decisions of the past that are listed."""


@click.command()
@click.argument("subject")
@click.option("--audit", type=click.Path(path_type=Path), help="Read this file of audit records instead of the topic.")
@click.option("--policy", "file", type=click.Path(path_type=Path), help="The policy that decided, if not the worker's.")
@click.option(
    "--days", type=click.FloatRange(0, 400, min_open=True), default=30.0, show_default=True, help="Look back."
)
@click.option("--customer", is_flag=True, help="Only what the customer could be shown: no scores, no thresholds.")
def explain(subject: str, audit: Path | None, file: Path | None, days: float, customer: bool) -> None:
    """Explain the newest verdict on SUBJECT (account:NAME, or the name alone; campaign:NAME) from the audit.

    Each reason with what was seen and what is typical, what would have kept it from being given, and what was decided
    before. --audit reads a file instead: one record a line, plain, .gz or .zst; - is standard input.
    """
    from sinks.policy import Policy, PolicyError

    from .. import spoken

    try:
        scope, value = spoken.subject(subject)
        where = None if audit is not None else settings_in_force()
        policy = Policy.load(file or (where.policy if where else None))
    except (spoken.SpokenError, PolicyError) as error:
        fail(error, BAD_INPUT)
    found = _from_file(audit, f"{scope}:{value}") if audit is not None else _from_topic(f"{scope}:{value}", days)
    if not found:
        fail(f"the audit knows nothing of {scope}:{value}" + ("" if audit else f" within {days:g} days"))
    newest = max(found, key=lambda entry: (entry.verdict.seq, entry.verdict.at))
    if customer:
        _to_customer(newest)
    else:
        _to_operator(newest, found, policy)


def _from_file(path: Path, subject: str) -> "Sequence[Entry]":
    from ..replay import Recording, RecordingError
    from ..trail import entries

    try:
        return list(entries(Recording([path]), subject))
    except RecordingError as error:
        fail(error, BAD_INPUT)


def _from_topic(subject: str, days: float) -> "Sequence[Entry]":
    import time

    from ..trail import read

    where = settings_in_force()
    since = time.time_ns() // 1_000_000 - int(days * 86_400_000)
    return asked(where, read(where, subject, since))


def _to_customer(entry: "Entry") -> None:
    from sinks.explanation import action_said

    verdict = entry.verdict
    until = "" if verdict.action == "allow" else f", until {instant(verdict.expires_at)}"
    click.echo(f"{verdict.scope.capitalize()} {verdict.value} {action_said(verdict)}{until}.")
    if verdict.reasons:
        click.echo("What led to this:")
    for reason in verdict.reasons:
        click.echo(f"- {reason.text}")


def _to_operator(entry: "Entry", found: "Sequence[Entry]", policy: "Policy") -> None:
    from rich.markup import escape
    from rich.table import Table

    from sinks.explanation import action_said, otherwise, served_said

    verdict = entry.verdict
    shadow = " (shadow: nobody enforces it)" if verdict.mode == "shadow" else ""
    span = f"since {instant(verdict.at)}"
    if verdict.action != "allow":
        span += f", until {instant(verdict.expires_at)}"
    click.echo(f"{verdict.subject} {action_said(verdict)}{shadow}: {verdict.action} {span}")
    looks = f", looks like {verdict.scenario}" if verdict.scenario else ""
    belongs = f", belongs to campaign {verdict.campaign}" if verdict.campaign else ""
    click.echo(f"score {verdict.score:.3f}{looks}{belongs}; policy {verdict.policy}, model {verdict.model}")
    if verdict.exposure is not None:
        click.echo(f"served so far: {served_said(verdict.exposure)}")
    if entry.feedback is not None:
        told = entry.feedback
        click.echo(f"said by {told.by}, {instant(told.at)}: {told.kind}, {told.reason}")
    if verdict.reasons:
        table = Table("weighs", "signal", "observed", "typical", "why")
        for reason in verdict.reasons:
            amounts = ("" if amount is None else f"{amount:,.6g}" for amount in (reason.observed, reason.typical))
            table.add_row(f"{reason.weight:+.2f}", reason.signal, *amounts, escape(reason.text))
        console().print(table)
    if verdict.policy != policy.version:
        click.echo(f"policy {verdict.policy} decided, what follows is read off {policy.version}; --policy names a file")
    ways = list(otherwise(verdict, policy))
    if ways:
        click.echo("it would not stand there with any one of these:")
    for way in ways:
        click.echo(f"  {way}")
    before = sorted((one for one in found if one is not entry), key=lambda one: (one.verdict.seq, one.verdict.at))
    if before:
        click.echo("before that:")
    for one in before[-SHOWN:]:
        told_by = f", {one.feedback.kind} by {one.feedback.by}: {one.feedback.reason}" if one.feedback else ""
        click.echo(f"  {instant(one.verdict.at)}  {one.verdict.action}, score {one.verdict.score:.2f}{told_by}")
