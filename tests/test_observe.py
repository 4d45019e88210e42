"""What an SRE is given: alert rules, their tests and runbooks, dashboards. A typo in a metric's name fails here."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from brokers import FOR_TESTS, Broker
from fleet import Fleet
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from sinks.alerts import KINDS
from sinks.forwarding import ForwardingMetrics
from sinks.metrics import Metrics

ROOT = Path(__file__).parents[1]
OBSERVE = ROOT / "k8s" / "observe"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES_TEST = ROOT / "tests" / "observe" / "rules_test.yaml"

sys.path.insert(0, str(OBSERVE))

from build import built  # noqa: E402
from dashboards import DASHBOARDS  # noqa: E402

COMMAND = (sys.executable, "-m", "streams.cli")
ENTRIES = [*Metrics(CollectorRegistry()).entries, *ForwardingMetrics(CollectorRegistry()).entries]
GROUPS: list[dict[str, Any]] = yaml.safe_load((OBSERVE / "rules.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if FOR_TESTS.get("STILLWATCH_REQUIRE_KAFKA"):
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("needs promtool: apt-get install prometheus")
    return found


# --- rules ---


def test_every_alert_says_what_an_alert_must_say():
    for name, rule in ALERTS.items():
        assert name.startswith("Stillwatch"), name
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert rule["for"], name
        assert set(rule["annotations"]) == {"summary", "runbook_url"}, name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    linked = {rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in ALERTS.values()}
    linked |= {f"{kind.replace('_', '-')}.md" for kind in KINDS}
    pages = {page.name for page in RUNBOOKS.glob("*.md")} - {"README.md"}
    assert linked == pages
    for page in pages:
        text = (RUNBOOKS / page).read_text()
        sections = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
        assert sections == ["Meaning", "Impact", "Diagnosis", "Mitigation"], page
        for link in re.findall(r"\]\(([\w-]+\.md)\)", text):
            assert (RUNBOOKS / link).exists(), f"{page} links to {link}"
    for name, rule in ALERTS.items():
        heading = (RUNBOOKS / rule["annotations"]["runbook_url"].rpartition("/")[2]).read_text().splitlines()[0]
        assert name in heading, name


def test_every_alert_is_tested_once_where_it_fires_and_once_where_it_does_not():
    tried = [test for case in yaml.safe_load(RULES_TEST.read_text())["tests"] for test in case["alert_rule_test"]]
    assert {test["alertname"] for test in tried if test["exp_alerts"]} == set(ALERTS)
    assert {test["alertname"] for test in tried if not test["exp_alerts"]} == set(ALERTS)


def test_rules_do_what_their_tests_say(promtool):
    for command in (["check", "rules", OBSERVE / "rules.yaml"], ["test", "rules", RULES_TEST]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- what is derived ---


def test_derived_files_are_up_to_date():
    for name, text in built().items():
        assert (OBSERVE / name).read_text() == text, f"{name}: run make observe"


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.uid)
def test_panels_stand_side_by_side_and_ask_the_chosen_source(page):
    panels = page.json()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", ()))


def test_queries_of_dashboards_are_promql(promtool, tmp_path):
    rules = [{"record": f"query_{n}", "expr": concrete(query)} for n, query in enumerate(dashboard_queries())]
    path = tmp_path / "queries.yaml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- names ---


def test_names_in_a_query_are_found_whatever_stands_around_them():
    query = 'sum by (le, instance) (rate(a_total{x="y",z=~"p|q"}[5m])) / on (instance) (b > 0) or vector(0) and c:d:e5m'
    assert list(selectors(query)) == [("a_total", {"x": ["y"], "z": ["p", "q"]}), ("b", {}), ("c:d:e5m", {})]


async def test_every_name_and_label_asked_for_is_one_that_our_processes_have(embedded: Broker, tmp_path: Path) -> None:
    fleet = await Fleet.assemble(embedded, tmp_path, STILLWATCH_WEBHOOK="http://127.0.0.1:9")
    try:
        processes = [fleet.start(), fleet.start([*COMMAND, "alerts", "forward"])]
        text = ""
        async with httpx.AsyncClient() as web:
            for process in processes:
                await fleet.until(lambda one=process: one.status("/ready") == 200)
                text += (await web.get(f"http://127.0.0.1:{process.port}/metrics")).text
        assert [process.end() for process in processes] == [0, 0]
    finally:
        fleet.dismiss()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    unknown = [
        f"{name} {labels}: {query}"
        for query in [*dashboard_queries(), *(rule["expr"] for rule in RULES)]
        for name, labels in selectors(query)
        if name not in RECORDED | {"ALERTS"} and not asked(name, labels, samples)
    ]
    assert unknown == []
    declared = {name for entry in ENTRIES for name in entry.samples}
    exposed = {sample.name for sample in samples if sample.name.startswith("stillwatch_")}
    assert {name for name in exposed if not name.endswith("_created")} == declared


def test_nothing_is_declared_that_nobody_sets():
    code = "".join(path.read_text() for folder in ("streams", "sinks") for path in (ROOT / folder).rglob("*.py"))
    for name in (*vars(Metrics(CollectorRegistry())), *vars(ForwardingMetrics(CollectorRegistry()))):
        if not name.startswith("_") and name != "registry":
            assert re.search(rf"(metrics|self)\.{name}(\[[^\]]+\])?\.(inc|set|observe|labels|time)\b", code), name


# --- reading queries ---


WORDS = {"and", "or", "unless", "by", "on", "without", "ignoring", "group_left", "group_right", "bool", "offset"}
SET_BY_PROMETHEUS = {"namespace", "instance", "job", "pod"}


def dashboard_queries() -> list[str]:
    return [query for page in DASHBOARDS for query in page.queries]


def concrete(query: str) -> str:
    return query.replace("$__rate_interval", "5m").replace("$namespace", ".*")


def selectors(query: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Each metric of a query with the label values it asks for."""
    query = re.sub(r"\[[^\]]*\]", "", concrete(query))
    query = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", query)
    for match in re.finditer(r'([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\()?|"[^"]*"', query):
        name, rest = match[1], match[2] or ""
        if name is None or rest == "(" or name in WORDS:
            continue
        asked_for = re.findall(r'(\w+)\s*(?:=~|=)\s*"([^"]*)"', rest)
        yield name, {label: value.split("|") for label, value in asked_for if label not in SET_BY_PROMETHEUS}


def asked(name: str, labels: dict[str, list[str]], samples: list[Any]) -> bool:
    """Whether some sample has the name and, for each label, each of the values."""
    own = [sample for sample in samples if sample.name == name]
    return bool(own) and all(
        any(sample.labels.get(label) == value for sample in own) for label, values in labels.items() for value in values
    )
