"""The workflow of the forge: it is one, nobody else's code can slip into it, and it does what .ci/run does."""

import re

import yaml
from checkers import run, tool
from deployment import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
CI = WORKFLOWS / "ci.yml"

MAKE = re.compile(r"^ *(?:- run: )?make ([a-z]+)", re.M)


def test_the_forge_takes_it() -> None:
    done = run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", CI)
    assert done.returncode == 0, done.stdout


def test_checkov_and_zizmor_find_nothing() -> None:
    done = run(
        *(tool("checkov"), "--directory", ROOT / ".github", "--framework", "github_actions"),
        *("--config-file", ".checkov.yaml", "--skip-download", "--quiet", "--compact"),
    )
    assert done.returncode == 0, done.stdout
    done = run(tool("zizmor"), "--offline", "--quiet", "--no-progress", WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_to_commits_and_say_of_which_version() -> None:
    used = re.findall(r"uses: (.*)", CI.read_text())
    assert used
    for each in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)


def test_it_calls_the_targets_that_decide_whether_a_change_lands() -> None:
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text().splitlines()}
    forge, ours = set(MAKE.findall(CI.read_text())), set(MAKE.findall((ROOT / ".ci" / "run").read_text()))
    assert forge == ours | {"vllm"}  # six gigabytes, on a machine of its own
    assert {"lint", "test", "manifests", "rules", "sbom"} <= forge <= targets


def test_a_missing_tool_is_a_failure() -> None:
    assert yaml.safe_load(CI.read_text())["env"] == {"STILLWATCH_REQUIRE_KAFKA": "1"}
