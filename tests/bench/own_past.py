"""What an account's own past would add: `python -m tests.bench.own_past`, some ten minutes.

The arena's honest accounts and some of its attacks are played, and every lesson that the detectors are given (an
account's features, at most every quarter of an hour) is followed in two ways that Stillwatch does not use:

- **E-values in CUSUM form.** A lesson's conformal p against everybody becomes the e-value 0.5 / sqrt(p), and these are
  summed as max(log E, 0) + log e. Were lessons of one account independent and alike to everybody's, the mean number of
  lessons to a false alarm at log E > log(1 / alpha) would be at least 1 / alpha. That is a promise on the average run
  length to a false alarm, not on the probability of one in an account's life.
- **ADWIN on each feature of one account** (River's): has this account changed?

It prints the share of honest accounts of each kind that either would alarm on, and how much of what it asked for each
attack had got by then.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import click
import numpy as np
from river.drift import ADWIN

from models.detector import FloatMatrix, FloatVector, IntVector
from sinks.policy import Policy
from streams.evaluate.judge import Ledger
from streams.evaluate.play import batches, sent, stripped
from streams.features import DETECTOR_FEATURES
from streams.pipeline import LESSON_MS, Pipeline
from streams.profiles import Block
from streams.replay import Recorded
from streams.simulate.prompts import Prompts
from streams.simulate.stream import MONDAY, Stream

from .town import attacked, neighbours

DAY_MS: Final = 86_400_000
FAMILIES: Final = ("bulk", "coercion", "multimodal", "pivot", "search", "templates")
WATCHED: Final = (
    "output_length", "input_length", "reasoning_share", "requests_hour", "topic_spread", "fresh_share",
    "single_turn_share", "addresses", "cue_share",
)  # fmt: skip
ALPHA: Final = 1e-4
LEAST: Final = 8


class Lesson(NamedTuple):
    """What is known of an account at one lesson; `requests` it had sent by then."""

    requests: int
    tail: float
    view: FloatVector


class Listening(Pipeline):
    """The pipeline, telling what it teaches its detectors."""

    def __init__(self) -> None:
        super().__init__(Policy.load())
        self.lessons: dict[str, list[Lesson]] = defaultdict(list)

    def _learn(self, rows: IntVector, block: Block, view: FloatMatrix) -> None:
        due = np.flatnonzero(block["at"] - block["taught_at"] >= LESSON_MS)
        if len(due):
            tails = self._learned.tails(view[due]).tolist()
            requests = block["totals"][due, 0].astype(int).tolist()
            for row, *told in zip(rows[due].tolist(), requests, tails, view[due], strict=True):
                self.lessons[self.profiles.name(row)].append(Lesson(*told))
        super()._learn(rows, block, view)


def cusum(tails: Sequence[float]) -> FloatVector:
    """log E after each lesson, from conformal p-values: max(log E, 0) + log(0.5 / sqrt(p))."""
    found, total = [], 0.0
    for tail in tails:
        total = max(total, 0.0) + float(np.log(0.5) - 0.5 * np.log(max(tail, 1e-12)))
        found.append(total)
    return np.array(found)


def changes(views: FloatMatrix) -> Iterator[int]:
    """Lessons at which River's ADWIN holds one of the WATCHED features of an account for changed."""
    for name in WATCHED:
        window = ADWIN(delta=ALPHA, clock=1)  # type: ignore[no-untyped-call]
        for number, value in enumerate(views[:, DETECTOR_FEATURES.index(name)].tolist()):
            if not np.isnan(value):
                window.update(value)  # type: ignore[no-untyped-call]
                if window.drift_detected:
                    yield number


def first_alarms(lessons: Sequence[Lesson]) -> tuple[int | None, int | None]:
    """Requests sent by the first alarm of the CUSUM and of ADWIN; None: it never comes."""
    crossed = np.flatnonzero(cusum([one.tail for one in lessons]) > -np.log(ALPHA))
    changed = min(changes(np.array([one.view for one in lessons])), default=None)
    return (
        lessons[int(crossed[0])].requests if len(crossed) else None,
        None if changed is None else lessons[changed].requests,
    )


def played(stream: Stream) -> tuple[Listening, Ledger]:
    """All of a stream through a pipeline of its own."""
    pipeline, ledger, strip, offset = Listening(), Ledger(), stripped(()), 0
    for batch in batches(sent(request, strip) for request in stream):
        for one in batch:
            ledger.send(one.account, one.at, one.reasoning, one.output)
        pipeline.process([Recorded(None, one.line, offset + number) for number, one in enumerate(batch)])
        offset += len(batch)
    return pipeline, ledger


def honest(days: int) -> None:
    """Alarms on honest accounts, by kind."""
    prompts, end_at = Prompts(1), MONDAY + days * DAY_MS
    stream = Stream(neighbours(1, prompts, end_at, people=200), prompts, MONDAY, end_at)
    pipeline, _ = played(stream)
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for label in stream.labels:
        lessons = pipeline.lessons[label.account]
        if len(lessons) >= LEAST:
            summed, changed = first_alarms(lessons)
            found[label.kind].append((summed is not None, changed is not None))
    everyone = [one for alarms in found.values() for one in alarms]
    click.echo("honest accounts            accounts     e-values     ADWIN   (share with an alarm)")
    for kind, alarms in [*sorted(found.items()), ("all", everyone)]:
        summed, changed = np.mean(np.array(alarms), axis=0)
        click.echo(f"{kind:24} {len(alarms):10,} {summed:12.0%} {changed:9.0%}")


def attack(family: str, days: int) -> None:
    """How much of what it asks for an attack has got at its first alarm."""
    stream = attacked(family, 1, days)
    pipeline, ledger = played(stream)
    own = [label.account for label in stream.labels if label.label == "attack"]
    wanted = {account: ledger.accounts[account].sent for account in own}
    got = [first_alarms(pipeline.lessons[account]) for account in own]
    shares = [
        sum(
            wanted[account] if alarm[which] is None else alarm[which] or 0
            for account, alarm in zip(own, got, strict=True)
        )
        / sum(wanted.values())
        for which in (0, 1)
    ]
    click.echo(f"{family:24} {len(own):10,} {shares[0]:12.0%} {shares[1]:9.0%}   (share served before)")


@click.command()
@click.option("--days", default=10, show_default=True, type=click.IntRange(2), help="Days of honest traffic.")
@click.option("--family", "families", multiple=True, default=FAMILIES, help="Family of attacks; may be repeated.")
def main(days: int, families: tuple[str, ...]) -> None:
    honest(days)
    for family in families:
        attack(family, 3)


if __name__ == "__main__":
    main()
