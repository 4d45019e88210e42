"""Dockerfiles: their instructions, and a build of a first stage without Docker, for there is no engine in CI."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deployment import ROOT

ABSOLUTE = re.compile(r"(?<![\w./:])/(build|opt/stillwatch|opt/example|wheels|src)\b")
"""The places that first stages write to."""

IMAGE = ROOT / "Dockerfile"
EXAMPLE = ROOT / "examples" / "gateway" / "Dockerfile"


class Instruction(NamedTuple):
    """One instruction, its continued lines joined."""

    name: str
    text: str


def instructions(file: Path) -> Iterator[Instruction]:
    """Those of a Dockerfile, in order."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        name, _, text = line.partition(" ")
        if text:
            yield Instruction(name, " ".join(text.split()))


def stages(file: Path) -> list[list[Instruction]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[Instruction]] = []
    for each in instructions(file):
        if each.name == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


def build(file: Path, root: Path) -> None:
    """Do what the first stage says with `root` in place of `/`. AssertionError with what a command said if it fails."""
    python = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": ""}
    here = root
    for name, text in stages(file)[0]:
        if name == "WORKDIR":
            here = root / text.lstrip("/")
            here.mkdir(parents=True)
        elif name == "COPY":
            *sources, target = shlex.split(text)
            for source in map(ROOT.joinpath, sources):
                if source.is_dir():
                    shutil.copytree(source, here / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, here / target)
        elif name == "RUN":
            command = ABSOLUTE.sub(rf"{root}/\1", text)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=here,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
