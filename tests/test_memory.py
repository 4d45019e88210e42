"""Memory: the limit of a container, of either version of control groups, or the machine's."""

from pathlib import Path

import pytest

from streams.engine.memory import limit_bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place(tmp_path, "proc/meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB\n")
    return tmp_path


def place(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_container_has_the_limit_of_its_group(root):
    place(root, "sys/fs/cgroup/memory.max", "536870912\n")
    assert limit_bytes(root) == 536_870_912


def test_a_service_has_the_limit_of_its_own_group_below_the_root(root):
    place(root, "proc/self/cgroup", "0::/system.slice/stillwatch.service\n")
    place(root, "sys/fs/cgroup/system.slice/stillwatch.service/memory.max", "1000\n")
    assert limit_bytes(root) == 1_000


def test_the_first_version_of_control_groups_counts_too(root):
    place(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n")
    assert limit_bytes(root) == 2_000
    place(root, "proc/self/cgroup", "4:memory:/workers/one\n1:cpu:/\n0::/\n")
    place(root, "sys/fs/cgroup/memory/workers/one/memory.limit_in_bytes", "1500\n")
    assert limit_bytes(root) == 1_500


@pytest.mark.parametrize(
    ("name", "text"),
    [("memory.max", "max\n"), ("memory/memory.limit_in_bytes", "9223372036854771712\n")],
)
def test_without_a_limit_it_is_the_machines_memory(root, name, text):
    place(root, f"sys/fs/cgroup/{name}", text)
    assert limit_bytes(root) == 1_048_576


def test_where_nothing_can_be_read_it_is_unknown(tmp_path):
    assert limit_bytes(tmp_path) == 0
