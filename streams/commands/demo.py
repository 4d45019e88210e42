"""`stillwatch demo`: an attack being caught, on this machine."""

import sys
from contextlib import ExitStack

import click

from .terminal import console, fail


@click.command()
@click.option("--seconds", type=click.FloatRange(20, 3_600), default=120, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed is another stream.")
@click.option("--rate", type=click.FloatRange(10, 20_000), default=800, show_default=True, help="Requests a second.")
@click.option("--headless", is_flag=True, help="Lines in place of the live view, for scripts.")
def demo(seconds: float, seed: int, rate: float, headless: bool) -> None:
    """Watch an attack being caught: a broker, a worker and simulated traffic on this machine.

    It ends by itself. Exit status 0 only if the attack was caught and no honest account was throttled.
    """
    import asyncio
    import time

    from ..demo import DemoError, Lines, Screen, summary
    from ..demo import demo as play
    from ..engine.embedded import EmbeddedError
    from ..simulate.live import compressed, live
    from ..tally import groups_table, subjects_table

    attack_at = min(30.0, seconds / 4)
    stream = live(seed, seconds=seconds, rate=rate, attack_after=attack_at, now=time.time_ns() // 1_000_000)
    labels = {label.account: label for label in stream.labels}
    screen = console()
    click.echo(f"A day of {len(labels):,} simulated accounts in {seconds:g} s (seed {seed}). Starting the broker.")
    try:
        with ExitStack() as stack:
            view = Lines(click.echo) if headless else stack.enter_context(Screen(screen))
            end = asyncio.run(
                play(compressed(stream, seconds), labels, seconds=seconds, attack_at=attack_at, view=view)
            )
    except (DemoError, EmbeddedError) as error:
        fail(error)
    screen.print(subjects_table(end.report))
    if end.report.groups:
        screen.print(groups_table(end.report.groups))
    for sentence in summary(end):
        click.echo(sentence)
    sys.exit(0 if end.good else 1)
