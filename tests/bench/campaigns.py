"""What campaigns cost: `python -m tests.bench.campaigns`, in memory and without Kafka."""

from collections.abc import Sequence
from typing import NamedTuple

import click

from streams.commands.process import settle


class Cost(NamedTuple):
    """CPU seconds of a share of the requests, with and without what serves campaigns."""

    watching: float
    linking: float
    """Of the watch agent's: finding what is worth telling."""
    hearing: float
    """Of the campaign agent's: taking links and reports in."""
    looking: float
    """Of the campaign agent's: looking for groups, as often as event time says."""
    looks: int
    links: int
    accounts: int
    """Acquaintances when these requests were through."""
    traits: int
    """What of them is known then: one for each account and trait."""


@click.command()
@click.option("--records", type=click.IntRange(10_000), default=400_000, show_default=True)
@click.option("--accounts", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--chunk", type=click.IntRange(1), default=2_000, show_default=True, help="Records in a micro-batch.")
@click.option("--quarters", type=click.IntRange(1), default=4, show_default=True, help="Lines of the table.")
def main(records: int, accounts: int, chunk: int, quarters: int) -> None:
    """Print what a request costs with campaigns off and on, and how many links a second the campaign agent takes.

    The lines of the table follow each other in one stream: more accounts and traits are known in each. A look for
    groups comes every five minutes of event time, or less often when many accounts are known: its cost is told apart.
    """
    # As `stillwatch worker` does: before numpy is loaded, so imports wait until then.
    settle()

    from rich.console import Console
    from rich.table import Table

    title = "µs of CPU a request: campaigns off, links found, links heard; accounts and traits known"
    table = Table(title=title, title_justify="left")
    for column in ("requests", "accounts", "off", "+ found", "+ heard", "links/s", "traits", "s a look"):
        table.add_column(column, justify="right")
    size = records // quarters
    for number, cost in enumerate(costs(records, accounts, chunk, quarters), 1):
        each = 1e6 / size
        table.add_row(
            f"{number * size:,}",
            f"{cost.accounts:,}",
            f"{(cost.watching - cost.linking) * each:.1f}",
            f"+ {cost.linking * each:.1f}",
            f"+ {cost.hearing * each:.1f}",
            f"{cost.links / cost.hearing:,.0f}",
            f"{cost.traits:,}",
            f"{cost.looking / max(cost.looks, 1):.2f}",
        )
    Console().print(table)


def costs(records: int, accounts: int, chunk: int, quarters: int) -> Sequence[Cost]:
    """What each of some pieces of one stream costs."""
    from sinks.policy import Policy
    from streams.campaigns import Campaigns
    from streams.pipeline import Pipeline
    from streams.replay import Recorded

    from .stages import NEWEST_AT, cut, records_of
    from .stopwatch import Stopwatch
    from .traffic import Traffic

    policy = Policy.load()
    pipeline, campaigns = Pipeline(policy), Campaigns(policy)
    watch = Stopwatch()
    watch.watch(pipeline._linker, "look", "linking")
    watch.watch(campaigns, "_look", "looking")
    process = watch.timed(pipeline.process, "watching")
    hear = watch.timed(campaigns.process, "hearing")
    looked_at, found = campaigns._looked_at, []
    for piece in cut(records_of(Traffic(records, NEWEST_AT, accounts=accounts)), records // quarters)[:quarters]:
        watch.seconds.clear()
        links = looks = 0
        for batch in cut(piece, chunk):
            sightings = process(batch).sightings
            if sightings is not None:
                links += hear([Recorded(None, sightings, 0, batch[-1].timestamp)]).links
                looks += campaigns._looked_at != looked_at
                looked_at = campaigns._looked_at
        seconds = watch.seconds
        # A stage's time leaves out those called from it.
        watching = seconds["watching"] + seconds["linking"]
        known = campaigns.known
        traits = int((known.table["seen"][: known.height] > 0).sum())
        found.append(
            Cost(watching, seconds["linking"], seconds["hearing"], seconds["looking"], looks, links, len(known), traits)
        )
    return found


if __name__ == "__main__":
    main()
