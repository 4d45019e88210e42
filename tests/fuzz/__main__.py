"""Fuzz: `make fuzz`, or `python -m tests.fuzz TARGET...`. Each target for ten minutes, other examples at every run.

A failure is shrunk to the least that still fails, printed, and kept in .cache/fuzz: the next run begins with it.
"""

import faulthandler
import sys
import time
from typing import Final

import click
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from .targets import TARGETS, Target

ROUND: Final = 500
"""Examples between two looks at the clock."""


def fuzz(name: str, target: Target, seconds: float) -> int:
    """Try examples until the time is over; how many there were. Raises what a target raises."""
    count = 0

    def tried(value: object) -> None:
        nonlocal count
        count += 1
        target.holds(value)

    tried.__qualname__ = tried.__name__ = name
    look = settings(
        max_examples=ROUND,
        deadline=None,
        database=DirectoryBasedExampleDatabase(".cache/fuzz"),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
        verbosity=Verbosity.normal,
        print_blob=True,
    )(given(target.given)(tried))
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        look()
    return count


@click.command()
@click.argument("names", nargs=-1, metavar="[TARGET]...", type=click.Choice([*TARGETS]))
@click.option("--seconds", default=600.0, show_default=True, help="Time for each target.")
def main(names: tuple[str, ...], seconds: float) -> None:
    """Try the named targets, or all. Exit status 1 when one broke."""
    faulthandler.enable()
    broken = []
    for name in names or TARGETS:
        began = time.monotonic()
        try:
            count = fuzz(name, TARGETS[name], seconds)
        except Exception as error:
            broken.append(name)
            click.echo(f"{name}: BROKEN after {time.monotonic() - began:.0f} s: {error!r:.300}")
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            click.echo(f"{name}: {count:,} examples in {time.monotonic() - began:.0f} s, nothing broke")
        sys.stdout.flush()
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
