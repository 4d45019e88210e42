"""Memory: how much of it this process may use."""

from pathlib import Path
from typing import Final

ROOT: Final = Path("/")

_UNLIMITED: Final = 1 << 60
"""The first version of control groups states no limit as a number about this large."""


def limit_bytes(root: Path = ROOT) -> int:
    """The limit of our control group, of either version, or the machine's memory; 0 where neither can be read."""
    groups = root / "sys/fs/cgroup"
    for place in (groups / _own_group(root) / "memory.max", groups / "memory.max",
                  groups / "memory/memory.limit_in_bytes"):  # fmt: skip
        text = _read(place)
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _own_group(root: Path) -> str:
    """Our group's place below the root: in a container usually the root itself."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        if number == "0":
            return rest.rpartition(":")[2].lstrip("/")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
