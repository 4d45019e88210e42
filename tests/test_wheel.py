"""The gateway as others install it: a wheel of its own, under a name of its own."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT / "gateway", check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {f"stillwatch_gateway/{path.name}" for path in (ROOT / "gateway").glob("*.py")} | {
        "stillwatch_gateway/py.typed"
    }
    assert wheel.name.startswith("stillwatch_gateway-")


def test_the_wheel_needs_msgspec_and_numpy_only_and_more_where_it_is_asked_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(path).decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist")]
    assert [need.split(">")[0] for need in needed if "extra" not in need] == ["msgspec", "numpy"]
    for extra, names in (("kafka", ["aiokafka", "cramjam"]), ("redis", ["redis"]), ("serve", ["uvicorn"])):
        assert [need.split(">")[0] for need in needed if need.endswith(f"extra == '{extra}'")] == names


def test_it_works_beside_a_strangers_modules_of_our_names(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)  # What pip does with a wheel of pure Python.
    for name in ("models", "streams", "sinks", "gateway", "request", "verdict"):
        (tmp_path / f"{name}.py").write_text("STRANGER = True\n")
    story = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}]
import models, gateway
assert models.STRANGER and gateway.STRANGER
import stillwatch_gateway
from stillwatch_gateway import request, verdict, schema
from stillwatch_gateway.asgi import Middleware
from stillwatch_gateway.sketch import sketch
assert stillwatch_gateway.__file__.startswith({str(tmp_path)!r})
for module, name in ((request, "request_full.json"), (verdict, "verdict_full.json")):
    golden = open({str(GOLDEN)!r} + "/" + name, "rb").read().rstrip(b"\\n")
    assert module.encode(module.decode(golden)) == golden
assert sketch("Think step by step.").cues == ("reasoning",)
assert schema.asyncapi()["asyncapi"] == "3.0.0"
print("well")
"""
    done = subprocess.run([sys.executable, "-c", story], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("well\n", "")


CUSTOMER = """
from collections.abc import Mapping

import models
from stillwatch_gateway.asgi import App, Middleware
from stillwatch_gateway.exchange import Identity
from stillwatch_gateway.gate import Gate
from stillwatch_gateway.guard import Guard, Standing
from stillwatch_gateway.request import Request, encode
from stillwatch_gateway.settings import Settings
from stillwatch_gateway.verdict import Verdict, decode


def guarded(app: App) -> App:
    def identify(headers: Mapping[str, str], peer: str | None) -> Identity | None:
        return Identity(account=headers["x-user"], ip=peer) if "x-user" in headers else None

    settings = Settings.read({"STILLWATCH_ACCOUNT_HEADER": "x-user"})
    return Middleware(app, gate=Gate(settings, identify=identify))


def known(payload: bytes, now: int) -> Standing | None:
    verdict: Verdict = decode(payload)
    guard = Guard(when_stale="keep")
    guard.take(verdict, now)
    return guard.find(now, verdict.value)


def written(tokens: int) -> bytes:
    return encode(Request(id="r", at=1_790_000_000_000, account="a", model="m", input_tokens=1, output_tokens=tokens))


stranger: bool = models.STRANGER
"""

WORKS = """
import sys

import customer

assert not [name for name in sys.modules if name.partition(".")[0] in ("starlette", "fastapi", "prometheus_client")]
from aiokafka.codec import has_zstd
assert has_zstd(), "the detector's verdicts are packed with it"
found = customer.known(open(sys.argv[1], "rb").read(), 1_767_225_600_000)
print(type(found).__name__, len(customer.written(3)), customer.stranger)
"""


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel, what it says it needs, and a stranger's `models.py`; its Python."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    for name in needed("stillwatch_gateway", "kafka", packages):
        for path in {Path(file).parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            (packages / path).symlink_to(Path(str(distribution(name).locate_file(path))))
    (folder / "models.py").write_text("STRANGER: bool = True\n")
    (folder / "customer.py").write_text(CUSTOMER)
    return folder


def needed(name: str, extra: str, where: Path) -> set[str]:
    """Everything that a distribution in a folder needs with an extra, and what that needs in turn."""
    from importlib.metadata import distributions

    from packaging.requirements import Requirement

    (found,) = (each for each in distributions(path=[str(where)]) if each.name.replace("-", "_") == name)
    todo = [(line, extra) for line in found.requires or ()]
    names: set[str] = set()
    while todo:
        line, wanted = todo.pop()
        need = Requirement(line)
        if (need.marker is None or need.marker.evaluate({"extra": wanted})) and need.name not in names:
            names.add(need.name)
            assert need.specifier.contains(distribution(need.name).version)
            todo += [(each, "") for each in distribution(need.name).requires or ()]
    return names


def test_it_works_and_type_checks_in_an_empty_environment(empty: Path) -> None:
    python = empty / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    run = [str(python), "-c", WORKS, str(GOLDEN / "verdict_minimal.json")]
    done = subprocess.run(run, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()[::2]) == ("", ["Standing", "True"])

    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "--cache-dir", "cache"]
    checked = subprocess.run(
        [*mypy, "customer.py"], cwd=empty, env=environment, capture_output=True, text=True, check=False
    )
    assert checked.stdout == "Success: no issues found in 1 source file\n", checked.stderr
    wrong = CUSTOMER.replace("guard.find(now, verdict.value)", "guard.find(verdict.value, now)")
    (empty / "wrong.py").write_text(wrong)
    checked = subprocess.run(
        [*mypy, "wrong.py"], cwd=empty, env=environment, capture_output=True, text=True, check=False
    )
    assert checked.stdout.count("[arg-type]") == 2, "its types reach whoever imports it"


MARKED = """
from stillwatch_gateway.countermeasures import mark_key as key
from stillwatch_gateway.green import Green as Kind
secret, campaigns = "sixteen letters!", ["c-16", "c-17"]
green = Kind(key(secret, "campaign:c-17"))
texts = [[n, 7] for n in range(40)]
for text in texts:
    text.append(next(word for word in range(99) if green.count(numpy.array([[*text, word]]))[0]))
"""


def test_the_pieces_of_python_in_its_readme_run(wheel: Path, tmp_path: Path) -> None:
    """One after the other, with what each takes for granted put before it."""
    readme = (ROOT / "gateway" / "README.md").read_text()
    serve, attribute, messages = re.findall(r"^```python\n(.*?)^```", readme, flags=re.M | re.S)
    zipfile.ZipFile(wheel).extractall(tmp_path)
    payload = (GOLDEN / "verdict_minimal.json").read_bytes()
    story = [
        serve + "\nassert app.user_middleware[0].cls is Middleware",
        f"import numpy\n{MARKED}\n{attribute}\nfound = attribute(marks, texts)",
        "assert found['c-17'].p_value < 1e-9 < found['c-16'].p_value",
        f"payload = {payload!r}\n{messages}\nassert found.effective_action == 'watch', found",
        "assert request.decode(message).sketch.chars == 20",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(story)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


VLLM = """
import importlib, inspect, sys

sys.path[:0] = [sys.argv[1]]
from fastapi import FastAPI
from fastapi.testclient import TestClient

app = FastAPI()


@app.post("/v1/chat/completions")
async def chat() -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


# What vLLM's build_app does with each --middleware.
module, _, name = "stillwatch_gateway.asgi.Middleware".rpartition(".")
found = getattr(importlib.import_module(module), name)
assert inspect.isclass(found)
app.add_middleware(found)
with TestClient(app) as client:
    reply = client.post("/v1/chat/completions", json={"model": "m"}, headers={"x-account-id": "ada"})
    print(reply.status_code, "x-stillwatch-decision" in reply.headers)
"""


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [
        ({"STILLWATCH_ACCOUNT_HEADER": "x-account-id"}, "200 True"),
        ({"STILLWATCH_ACOUNT_HEADER": "x-account-id"}, "did you mean STILLWATCH_ACCOUNT_HEADER?"),
        ({}, "set STILLWATCH_ACCOUNT_HEADER (the header in which your proxy names the account)"),
    ],
)
def test_vllm_finds_it_by_name_and_the_environment_says_the_rest(
    wheel: Path, tmp_path: Path, environment: dict[str, str], outcome: str
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", VLLM, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"STILLWATCH_BROKERS": "127.0.0.1:1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in (done.stdout if outcome.startswith("200") else done.stderr)
