"""What people's judgement is worth: `python -m tests.bench.judged`, some twenty minutes.

Two weeks of one seed: honest accounts, lookalikes, some attacks, one platform. At the end of each day somebody looks
at the accounts with the highest scores that nobody has looked at yet, and says of each what it is (`confirmed` or
`false_alarm`, as on the feedback topic). What was learned by then goes on to other accounts, of another seed: families
that people have met and families that they have not, and two weeks of honest accounts.

It prints the share of each family's requests served before a throttle, on an account's own evidence, with the judgement
and without it, and the most that spoke against an honest account. All of it is simulated, and nobody is ever wrong.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import click
import numpy as np

from gateway.feedback import Feedback, encode
from streams.evaluate.play import Table, batches, sent, stripped
from streams.evaluate.watchers import OWN, Stillwatch, Without
from streams.pipeline import Pipeline
from streams.replay import Recorded
from streams.simulate.accounts import DAY_MS
from streams.simulate.families import campaigns
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY, Stream

from .town import Accounts, accused, attacked, neighbours, peaceful, played, policy_for, served

MET: Final = ("harvest", "bulk", "templates", "coercion", "drip", "slow search")
"""Families that people have seen."""

NEW: Final = ("sweep", "multimodal", "feedback", "human", "randomised", "paraphrased", "slow pivot")
"""Others."""

JUDGEMENT: Final = "judgement"


class People:
    """They look at some accounts a day, know what each is, and say so."""

    def __init__(self, truth: Mapping[str, bool], a_day: int) -> None:
        self._truth = truth
        self._a_day = a_day
        self.said: dict[str, bool] = {}
        """What they said of each account: whether it is an attacker's."""

    def look(self, pipeline: Pipeline, at: int) -> None:
        """Look at the accounts of a pipeline with the highest scores that they have not looked at."""
        scores = pipeline.profiles.table["score"]
        by_score = (pipeline.profiles.name(row) for row in np.argsort(-scores, kind="stable").tolist() if scores[row])
        chosen = [name for name in by_score if name not in self.said][: self._a_day]
        self.said.update((name, self._truth[name]) for name in chosen)
        pipeline.hear([Recorded(None, encode(self._message(name, at)), len(self.said)) for name in chosen])

    def _message(self, name: str, at: int) -> Feedback:
        return Feedback(
            id=f"look-{name}", at=at, scope="account", value=name,
            kind="confirmed" if self._truth[name] else "false_alarm", by="people", reason="looked at it",
        )  # fmt: skip


def history(seed: int, days: int, a_day: int) -> tuple[bytes, dict[str, bool]]:
    """Models that have seen some days and what people said in them, and what that was."""
    prompts, end_at = Prompts(seed), MONDAY + days * DAY_MS
    accounts = neighbours(seed, prompts, end_at)
    for number, family in enumerate(MET):
        begins_at = MONDAY + (2 + number) * DAY_MS
        accounts += campaigns([family], seed, MONDAY, begins_at + 3 * DAY_MS, prompts, begins_at)
    stream = Stream(accounts, prompts, MONDAY, end_at)
    detector = Stillwatch(policy_for(stream))
    people = People({label.account: label.label == "attack" for label in stream.labels}, a_day)
    table, today = Table(detector), MONDAY // DAY_MS
    for batch in batches(sent(request, stripped(())) for request in stream):
        table.take(batch)
        if batch[-1].at // DAY_MS > today:
            today = batch[-1].at // DAY_MS
            people.look(detector.pipeline, batch[-1].at)
    return detector.pipeline.snapshot_models(), people.said


def judged(stream: Stream, models: bytes) -> tuple[Accounts, Accounts]:
    """What the accounts of a stream met with these models, on their own evidence: with judgement and without."""
    detector = Stillwatch(policy_for(stream))
    detector.pipeline.restore_models(models)
    found = played(
        stream, {"detector": detector, OWN: Without(detector, None), JUDGEMENT: Without(detector, JUDGEMENT)}
    )
    return found[OWN], found[JUDGEMENT]


@click.command()
@click.option("--days", default=14, show_default=True, type=click.IntRange(10), help="Days that people look.")
@click.option("--a-day", default=5, show_default=True, type=click.IntRange(1), help="Accounts they look at a day.")
@click.option("--family", "families", multiple=True, default=(*MET, *NEW), help="Family of attacks; may be repeated.")
def main(days: int, a_day: int, families: Iterable[str]) -> None:
    models, said = history(2, days, a_day)
    attacks = sum(said.values())
    click.echo(f"people looked at {len(said)} accounts: {attacks} attackers, {len(said) - attacks} honest")
    click.echo("served before a throttle              judged      without   points")
    for family in families:
        stream = attacked(family, 1)
        with_it, without = (served(stream, accounts) for accounts in judged(stream, models))
        kind = "met" if family in MET else "new"
        click.echo(f"{family:24} {kind:8} {with_it:10.1%} {without:12.1%} {100 * (without - with_it):+8.1f}")
    stream = peaceful(1)
    for words, accounts in zip(("judged", "without"), judged(stream, models), strict=True):
        thrown, all_days, highest = accused(stream, accounts)
        click.echo(f"honest, {words}: {thrown:,} of {all_days:,} account-days throttled, highest score {highest:.2f}")


if __name__ == "__main__":
    main()
