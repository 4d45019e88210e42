"""Machine: where a figure was measured, without which it means nothing."""

import os
import platform
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """What a figure depends on besides the code."""

    cpu: str
    cores: int
    python: str
    broker: str
    load: float
    """Processes that wanted to run in the minute before: above 0, others took their share."""

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores (load {self.load:.1f} before), Python {self.python}, {self.broker}"


def machine(broker: str) -> Machine:
    """This machine, now."""
    return Machine(_cpu(), os.cpu_count() or 1, platform.python_version(), broker, os.getloadavg()[0])


def _cpu() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
