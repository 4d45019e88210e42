"""`stillwatch doctor`: what is wrong, and what to do."""

import sys

import click

from .process import settings_in_force


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding, for scripts.")
def doctor(as_json: bool) -> None:
    """Look at brokers, topics, policy, workers and versions: what is wrong, and what to do.

    Exit status 1 when something does not work. Nothing is changed, and no message is read but the newest profiles.
    """
    import asyncio
    import logging

    import msgspec

    from ..doctor import Finding, examine

    where = settings_in_force()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is told here in one sentence

    async def look() -> list[Finding]:
        found = []
        async for finding in examine(where):
            found.append(finding)
            if as_json:
                click.echo(msgspec.json.encode(finding._asdict()))
                continue
            colour = {"ok": "green", "note": "yellow", "wrong": "red"}[finding.level]
            click.echo(f"{click.style(f'{finding.level:<6}', fg=colour)} {finding.about:<9} {finding.text}")
            if finding.remedy:
                click.echo(f"{'':<17} -> {finding.remedy}")
        return found

    found = asyncio.run(look())
    sys.exit(1 if any(finding.level == "wrong" for finding in found) else 0)
