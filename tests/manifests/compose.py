"""Compose: docker-compose.yml as Docker understands it, and its services as processes, for there is no engine in CI."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkers import run, tool
from deployment import ROOT

FILE = ROOT / "docker-compose.yml"


def services() -> dict[str, dict[str, Any]]:
    """The services, every default and shorthand spelt out. AssertionError when Compose refuses the file."""
    done = run(tool("docker-compose"), "--file", FILE, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def kafka_properties(environment: dict[str, str]) -> dict[str, str]:
    """What Kafka's image makes of its variables: KAFKA_NODE_ID becomes node.id."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }


@dataclass
class Process:
    """A service of the stack without its container."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """The end of what it logged."""
        return f"--- {self.name}\n{self.log.read_text()[-3000:]}"


@dataclass
class Stack:
    """Services as processes: their command and environment from the file, hosts and ports those of this machine."""

    folder: Path
    elsewhere: dict[str, str]
    """What a service calls `host:port`, and where it is here."""
    images: dict[str, list[str]]
    """What an image runs before a service's command."""
    running: list[Process] = field(default_factory=list)

    def start(self, name: str, *arguments: str, **more: str) -> Process:
        """Start a service; `arguments` in place of its command."""
        service = services()[name]
        command = [*self.images[service["image"]], *(arguments or service["command"])]
        environment = {key: self._here(value) for key, value in service["environment"].items()} | more
        log = self.folder / f"{name}-{len(self.running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], **environment},
                stdout=out,
                stderr=out,
            )
        self.running.append(Process(name, process, log))
        return self.running[-1]

    def end(self) -> None:
        """End whatever still runs."""
        for each in self.running:
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait()

    def _here(self, value: str) -> str:
        for there, here in self.elsewhere.items():
            value = value.replace(there, here)
        return value
