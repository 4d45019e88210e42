"""Brokers: the embedded one, and a real Apache Kafka, for tests that need the wire."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from streams.engine.embedded import embedded

FOR_TESTS = {
    name: os.environ.pop(name)
    for name in (
        "STILLWATCH_KAFKA",
        "STILLWATCH_REQUIRE_KAFKA",
        "STILLWATCH_CHAOS_SEED",
        "STILLWATCH_CHAOS_ROUNDS",
        "STILLWATCH_ADAPTERS",
        "STILLWATCH_VLLM",
    )
    if name in os.environ
}
"""What is said to the tests, taken out of the environment: the workers they start refuse what they do not know."""

VERSION = "4.3.1"
CACHE = Path(__file__).parents[1] / ".kafka"
HOW_TO = "needs Apache Kafka: install Java 17 and Maven, or set STILLWATCH_KAFKA=host:port"
START_SECONDS = 60
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""For Java: start with half the work, and never become as fast as it could. Not for measurements."""

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


class NoKafkaError(RuntimeError):
    """There is no Kafka here; the message says what is missing."""


@dataclass
class Broker:
    """A broker, and the settings that lead a worker to it."""

    name: str
    address: str
    settings: dict[str, str] = field(default_factory=dict)
    java: "Java | None" = None
    """The process, where it is ours to kill."""

    def environment(self, **more: str) -> dict[str, str]:
        """Settings of one test: its own topics and group."""
        prefix = f"t{uuid.uuid4().hex[:10]}."
        return {
            "STILLWATCH_BROKERS": self.address,
            "STILLWATCH_REPLICATION": "1",
            "STILLWATCH_TOPIC_PREFIX": prefix,
            "STILLWATCH_GROUP": prefix + "group",
            "STILLWATCH_PARTITIONS": "4",
            "STILLWATCH_WEB_PORT": str(free_port()),
            "STILLWATCH_SESSION_SECONDS": "6",
            "STILLWATCH_CHECKPOINT_SECONDS": "1",
            **self.settings,
            **more,
        }


@dataclass
class Java:
    """A Kafka process that can be ended, killed, frozen and started anew on the same data."""

    command: list[str]
    address: str
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NoKafkaError(f"Kafka ended at once; see {self.log}")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise NoKafkaError(f"Kafka did not answer within {START_SECONDS} s; see {self.log}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait for it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


_kept: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on; on Linux it is ours while this process runs, for tests run side by side."""
    kept = socket.socket()
    # It stays bound, yet a server may listen there: servers set this too.
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port: int = kept.getsockname()[1]
    if sys.platform == "linux":
        _kept.append(kept)
    else:
        kept.close()
    return port


@contextmanager
def embedded_broker() -> Iterator[Broker]:
    """The broker of the extra `embedded`."""
    with embedded() as running:
        yield Broker("embedded", running.address, running.environment())


@contextmanager
def kafka_broker(folder: Path, java: Sequence[str] = QUICK) -> Iterator[Broker]:
    """Apache Kafka: the one STILLWATCH_KAFKA names, or our own. Raises NoKafkaError where there is neither."""
    address = FOR_TESTS.get("STILLWATCH_KAFKA")
    if address:
        yield Broker("kafka", address)
        return
    process = own_kafka(folder, java=java)
    try:
        process.start()
        yield Broker("kafka", process.address, java=process)
    finally:
        process.end()


def own_kafka(
    folder: Path,
    *,
    client: str = "PLAINTEXT",
    more: str = "",
    formatting: Iterable[str] = (),
    java: Sequence[str] = QUICK,
) -> Java:
    """A broker of our own on 127.0.0.1. Clients talk to it as `client` says; `more` are lines of its configuration,
    `formatting` arguments for its storage tool, `java` for Java itself.
    """
    port, controller = free_port(), free_port()
    config = folder / "server.properties"
    config.write_text(
        f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CLIENT:{client},CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={folder / "logs"}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
{more}"""
    )
    return configured(config, f"127.0.0.1:{port}", ("--standalone", *formatting), java)


def configured(config: Path, address: str, formatting: Iterable[str], java: Sequence[str] = QUICK) -> Java:
    """A broker with a configuration of its own, its storage formatted; it will answer at `address`."""
    # No logging framework is configured on purpose: a quiet broker starts faster.
    program = ["java", *java, "-Xms256m", "-Xmx512m", "-cp", f"{_jars()}/*"]
    storage = subprocess.run(
        [*program, "kafka.tools.StorageTool", "format", "-t", _cluster(), "-c", str(config), *formatting],
        capture_output=True,
        text=True,
    )
    if storage.returncode:
        raise NoKafkaError(f"Kafka could not format its storage: {storage.stdout}{storage.stderr}")
    return Java([*program, "kafka.Kafka", str(config)], address, config.with_name("kafka.log"))


def _cluster() -> str:
    return "c3RpbGx3YXRjaC10ZXN0cw"  # 16 bytes in base64, as Kafka wants them


def _jars() -> Path:
    """The folder of Kafka's jars, fetched once through Maven."""
    jars = CACHE / VERSION / "libs"
    if jars.is_dir():
        return jars
    if not (shutil.which("java") and shutil.which("mvn")):
        raise NoKafkaError(HOW_TO)
    jars.parent.mkdir(parents=True, exist_ok=True)
    with (jars.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():  # or another process fetched them meanwhile
            _fetch(jars)
    return jars


def _fetch(jars: Path) -> None:
    partial = jars.parent / "partial"
    partial.mkdir(exist_ok=True)
    (partial / "pom.xml").write_text(POM)
    fetched = subprocess.run(
        [
            *("mvn", "-q", "-B", "-f", str(partial / "pom.xml"), "dependency:copy-dependencies"),
            *("-DincludeScope=runtime", f"-DoutputDirectory={partial / 'libs'}"),
        ],
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        shutil.rmtree(partial)
        raise NoKafkaError(f"{HOW_TO} (Maven could not fetch it: {fetched.stdout.strip()[:300]})")
    (partial / "libs").rename(jars)
    shutil.rmtree(partial)
