"""The gateway as others install it: a wheel of its own, under a name of its own."""

import subprocess
import sys
import zipfile
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


def test_the_wheel_needs_msgspec_and_numpy_only_and_aiokafka_where_it_is_asked_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(path).decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist")]
    assert [need.split(">")[0] for need in needed if "extra" not in need] == ["msgspec", "numpy"]
    assert [need.split(">")[0] for need in needed if need.endswith("extra == 'kafka'")] == ["aiokafka"]


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
