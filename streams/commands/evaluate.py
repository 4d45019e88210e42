"""`stillwatch evaluate`: what attacks got, and whom the detector met wrongly."""

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from .process import settle
from .terminal import BAD_INPUT, console, fail, opened

FEWER: Final[dict[str, int]] = {"parts": 1, "crowd": 100, "each": 1}
"""Without fields everything is played nine times over: so fewer honest accounts. But for as long, or nobody would know
which of them are of extraction size."""

WITHOUT_TRAITS: Final[dict[str, float]] = {"parts": 0, "wide_days": 8.0}
"""Without traits every look is made eight times over, and only groups are of interest."""


@click.command()
@click.option("--traces", type=click.Path(path_type=Path), help="Play the recordings in this folder as well.")
@click.option("--tools", type=click.Path(path_type=Path), help="Play the attacks recorded in this folder as well.")
@click.option("--report", "out", type=click.Path(path_type=Path), help="Write all numbers here as JSON.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Seed of the streams; may be repeated.  [default: 1]")
@click.option("--family", "families", multiple=True, help="Family to play, or none; may be repeated.  [default: all]")
@click.option("--crowd", "crowds", multiple=True, help="Honest crowd, or none; may be repeated.  [default: all]")
@click.option("--without", "dropped", multiple=True, help="Evidence the detector goes without; may be repeated.")
@click.option("--without-field", "without", multiple=True, help="Field no request has, such as ip; may be repeated.")
@click.option("--ablations", is_flag=True, help="Tell what each kind of evidence is worth; leaves the baselines out.")
@click.option("--away", is_flag=True, help="Tell which fields give each family away; leaves the baselines out.")
@click.option("--without-traits", "traits", is_flag=True, help="Tell what campaigns get without each kind of trait.")
@click.option("--policy", type=click.Path(path_type=Path), help="Policy file in place of the packaged one.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw share served against false actions: PNG, SVG.")
@click.option("--processes", type=click.IntRange(1), help="Processes side by side.  [default: one for each core]")
def evaluate(
    traces: Path | None,
    tools: Path | None,
    out: Path | None,
    seeds: tuple[int, ...],
    families: tuple[str, ...],
    crowds: tuple[str, ...],
    dropped: tuple[str, ...],
    without: tuple[str, ...],
    ablations: bool,
    away: bool,
    traits: bool,
    policy: Path | None,
    picture: Path | None,
    processes: int | None,
) -> None:
    """Play attacks and honest traffic against the detector and two baselines: minutes, not hours.

    It tells what each family of attacks got before the detector acted, and whom it met wrongly. The same options
    give the same report.
    """
    from importlib.util import find_spec

    settle()
    if picture is not None and find_spec("matplotlib") is None:
        fail("--picture needs matplotlib: install the extra `pictures`", BAD_INPUT)

    from sinks.policy import Policy, PolicyError

    from ..evaluate import report as reporting
    from ..evaluate.arena import Plan, jobs
    from ..evaluate.arena import evaluate as played
    from ..evaluate.away import away_table
    from ..evaluate.groups import gathered_table, hunted_table
    from ..evaluate.kinds import missed_table
    from ..replay import RecordingError
    from ..simulate.crowds import CROWDS
    from ..simulate.families import FAMILIES

    chosen = tuple(name for name in families if name != "none") if families else tuple(FAMILIES)
    gathering = tuple(name for name in crowds if name != "none") if crowds else tuple(CROWDS)
    if traits:
        chosen = chosen if families else tuple(name for name in FAMILIES if name.startswith(("split", "hydra")))
        gathering = gathering if crowds else ()
    try:
        plan = Plan(
            seeds=seeds or (1,), families=chosen, crowds=gathering, traces=traces, tools=tools, without=without,
            dropped=dropped, ablations=ablations, away=away, traits=traits, policy=policy,
        )  # fmt: skip
        plan = replace(plan, **(FEWER if away else WITHOUT_TRAITS if traits else {}))
        Policy.load(policy)
    except (ValueError, PolicyError) as error:
        fail(error, BAD_INPUT)
    try:
        todo = len(jobs(plan))
    except (OSError, ValueError) as error:
        fail(error, BAD_INPUT)
    click.echo(f"seeds {', '.join(map(str, plan.seeds))}; {todo} streams", err=True)
    with ExitStack() as stack:
        file = opened(stack, out)
        try:
            results = played(
                plan,
                processes=processes or os.cpu_count() or 1,
                done=lambda job: click.echo(f"played {job.kind} {job.name}, seed {job.seed}", err=True),
            )
            found = reporting.report(plan, results)
        except (OSError, ValueError, RecordingError) as error:
            fail(error, BAD_INPUT)
        if file:
            file.write(reporting.encoded(found))
    screen = console()
    if found.watchers["stillwatch"].families:
        screen.print(reporting.families_table(found))
    if found.campaigns:
        screen.print(hunted_table(found.campaigns))
    if found.crowds:
        screen.print(gathered_table(found.crowds))
    screen.print(reporting.honest_table(found))
    screen.print(reporting.reliability_table(found))
    if ablations:
        screen.print(reporting.ablations_table(found))
    if traits:
        screen.print(missed_table(found.traits))
    if away:
        ours = found.watchers["stillwatch"]
        served = {family.family: family.before["throttle"] for family in ours.families}
        screen.print(away_table(served, ours.all_honest.acted["throttle"], found.away))
    click.echo(f"seeds {', '.join(map(str, found.seeds))}; policy {found.policy}; model {found.model}")
    for sentence in (found.simulated, found.recorded):
        if sentence:
            click.echo(sentence)
    if picture is not None:
        from ..evaluate.picture import draw

        click.echo(f"drawn: {', '.join(map(str, draw(found, picture)))}")
