"""Memory: how much of it this process may use."""

from pathlib import Path
from typing import Final

ROOT: Final = Path("/")

_UNLIMITED: Final = 1 << 60
"""The first version of control groups states no limit as a number about this large."""


def limit_bytes(root: Path = ROOT) -> int:
    """The limit of our control group, of either version, or the machine's memory; 0 where neither can be read."""
    groups = root / "sys/fs/cgroup"
    second, first = _own_groups(root)
    for place in (
        groups / second / "memory.max",
        groups / "memory.max",
        groups / "memory" / first / "memory.limit_in_bytes",
        groups / "memory/memory.limit_in_bytes",
    ):
        text = _read(place)
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _own_groups(root: Path) -> tuple[str, str]:
    """Our group's place below the root, in the second version of control groups and in the first; in a container it is
    usually the root itself.
    """
    second = first = ""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if number == "0":
            second = place.lstrip("/")
        elif "memory" in controllers.split(","):
            first = place.lstrip("/")
    return second, first


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
