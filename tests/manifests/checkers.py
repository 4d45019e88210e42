"""Checkers: the programs of `.tools` that tell whether Kubernetes, its operators and Docker would take our files."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from deployment import ROOT
from programs import missing

TOOLS = ROOT / ".tools"
SCHEMAS = Path(__file__).parent / "schemas"

STRIMZI = {
    "Kafka": "io.strimzi.api.kafka.model.kafka.Kafka",
    "KafkaNodePool": "io.strimzi.api.kafka.model.nodepool.KafkaNodePool",
    "KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser",
}
STRIMZI_JAVA = 21
"""The Java that Strimzi's generator is compiled for."""


def tool(name: str) -> str:
    """The path of a program of `.tools`."""
    path = TOOLS / "bin" / name
    if not path.exists():
        missing(f"needs {name}: make .tools/ready")
    return str(path)


def run(*command: object, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program and keep what it says."""
    return subprocess.run(
        [str(each) for each in command],
        input=stdin,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def kustomize(folder: Path) -> str:
    """What `kubectl apply --kustomize` would send."""
    done = run(tool("kubectl"), "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kubernetes_refuses(rendered: str, version: str, tmp_path: Path) -> list[str]:
    """What Kubernetes of a version does not take of its own kinds, unknown fields included."""
    path = tmp_path / "rendered.yaml"
    path.write_text(rendered)
    done = run(tool("kubernetes-validate"), "--strict", "--kubernetes-version", version, path)
    said = (done.stdout + done.stderr).splitlines()
    assert any(line.startswith("INFO ") for line in said), said
    return [line for line in said if not line.startswith("INFO ") and "Couldn't find schema" not in line]


def strimzi_refuses(objects: Iterable[dict[str, Any]]) -> list[str]:
    """What Strimzi's operators do not take, unknown fields included."""
    complaints = []
    for each in objects:
        name = f"{each['kind']}/{each['metadata']['name']}"
        validator = jsonschema.Draft7Validator(_strimzi(each["kind"], each["apiVersion"].partition("/")[2]))
        complaints += [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(each)]
    return complaints


def operators_refuse(objects: list[dict[str, Any]]) -> list[str]:
    """What KEDA and the Prometheus operator do not take, unknown fields included."""
    done = run("node", SCHEMAS / "check.mjs", _models(), stdin=json.dumps(objects))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@cache
def _models() -> Path:
    """The folder with the models of KEDA and the Prometheus operator, installed when they changed."""
    if shutil.which("npm") is None:
        missing("needs npm: install Node.js 20 or newer")
    home = TOOLS / "schemas"
    home.mkdir(parents=True, exist_ok=True)
    lock = (SCHEMAS / "package-lock.json").read_text()
    installed = home / "installed"
    if not installed.exists() or installed.read_text() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SCHEMAS / name, home)
        done = run("npm", "ci", "--prefix", home, "--ignore-scripts", "--no-audit", "--no-fund")
        assert done.returncode == 0, done.stderr
        installed.write_text(lock)
    return home


@cache
def _strimzi(kind: str, version: str) -> dict[str, Any]:
    definition = yaml.safe_load((_definitions() / f"{kind}.yaml").read_text())
    (served,) = (each for each in definition["spec"]["versions"] if each["name"] == version)
    schema: dict[str, Any] = served["schema"]["openAPIV3Schema"]
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _close(schema: object) -> None:
    """Forbid what the definition does not name, as `kubectl` does with strict validation."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


@cache
def _definitions() -> Path:
    """Strimzi's custom resource definitions, written by its own generator from Maven Central."""
    pom = SCHEMAS / "pom.xml"
    home = TOOLS / "strimzi" / "-".join(re.findall("<version>([^<]+)", pom.read_text()))
    if not (home / "done").exists():
        if shutil.which("mvn") is None:
            missing("needs Strimzi's definitions: install Maven")
        java = _java()
        jars = home / "jars"
        done = run("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={jars}")
        assert done.returncode == 0, done.stdout
        classes = [f"{name}={home / kind}.yaml" for kind, name in STRIMZI.items()]
        generator = "io.strimzi.crdgenerator.CrdGenerator"
        done = run(java, "-cp", f"{jars}/*", generator, "--yaml", "--target-kube", "1.30+", *classes)
        assert done.returncode == 0, done.stderr
        (home / "done").touch()
    return home


def _java() -> Path:
    """A Java that is new enough: the one in use, or another that is installed."""
    homes = [Path(os.environ[name]) for name in ("JAVA_HOME", "JAVA_HOME_21_X64") if name in os.environ]
    for java in [*(home / "bin" / "java" for home in homes), *sorted(Path("/usr/lib/jvm").glob("*/bin/java"))]:
        if java.exists():
            found = re.search(r'version "(\d+)', run(java, "-version").stderr)
            if found and int(found[1]) >= STRIMZI_JAVA:
                return java
    missing(f"needs Java {STRIMZI_JAVA} or newer for Strimzi's definitions: set JAVA_HOME")
    raise AssertionError
