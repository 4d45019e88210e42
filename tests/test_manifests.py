"""Manifests: what stands under `k8s/` fits the code. Whether Kubernetes takes it is tested in `tests/manifests`."""

import asyncio
import importlib
import re
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port
from deployment import AUTHORITY, K8S, NAMED, ROOT, documents, imported, topics_named_in
from prometheus_client import CollectorRegistry

from streams.access import COMPONENTS, WORKERS, Access
from streams.app import STUCK_SECONDS
from streams.commands.ingest import ingest as command
from streams.engine.vitals import vitals
from streams.settings import Settings
from streams.topics import TOPICS, Topic

SETTINGS = Settings()


def rules(access: Access) -> dict[tuple[str, str], set[str]]:
    """What a component may do, by kind and name of the resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for topics, operations in (
        (access.reads, {"Read"}),
        (access.writes, {"Write"}),
        (access.describes, {"Describe", "DescribeConfigs"}),
    ):
        for topic in topics:
            found.setdefault(("topic", topic.name(SETTINGS)), set()).update(operations)
    for groups, operation in ((access.joins, "Read"), (access.watches, "Describe")):
        for group in groups:
            found.setdefault(("group", group), set()).add(operation)
    return found


def granted(user: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    """The same, as a KafkaUser says it; anything but allowing a literal name is none of ours."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in user["spec"]["authorization"]["acls"]:
        assert rule.keys() == {"resource", "operations"}
        assert rule["resource"]["patternType"] == "literal"
        key = rule["resource"]["type"], rule["resource"]["name"]
        assert key not in found, f"{key} twice"
        found[key] = set(rule["operations"])
    return found


def test_users_may_do_what_components_do_and_nothing_else() -> None:
    users = {user["metadata"]["name"]: granted(user) for user in documents(K8S / "kafka" / "users.yaml")}

    assert users == {f"stillwatch-{name}": rules(access) for name, access in COMPONENTS.items()}


def test_the_workers_group_is_that_of_the_settings() -> None:
    assert SETTINGS.group == WORKERS


@pytest.mark.parametrize(
    ("name", "module"),
    [("worker", "streams.app"), ("forwarder", "streams.forward"), ("ingest", "streams.ingest.serve")],
)
def test_a_component_may_use_every_topic_that_its_code_names(name: str, module: str) -> None:
    access = COMPONENTS[name]
    assert topics_named_in(imported(module)) <= {*access.reads, *access.writes}


def test_the_gateway_may_use_every_topic_that_its_code_names() -> None:
    source = "".join(path.read_text() for path in (ROOT / "gateway").glob("*.py"))
    access = COMPONENTS["gateway"]

    found = re.findall(r'topic_prefix \+ "(\w+)"', source)
    assert set(found) == {topic.noun for topic in {*access.reads, *access.writes}}
    assert len(found) == source.count("topic_prefix +"), "a topic is named in a way this test does not read"


def test_every_topic_is_in_the_list_and_somebody_may_write_it() -> None:
    assert set(NAMED.values()) == set(TOPICS)
    written = {topic for access in COMPONENTS.values() for topic in access.writes}
    assert written == set(TOPICS)


def test_topics_are_those_that_the_command_creates() -> None:
    def described(topic: Topic) -> tuple[int, int, dict[str, str]]:
        return topic.count(SETTINGS), SETTINGS.replication, topic.config()

    found = {}
    for each in documents(K8S / "kafka" / "topics.yaml"):
        spec = each["spec"]
        config = {name: str(value) for name, value in spec["config"].items()}
        found[each["metadata"]["name"]] = spec["partitions"], spec["replicas"], config

    assert found == {topic.name(SETTINGS): described(topic) for topic in TOPICS}


def worker() -> dict[str, Any]:
    (found,) = (each for each in documents(K8S / "base" / "worker.yaml") if each["kind"] == "StatefulSet")
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = worker()["spec"]["template"]["spec"]
    return found


def generated(name: str) -> dict[str, Any]:
    """How a ConfigMap of the base is made."""
    makers = [*documents(K8S / "base" / "kustomization.yaml"), *documents(ROOT / "sinks" / "kustomization.yaml")]
    (found,) = (each for maker in makers for each in maker["configMapGenerator"] if each["name"] == name)
    return found


def variables() -> dict[str, str]:
    """The worker's environment on Kubernetes."""
    names = ("stillwatch-settings", "stillwatch-worker")
    assert [each["configMapRef"]["name"] for each in pod()["containers"][0]["envFrom"]] == list(names)
    literals = dict(each.split("=", 1) for name in names for each in generated(name)["literals"])
    (one,) = pod()["containers"][0]["env"]
    assert one["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    return literals | {one["name"]: "stillwatch-worker-0"}


def test_a_worker_takes_the_settings_it_is_given(tmp_path: Path) -> None:
    settings = Settings.read(placed(variables(), tmp_path))

    assert settings.instance_id == "stillwatch-worker-0"
    assert settings.partitions >= worker()["spec"]["replicas"]
    assert settings.sasl_user == "stillwatch-worker"
    assert settings.password() == "x"


def component(name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The environment and the deployment of a component."""
    folder = K8S / "components" / name
    (said,) = documents(folder / "kustomization.yaml")
    (maker,) = said["configMapGenerator"]
    (deployment,) = (each for each in documents(folder / f"{name}.yaml") if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    maps = [each["configMapRef"]["name"] for each in container["envFrom"]]
    literals = maker["literals"]
    if maps != [maker["name"]]:
        assert maps == ["stillwatch-settings", maker["name"]]
        literals = [*generated("stillwatch-settings")["literals"], *literals]
    return dict(each.split("=", 1) for each in literals), deployment


def placed(variables: dict[str, str], folder: Path, content: str = "x") -> dict[str, str]:
    """The same environment, with its files in a folder."""
    files = {name: folder / name for name, value in variables.items() if value.startswith("/")}
    for name, path in files.items():
        path.write_text(AUTHORITY if name.endswith("TLS_CA") else content)
    return variables | {name: str(path) for name, path in files.items()}


def mounted(deployment: dict[str, Any]) -> tuple[set[str], str]:
    """The files that a deployment's pod finds in Secrets, and the Secret of its user."""
    spec = deployment["spec"]["template"]["spec"]
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    files = {
        str(Path(mount["mountPath"], item["path"]))
        for mount in spec["containers"][0]["volumeMounts"]
        for item in secrets.get(mount["name"], {"items": ()})["items"]
    }
    return files, secrets["user"]["secretName"]


def files_named(texts: Iterable[str]) -> set[str]:
    """The files that settings or arguments name."""
    return {
        text.partition("=")[2] or text for text in texts if text.partition("=")[2].startswith("/") or text[:1] == "/"
    }


def test_the_forwarder_takes_the_settings_it_is_given(tmp_path: Path) -> None:
    variables, deployment = component("forwarder")
    settings = Settings.read(placed(variables, tmp_path))
    assert settings.alertmanager
    assert deployment["spec"]["replicas"] == 1
    assert mounted(deployment) == (files_named(variables.values()), settings.sasl_user)


def test_ingest_takes_the_settings_and_options_it_is_given(tmp_path: Path) -> None:
    variables, deployment = component("ingest")
    settings = Settings.read(placed(variables, tmp_path))
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert mounted(deployment) == (files_named([*variables.values(), *arguments]), settings.sasl_user)

    told = command.make_context("ingest", arguments[1:]).params
    ports = {each["name"]: each["containerPort"] for each in _ports(deployment)}
    assert (arguments[0], told["host"], told["port"]) == ("ingest", "0.0.0.0", ports["requests"])
    assert settings.web_port == ports["web"]


@pytest.mark.parametrize("name", ["crowdsec", "envoy"])
def test_services_of_the_gateway_take_the_settings_they_are_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the image, which has settings of its own. What runs is what uvicorn is told to."""
    variables, deployment = component(name)
    image = dict(re.findall(r"(STILLWATCH_\w+)=([^\s\\]*)", (ROOT / "Dockerfile").read_text()))
    assert image, "what the image sets is read in a way this test does not know"
    here = placed(variables, tmp_path, f"ada {'x' * 16}")
    for each, value in (image | here).items():
        monkeypatch.setenv(each, value)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][:2] == ["uvicorn", "--factory"]
    module, _, factory = container["command"][2].partition(":")
    made = getattr(importlib.import_module(module), factory)()
    assert callable(made)
    assert _ports(deployment)[0]["containerPort"] == int(container["args"][container["args"].index("--port") + 1])

    files, user = mounted(deployment)
    assert files == files_named(variables.values())
    assert user == variables["STILLWATCH_SASL_USER"]
    assert str(deployment["spec"]["replicas"]) == variables.get("STILLWATCH_REPLICAS", "1")
    memory = container["resources"]["limits"]["memory"]
    assert 100e6 + 530 * int(variables["STILLWATCH_MOST_VERDICTS"]) < int(memory.removesuffix("Mi")) * 2**20


def _ports(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    return found


def test_every_file_of_the_settings_is_mounted_from_what_holds_it() -> None:
    files = {Path(value) for value in variables().values() if value.startswith("/")}
    volumes = {volume.pop("name"): volume for volume in pod()["volumes"]}
    held = set()
    for mount in pod()["containers"][0]["volumeMounts"]:
        assert "subPath" not in mount, "Kubernetes never renews a file mounted by subPath"
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            held |= {Path(mount["mountPath"], name) for name in generated(volume["configMap"]["name"])["files"]}
        elif "secret" in volume:
            held |= {Path(mount["mountPath"], item["path"]) for item in volume["secret"]["items"]}
    assert held == files


def test_a_changed_policy_restarts_nobody_and_changed_settings_do() -> None:
    assert generated("stillwatch-policy")["options"] == {"disableNameSuffixHash": True}
    assert "options" not in generated("stillwatch-settings") | generated("stillwatch-worker")


def test_services_of_the_namespace_are_no_settings_of_the_worker() -> None:
    """Else `stillwatch-kafka-bootstrap` becomes STILLWATCH_KAFKA_BOOTSTRAP_SERVICE_HOST, which a worker refuses."""
    assert pod()["enableServiceLinks"] is False


def test_a_worker_is_given_the_time_it_may_take_to_end() -> None:
    assert pod()["terminationGracePeriodSeconds"] > SETTINGS.drain_seconds + STUCK_SECONDS


async def test_probes_ask_for_what_is_served() -> None:
    container = pod()["containers"][0]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    (port,) = container["ports"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert str(port["containerPort"]) == variables()["STILLWATCH_WEB_PORT"]
    here = free_port()
    async with vitals("127.0.0.1", here, registry=CollectorRegistry(), ready=lambda: True, alive=lambda: True):
        for path in {probe["path"] for probe in probes}:
            with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{here}{path}") as answer:
                assert answer.status == 200


def test_selectors_select_the_workers() -> None:
    labels = worker()["spec"]["template"]["metadata"]["labels"].items()
    selectors = [worker()["spec"]["selector"]["matchLabels"]]
    selectors += [each["labelSelector"]["matchLabels"] for each in pod()["topologySpreadConstraints"]]
    for each in documents(K8S / "base" / "worker.yaml"):
        if each["kind"] == "Service":
            selectors.append(each["spec"]["selector"])
        elif each["kind"] == "PodDisruptionBudget":
            selectors.append(each["spec"]["selector"]["matchLabels"])
    assert len(selectors) == 5
    for selector in selectors:
        assert selector.items() <= labels
