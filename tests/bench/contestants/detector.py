"""The whole detector: the worker as it runs in production, with a count of what it has processed."""

import os
import signal
import sys
from collections.abc import Sequence

import numpy as np

from models.detector import FloatMatrix, FloatVector, IntVector
from models.ensemble import Ensemble
from sinks.policy import Policy
from streams import app
from streams.batch import Record
from streams.commands.process import settle
from streams.features import DETECTOR_FEATURES
from streams.pipeline import Outcome, Pipeline
from streams.settings import Settings

from ..contest import Meter, task

TOLD = task()
METER = Meter(TOLD)


class Silent(Ensemble):
    """No detectors at all: nothing looks strange, and nothing is learned."""

    def tail_many(self, X: FloatMatrix) -> FloatVector:
        return np.ones(len(X))

    def learn_many(self, X: FloatMatrix, groups: IntVector | None = None) -> None:
        pass


class Counted(Pipeline):
    """A pipeline that says when the last record of the contest is done, and then ends the worker in its own way."""

    def __init__(self, policy: Policy, *, partitions: int) -> None:
        detector = None if TOLD.detectors else Silent(features=DETECTOR_FEATURES)
        super().__init__(policy, detector=detector, partitions=partitions)

    def process(self, records: Sequence[Record]) -> Outcome:
        METER.begin()
        outcome = super().process(records)
        METER.verdicts += len(outcome.decisions)
        # Requests that a profile already held would be cheap, and a mistake of the bench.
        if outcome.requests != len(records):
            sys.exit(f"of {len(records)} records {outcome.requests} were counted")
        if METER.add(len(records)):
            os.kill(os.getpid(), signal.SIGTERM)
        return outcome


if __name__ == "__main__":
    settle()
    # The worker builds its pipelines itself.
    setattr(app, Pipeline.__name__, Counted)
    sys.exit(app.worker(Settings.read(os.environ)))
