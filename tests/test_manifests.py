"""Manifests: what stands under `k8s/` fits the code. Whether Kubernetes takes it is tested in `tests/manifests`."""

import asyncio
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port
from deployment import K8S, NAMED, ROOT, documents, imported, topics_named_in
from prometheus_client import CollectorRegistry

from streams.access import COMPONENTS, WORKERS, Access
from streams.app import STUCK_SECONDS
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


@pytest.mark.parametrize(("component", "module"), [("worker", "streams.app"), ("forwarder", "streams.forward")])
def test_a_component_may_use_every_topic_that_its_code_names(component: str, module: str) -> None:
    access = COMPONENTS[component]
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
    here = {}
    for name, value in variables().items():
        if value.startswith("/"):
            here[name] = str(tmp_path / name)
            (tmp_path / name).write_text("x")
    settings = Settings.read(variables() | here)

    assert settings.instance_id == "stillwatch-worker-0"
    assert settings.partitions >= worker()["spec"]["replicas"]
    assert settings.sasl_user == "stillwatch-worker"
    assert settings.password() == "x"


def test_the_forwarder_takes_the_settings_it_is_given(tmp_path: Path) -> None:
    folder = K8S / "components" / "forwarder"
    (component,) = documents(folder / "kustomization.yaml")
    (maker,) = component["configMapGenerator"]
    literals = dict(each.split("=", 1) for each in [*generated("stillwatch-settings")["literals"], *maker["literals"]])
    files = {name: value for name, value in literals.items() if value.startswith("/")}
    for name in files:
        (tmp_path / name).write_text("x")
    settings = Settings.read(literals | {name: str(tmp_path / name) for name in files})
    assert settings.sasl_user == "stillwatch-forwarder"
    assert settings.alertmanager

    (deployment,) = (each for each in documents(folder / "forwarder.yaml") if each["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 1
    spec = deployment["spec"]["template"]["spec"]
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    mounted = {
        str(Path(mount["mountPath"], item["path"]))
        for mount in spec["containers"][0]["volumeMounts"]
        for item in secrets.get(mount["name"], {"items": ()})["items"]
    }
    assert mounted == set(files.values())
    assert secrets["user"]["secretName"] == settings.sasl_user


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
