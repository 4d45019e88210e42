"""Dockerfile: its instructions, and a build of its first stage without Docker, for there is no engine in CI."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deployment import ROOT

ABSOLUTE = re.compile(r"(?<![\w./:])/(build|opt/stillwatch|wheels|src)\b")
"""The places that the first stage writes to."""


class Instruction(NamedTuple):
    """One instruction, its continued lines joined."""

    name: str
    text: str


def instructions() -> Iterator[Instruction]:
    """Those of the Dockerfile, in order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        name, _, text = line.partition(" ")
        if text:
            yield Instruction(name, " ".join(text.split()))


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[Instruction]] = []
    for each in instructions():
        if each.name == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


def build(root: Path, bin_folder: Path) -> Path:
    """Do what the first stage says with `root` in place of `/`; where the application is then.

    `bin_folder` holds the python to use. Raises AssertionError with what a command said when it fails.
    """
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": ""}
    here = root
    for name, text in stages()[0]:
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
    return root / "opt" / "stillwatch"
