"""What signals may weigh among accounts of each size, after honest weeks: `python -m tests.bench.peers`.

Simulated accounts of every honest kind and lookalikes, so the shares are of the arena's mix. docs/models.md has what it
prints.
"""

from itertools import count
from typing import Final

import click
import numpy as np

from models.peers import SIZES
from models.signals import SIGNALS
from sinks.policy import Policy
from streams.evaluate.play import batches, sent, stripped
from streams.features import features
from streams.pipeline import Pipeline
from streams.profiles import blank
from streams.replay import Recorded
from streams.simulate.accounts import DAY_MS
from streams.simulate.lookalikes import lookalikes
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY, Stream, crowd
from streams.typical import settled

PARTS: Final = (0.5, 1.0)
"""Of a signal's cap."""


@click.command()
@click.option("--accounts", default=300, show_default=True)
@click.option("--days", default=8.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(accounts: int, days: float, seed: int) -> None:
    """Play honest accounts and print, by size, what half of each signal's cap and all of it weigh among peers."""
    prompts, end_at = Prompts(seed), MONDAY + int(days * DAY_MS)
    people = [*crowd(seed, MONDAY, end_at, prompts, range(accounts)), *lookalikes(seed, 4, MONDAY, end_at, prompts)]
    pipeline = Pipeline(Policy.load())
    offset = count()
    for batch in batches(sent(request, stripped(())) for request in Stream(people, prompts, MONDAY, end_at)):
        pipeline.process([Recorded(None, one.line, next(offset)) for one in batch])
    profiles = pipeline.profiles
    pipeline.typical.look_again(profiles, pipeline.event_at, MONDAY)
    table = profiles.table[: profiles.height]
    peers = table[settled(table, pipeline.event_at, MONDAY)]
    counts = np.bincount(np.digitize(features(peers)["requests_day"], SIZES), minlength=len(SIZES) + 1)

    some = blank(len(SIZES) + 1)  # on no plan that is known: compared with all of their size
    some["volumes"][:, 2, 0] = [0.0, *SIZES]
    caps = np.array([signal.cap for signal in SIGNALS.values()])
    weighs = [pipeline.typical.bounded(np.tile(part * caps, (len(some), 1)), some, features(some)) for part in PARTS]
    sizes = [f"below {SIZES[0]:,.0f}", *(f"from {size:,.0f}" for size in SIZES)]
    heads = [f"{size} a day ({number})" for size, number in zip(sizes, counts.tolist(), strict=True)]
    click.echo(f"| half of the cap, the cap | {' | '.join(heads)} |")
    click.echo(f"| --- |{' --- |' * len(heads)}")
    for column, (name, signal) in enumerate(SIGNALS.items()):
        cells = [", ".join(f"{part[row, column]:.2f}" for part in weighs) for row in range(len(some))]
        click.echo(f"| `{name}`: {signal.cap / 2:.2f}, {signal.cap:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
