"""Worker: `stillwatch worker` as a process of its own, asked from outside how far it is."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .contest import ROOT

PAUSE_SECONDS: Final = 0.1
_START_SECONDS: Final = 120
_END_SECONDS: Final = 60


class WorkerError(RuntimeError):
    """The worker ended, or did not get where it should in time."""


@dataclass
class Worker:
    """A running worker."""

    process: subprocess.Popen[bytes]
    port: int

    def ready(self) -> bool:
        """Whether its partitions are restored. Raises WorkerError when it has ended."""
        if self.process.poll() is not None:
            raise WorkerError(f"the worker ended with status {self.process.returncode}")
        try:
            self._ask("ready")
        except OSError:  # urllib's errors are among them: 503 is one
            return False
        return True

    def wait_until_ready(self) -> None:
        """Return when it is ready. Raises WorkerError when that takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.ready():
            if time.monotonic() > deadline:
                raise WorkerError(f"the worker was not ready within {_START_SECONDS} s")
            time.sleep(PAUSE_SECONDS)

    def requests(self) -> int:
        """How many requests it has processed."""
        return int(self.number('stillwatch_requests_total{outcome="counted"}'))

    def number(self, metric: str) -> float:
        """A number of /metrics, with its labels as they stand there; 0 where there is none."""
        for line in self._ask("metrics").splitlines():
            if line.startswith(f"{metric} "):
                return float(line.rsplit(maxsplit=1)[1])
        return 0.0

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text


@contextmanager
def worker(environment: Mapping[str, str]) -> Iterator[Worker]:
    """Start a worker, and end it afterwards with SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", "streams.cli", "worker"], cwd=ROOT, env=environment)
    try:
        yield Worker(process, int(environment["STILLWATCH_WEB_PORT"]))
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
