"""Deployment: the YAML under `k8s/`, and which topics the code names."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from streams import topics

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
PACKAGES = ("streams", "sinks", "models", "gateway")

NAMED = {name: value for name, value in vars(topics).items() if isinstance(value, topics.Topic)}
"""The topics by the names of their constants."""

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUE8/NXgNTLluKb3wJTC00ZQt8+XEwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyNTA2MTMyMloYDzIxMjYxMTAxMDYx
MzIyWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQYNK3SMq3SJOtAOIKjtecJIJY8yxYNX/wGleG0Z9g90e28FfftDk9/fi2tO/8s
lH0NRLSwpuilbMwVRDzJX0UFo1MwUTAdBgNVHQ4EFgQUhhxvJ5y3QkeCIp486HsA
nCtfFs4wHwYDVR0jBBgwFoAUhhxvJ5y3QkeCIp486HsAnCtfFs4wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEA3n4UFAHefJXfzs0fmDoZxpjILduw
e68xudRvFyyzsasCIGwQjIEbhiVu4our6oRNX/arc3NGhvmJ39FdGzln7B2K
-----END CERTIFICATE-----
"""
"""A certificate of nobody, whose key is gone: for settings that want a file of certificates."""


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found is not None]


def imported(module: str) -> set[str]:
    """A module of ours and all of ours that it imports, directly or through others, functions' imports included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(name)
    return found


def topics_named_in(modules: set[str]) -> set[topics.Topic]:
    """The topics whose constants these modules use; the lists of all topics count for nothing."""
    found = set()
    for module in modules - {"streams.topics", "streams.access"}:
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.Name) and node.id in NAMED:
                found.add(NAMED[node.id])
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "topics"
                and node.attr in NAMED
            ):
                found.add(NAMED[node.attr])
    return found


def _imports(module: str) -> Iterator[str]:
    inside = module if _path(module).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from filter(_ours, (each.name for each in node.names))
        elif isinstance(node, ast.ImportFrom):
            start = inside.split(".")[: len(inside.split(".")) + 1 - node.level] if node.level else []
            parent = ".".join([*start, *filter(None, [node.module])])
            yield from filter(_ours, (parent, *(f"{parent}.{each.name}" for each in node.names)))


def _ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES and _path(module).exists()


def _path(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text())
