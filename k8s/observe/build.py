"""Build: what is derived in this folder. `make observe` writes it, and a test finds it unchanged.

`rules.yaml` wrapped as a PrometheusRule, and the two dashboards as Grafana imports them.
"""

import json
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from dashboards import DASHBOARDS  # noqa: E402  (beside this file, which is no package)


def built() -> dict[str, str]:
    """Every derived file's text, by its name in this folder."""
    rules = yaml.safe_load((HERE / "rules.yaml").read_text())
    wrapped = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "stillwatch", "labels": {"app.kubernetes.io/component": "alerts"}},
        "spec": rules,
    }
    head = "# Written by `make observe` from rules.yaml.\n"
    files = {"prometheusrule.yaml": head + yaml.safe_dump(wrapped, sort_keys=False, width=120)}
    for page in DASHBOARDS:
        files[f"dashboards/{page.uid}.json"] = json.dumps(page.json(), indent=2) + "\n"
    return files


if __name__ == "__main__":
    for name, text in built().items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(text)
