"""Contest: a contestant in its own process, what it is told and what it reports."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import msgspec

ROOT: Final = Path(__file__).parents[2]

_TIMEOUT_SECONDS: Final = 1_800
_REPORT: Final = "report.json"
_LOG_LINES: Final = 20

T = TypeVar("T", bound="Report")


class ContestError(RuntimeError):
    """A contestant failed; the message holds the end of what it wrote."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a contestant is told."""

    records: int
    """How many to read; the topic may hold more. For `shelf`, how many profiles."""
    brokers: str = ""
    topic: str = ""
    partitions: int = 1
    group: str = ""
    """A consumer group that nobody used before."""
    session_seconds: float = 45
    """Silence after which the group gives a member up; the embedded broker makes who joins wait for half of it."""
    detectors: bool = True
    """For Stillwatch: with its learning detectors, or with signals and policy only."""
    recording: str = ""
    """For `replay`: the file that holds the records as lines."""
    folder: str = ""
    """Where it may write; the report goes there, and all is gone afterwards."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What any contestant reports."""

    peak_mb: float
    began_at: float
    """When its first record came, s since 1970."""


class Run(Report, frozen=True, kw_only=True):
    """Reading records from the first to the last. Starting up is no part of it."""

    records: int
    seconds: float
    cpu_seconds: float
    """Of all its threads."""
    verdicts: int = 0

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds


class Meter:
    """Counts a contestant's records, from inside it."""

    def __init__(self, told: Task) -> None:
        self._told = told
        self.seen = 0
        self.verdicts = 0

    def begin(self) -> None:
        """Call when records are at hand; all but the first call do nothing."""
        if not self.seen:
            self._began_at, self._began, self._cpu = time.time(), time.perf_counter(), cpu_seconds()

    def add(self, records: int) -> bool:
        """Count records that are done. True when these were the last: the report is written."""
        self.seen += records
        if self.seen < self._told.records:
            return False
        run = Run(
            records=self.seen,
            seconds=time.perf_counter() - self._began,
            cpu_seconds=cpu_seconds() - self._cpu,
            peak_mb=peak_mb(),
            began_at=self._began_at,
            verdicts=self.verdicts,
        )
        report(self._told, run)
        return True


def task() -> Task:
    """The task this process was started with."""
    return msgspec.json.decode(sys.argv[1], type=Task)


def report(told: Task, found: Report) -> None:
    """Hand in the report of this process."""
    (Path(told.folder) / _REPORT).write_bytes(msgspec.json.encode(found))


def compete(module: str, told: Task, environment: dict[str, str], kind: type[T]) -> tuple[T, float]:
    """Run a contestant to its end: its report, and the seconds from its start to its first record.

    Raises ContestError when it ends without a report.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        told = msgspec.structs.replace(told, folder=scratch)
        command = [sys.executable, "-m", f"{__package__}.contestants.{module}", msgspec.json.encode(told).decode()]
        started_at = time.time()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                status = process.wait(_TIMEOUT_SECONDS)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if not (folder / _REPORT).exists():
            _fail(module, status, folder / "log")
        found = msgspec.json.decode((folder / _REPORT).read_bytes(), type=kind)
    return found, found.began_at - started_at


def peak_mb() -> float:
    """The most memory this process ever held, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would also count the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1_024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _fail(module: str, status: int, log: Path) -> NoReturn:
    last = log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
    raise ContestError("\n".join([f"{module} ended with status {status} and no report:", *last]))


def cpu_seconds() -> float:
    """CPU time of all threads of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
