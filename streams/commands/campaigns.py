"""`stillwatch campaigns`: which accounts are held to be one, and why."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .process import asked, settings_in_force
from .terminal import BAD_INPUT, console, fail, instant

if TYPE_CHECKING:
    from ..campaigns import Campaigns


@click.group()
def campaigns() -> None:
    """List the campaigns found, or show one of them."""


@campaigns.command("list")
@click.option("--all", "everything", is_flag=True, help="Groups that have earned no verdict as well.")
def campaigns_list(everything: bool) -> None:
    """List the campaigns that a verdict is in force for, the largest first."""
    from rich.table import Table

    found = _read()
    chosen = [campaign for campaign in found.found.values() if campaign.rung or everything]
    table = Table("campaign", "action", "score", "members", "requests", "of a budget", "found", "until", "looks like")
    for campaign in sorted(chosen, key=lambda one: (-one.members, one.id)):
        served = campaign.exposure
        table.add_row(
            campaign.id,
            found.policy.rulings[campaign.rung].action if campaign.rung else "none",
            f"{campaign.score:.2f}",
            f"{campaign.members:,}",
            f"{served.requests:,.0f}",
            f"{served.share_of_budget:.1%}",
            instant(campaign.found_at),
            instant(campaign.until) if campaign.rung else "",
            campaign.scenario or "",
        )
    if chosen:
        console().print(table)
    click.echo(f"{len(chosen):,} campaigns, {sum(one.members for one in chosen):,} accounts")


@campaigns.command("show")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many members.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw accounts and traits as a graph: SVG or PNG.")
def campaigns_show(name: str, limit: int, picture: Path | None) -> None:
    """Show campaign NAME: its reasons, what its accounts share and how rare that is, and its members."""
    from importlib.util import find_spec

    from rich.markup import escape
    from rich.table import Table

    if picture is not None and find_spec("matplotlib") is None:
        fail("--picture needs matplotlib: install the extra `pictures`", BAD_INPUT)
    found = _read()
    campaign = found.found.get(name.removeprefix("campaign:"))
    if campaign is None:
        fail(f"no campaign {name!r}; stillwatch campaigns list --all names them", BAD_INPUT)
    click.echo(
        f"{campaign.id}: score {campaign.score:.3f}, {campaign.members:,} accounts, found {instant(campaign.found_at)}"
    )
    for reason in campaign.reasons:
        click.echo(f"  {reason.weight:+.2f}  {reason.text}")
    shared = Table("shared trait", "hash", "of its accounts", "of all others")
    for trait in campaign.shared:
        shared.add_row(trait.kind, f"{trait.trait:016x}", f"{trait.share:.0%}", f"{trait.background:.2%}")
    console().print(shared)
    members = found.members_of(campaign)
    table = Table("account", "belongs", "requests", "first seen")
    for one in members[:limit]:
        table.add_row(escape(one.account), f"{one.belonging:.0%}", f"{one.requests:,.0f}", instant(one.first_at))
    console().print(table)
    if len(members) > limit:
        click.echo(f"{len(members) - limit:,} members more than shown")
    if picture is not None:
        from ..constellation import constellation
        from ..starmap import draw

        try:
            click.echo(f"drawn: {draw(constellation(campaign, members, found.shown_by(campaign)), picture)}")
        except (OSError, ValueError) as error:
            fail(error, BAD_INPUT)


def _read() -> "Campaigns":
    """The campaign agent's own memory, as it last stored it."""
    from sinks.policy import Policy, PolicyError

    from ..campaigns import Campaigns
    from ..compacted import newest
    from ..topics import CAMPAIGNS

    where = settings_in_force()
    try:
        found = Campaigns(Policy.load(where.policy))
    except PolicyError as error:
        fail(error, BAD_INPUT)
    kept = asked(where, newest(where, CAMPAIGNS.name(where), 0))
    # The models' own key is no text.
    rows = [(key, one.value) for key, one in kept.items() if not key.startswith(b"\xff")]
    found.restore([(key.decode(), value) for key, value in rows if value is not None])
    return found
