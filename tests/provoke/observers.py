"""Who watches: a Prometheus with our rules, an Alertmanager, and the people it tells.

Windows and waiting times of the rules are SHORTER and thresholds in seconds LOWER than in production. Nothing else is
changed.
"""

import json
import re
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

ROOT = Path(__file__).parents[2]
SHORTER = 20
LOWER = 6
UNITS = {"s": 1, "m": 60, "h": 3600}


def shortened(text: str) -> str:
    """The rules with windows and waiting times SHORTER, and thresholds in seconds LOWER."""

    def window(match: re.Match[str]) -> str:
        seconds = int(match[2]) * UNITS[match[3]] / SHORTER
        return f"{match[1]}{max(round(seconds), 5 if match[1] == '[' else 1)}s"

    text = re.sub(r"(\[)(\d+)([smh])(?=\])", window, text)
    text = re.sub(r"(for: )(\d+)([smh])", window, text)
    return re.sub(
        r"(_seconds(?:\{[^}]*\})?(?:\[[^\]]*\])?\)*) > (\d+)$", lambda found: f"{found[1]} > {int(found[2]) / LOWER:g}",
        text, flags=re.MULTILINE,
    )  # fmt: skip


@dataclass
class People:
    """Whom the Alertmanager and the forwarder tell, and when they told what."""

    told: list[tuple[float, str, str, dict[str, str]]] = field(default_factory=list)
    """When, firing or resolved, the alert's name, its labels."""
    hooked: list[tuple[float, str, str]] = field(default_factory=list)
    away: bool = False
    """The webhook answers 503."""

    async def manager(self, message: web.Request) -> web.Response:
        for one in (await message.json())["alerts"]:
            self.told.append((time.monotonic(), one["status"], one["labels"]["alertname"], one["labels"]))
        return web.Response()

    async def hook(self, message: web.Request) -> web.Response:
        if self.away:
            return web.Response(status=503)
        body = await message.json()
        self.hooked.append((time.monotonic(), body["state"], body["name"]))
        return web.Response()

    def first(self, status: str, name: str, since: float, of_topic: bool) -> float | None:
        """When it was first told after an instant. Alerts of the topic have a subject, those of the rules have none."""
        return next(
            (at for at, how, what, labels in self.told
             if at >= since and (how, what, "subject" in labels) == (status, name, of_topic)), None,
        )  # fmt: skip

    def firing(self) -> set[str]:
        """The alerts that were told last as firing."""
        last: dict[tuple[str, str], str] = {}
        for _, how, what, labels in self.told:
            last[what, json.dumps(labels, sort_keys=True)] = how
        return {what for (what, _), how in last.items() if how == "firing"}


def rules() -> list[dict[str, Any]]:
    """The groups of our rules, as in production."""
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "k8s/observe/rules.yaml").read_text())["groups"]
    return found


def observe(stack: ExitStack, folder: Path, ports: dict[str, int], here: str) -> None:
    """Start both servers; the stack ends them. `here` is where people are told."""
    _configure(folder, ports, here)
    _start(stack, folder, [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
    ])  # fmt: skip
    _start(stack, folder, [
        "prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
    ])  # fmt: skip


def _configure(folder: Path, ports: dict[str, int], here: str) -> None:
    (folder / "rules.yml").write_text(shortened((ROOT / "k8s/observe/rules.yaml").read_text()))
    targets = [f"127.0.0.1:{ports[name]}" for name in ("w0", "w1", "forwarder")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]}]},
        "scrape_configs": [{"job_name": "stillwatch", "static_configs": [{"targets": targets}]}],
    }))  # fmt: skip
    (folder / "alertmanager.yml").write_text(yaml.safe_dump({
        "route": {"receiver": "people", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s",
                  "repeat_interval": "1h"},
        "receivers": [{"name": "people", "webhook_configs": [{"url": f"{here}/people", "send_resolved": True}]}],
    }))  # fmt: skip


def _start(stack: ExitStack, folder: Path, command: list[str]) -> None:
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
