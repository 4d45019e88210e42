"""Programs that others ship and that a test starts."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from brokers import FOR_TESTS

START_SECONDS = 60.0


def program(name: str, how: str) -> str:
    """Its path. Where it is missing the test is skipped with how to get it, or fails where everything must be there."""
    found = shutil.which(name)
    if found is None:
        missing(f"needs {name}: {how}")
    return str(found)


def missing(text: str) -> None:
    """Skip the test, or fail it where everything must be there."""
    if FOR_TESTS.get("STILLWATCH_REQUIRE_KAFKA"):
        pytest.fail(text)
    pytest.skip(text)


@contextmanager
def started(
    command: Sequence[str],
    port: int,
    log: Path,
    environment: dict[str, str] | None = None,
    *,
    seconds: float = START_SECONDS,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server as a process of its own, which listens on a port within so many seconds; it ends with the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=log.parent)
    try:
        deadline = time.monotonic() + seconds
        while not answers(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    """Whether anybody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
