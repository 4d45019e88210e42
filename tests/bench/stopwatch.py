"""Stopwatch: the CPU time that named functions take for themselves."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stopwatch:
    """CPU seconds by stage, each without those of the stages called from it.

    CPU time and not time of day: a stage takes microseconds, and other processes shall not count.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._within: list[float] = []
        """For each call under way, the time that stages called from it took."""

    def watch(self, owner: object, name: str, stage: str) -> None:
        """From now on count calls of `owner.name` for `stage`. Raises AttributeError when there is none."""
        setattr(owner, name, self.timed(getattr(owner, name), stage))

    def timed(self, function: Callable[P, R], stage: str) -> Callable[P, R]:
        """The same function, its time counted for `stage`."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            self._within.append(0.0)
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - started
                self.seconds[stage] += took - self._within.pop()
                if self._within:
                    self._within[-1] += took

        return call
