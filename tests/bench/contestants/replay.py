"""Replay: the same records from a file, without Kafka."""

from pathlib import Path

from sinks.policy import Policy
from streams.commands.process import settle
from streams.pipeline import Pipeline
from streams.replay import Recording, replay
from streams.tally import Tally

from ..contest import Meter, task

if __name__ == "__main__":
    settle()
    told = task()
    meter = Meter(told)
    tally = Tally(None)
    meter.begin()
    for step in replay(Recording([Path(told.recording)]), [Pipeline(Policy.load())]):
        tally.add(step)
        meter.verdicts += len(step.outcome.decisions)
        meter.add(len(step.records))
