"""What the README says is so: its commands run, its tables are those of the code."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from brokers import Broker

from gateway.verdict import Verdict, encode
from models.judgement import CAP as JUDGEMENT_CAP
from models.score import ANOMALY_CAP
from models.signals import SIGNALS
from streams.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = README.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    (commands,) = (block for block in blocks("") if "make demo" in block)
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text().splitlines()}
    for line in commands.splitlines():
        assert line.split()[0] == "make"
        assert line.split()[1] in targets


def test_the_tour_runs_line_by_line(embedded: Broker, tmp_path: Path) -> None:
    (tour,) = blocks("sh")
    environment = {**os.environ, **embedded.environment(), "PATH": f"{BIN}:{os.environ['PATH']}"}
    for line in tour.splitlines():
        # The reader's broker is ours, and a worker runs until it is told to end.
        command = re.sub(r"STILLWATCH_BROKERS=\S+ ", "", line.partition("  #")[0])
        command = command.partition("&& stillwatch worker")[0]
        done = subprocess.run(
            ["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "verdicts.jsonl").exists()


def test_the_reader_of_the_enforcement_topic_works(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = blocks("python")
    now_ms = time.time_ns() // 1_000_000
    verdict = Verdict(
        id="1", at=now_ms, seq=1, scope="account", value="eve", action="throttle", score=0.93,
        parameters={"rpm": 20.0}, expires_at=now_ms + 1_000, policy="p", model="m",
    )  # fmt: skip

    exec(snippet, {"record": SimpleNamespace(value=encode(verdict)), "now_ms": now_ms})
    assert capsys.readouterr().out == "throttle eve {'rpm': 20.0} []\n"


def test_the_table_of_signals_is_that_of_the_code() -> None:
    expected = [
        [f"`{name}`", (signal.terms.__doc__ or "").split(".\n")[0].replace("\n   ", ""), f"{signal.cap:g}"]
        for name, signal in SIGNALS.items()
    ]
    expected.append(["`anomaly`", "Unlike the crowd: three detectors that learn online agree.", f"{ANOMALY_CAP:g}"])
    judged = "What people confirmed looked like this; what they cleared counts against it as much."
    expected.append(["`judgement`", judged, f"{JUDGEMENT_CAP:g}"])
    assert [[cells[0], cells[1].rstrip("."), cells[2]] for cells in rows("What it sees")] == [
        [name, text.rstrip("."), cap] for name, text, cap in expected
    ]


def test_the_table_of_settings_is_that_of_the_code() -> None:
    described = [[f"`{row.variable}`", row.default and f"`{row.default}`", row.text] for row in Settings().describe()]
    assert rows("Settings") == described
