"""Kubernetes and the operators on it take what `k8s/` says, and it holds together."""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkers import kubernetes_refuses, kustomize, operators_refuse, run, strimzi_refuses, tool
from deployment import K8S, documents

from streams.settings import Settings
from streams.topics import REQUESTS

OLDEST, NEWEST = "1.30", "1.37"
"""Versions of Kubernetes. Before 1.30 a pod disruption budget knows no unhealthyPodEvictionPolicy by default."""

CORE = ("v1", "apps/", "batch/", "networking.k8s.io/", "policy/")
STRIMZI = ("kafka.strimzi.io/",)
OPERATORS = ("keda.sh/", "monitoring.coreos.com/")

SERVICES = "production with crowdsec, envoy, ingest"
RENDERED = ("dev", "production", "production with keda", SERVICES)

SETTINGS = Settings()


@pytest.fixture(scope="module", params=RENDERED)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An overlay as it would be applied."""
    return render(request.param, tmp_path_factory.mktemp("overlay"))


def render(name: str, folder: Path) -> str:
    """An overlay, or one with components added."""
    overlay, _, components = name.partition(" with ")
    parent = K8S / "overlays" / overlay
    if not components:
        return kustomize(parent)
    (said,) = documents(parent / "kustomization.yaml")
    both = {
        "namespace": said["namespace"],
        "resources": [os.path.relpath(parent, folder)],
        "components": [os.path.relpath(K8S / "components" / each, folder) for each in components.split(", ")],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(both))
    return kustomize(folder)


@pytest.fixture
def objects(rendered: str) -> list[dict[str, Any]]:
    """The objects of an overlay."""
    return list(yaml.safe_load_all(rendered))


def of(groups: tuple[str, ...], objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose API begins so."""
    return [each for each in objects if each["apiVersion"].startswith(groups)]


def named(kind: str, objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def test_every_overlay_and_component_is_rendered() -> None:
    said = {each for name in RENDERED for part in name.split(" with ") for each in part.split(", ")}
    said.add("forwarder")  # production has it
    assert said == {path.name for kind in ("overlays", "components") for path in (K8S / kind).iterdir()}


PODS = {
    "stillwatch-worker": "StatefulSet",
    "stillwatch-forwarder": "Deployment",
    "stillwatch-crowdsec": "Deployment",
    "stillwatch-envoy": "Deployment",
    "stillwatch-ingest": "Deployment",
}
BY_HAND = {"stillwatch-bouncers", "stillwatch-ingest-tls", "stillwatch-secret", "stillwatch-senders"}
"""Secrets that whoever deploys makes, as the components that need them say."""


def pod(name: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The template of the pods of a component."""
    found: dict[str, Any] = named(PODS[name], objects)[name]["spec"]["template"]
    return found


@pytest.mark.parametrize("name", PODS)
@pytest.mark.parametrize("rendered", [SERVICES], indirect=True)
def test_prometheus_finds_the_pods_and_may_reach_them(objects: list[dict[str, Any]], name: str) -> None:
    monitor = named("PodMonitor", objects)["stillwatch"]["spec"]
    template = pod(name, objects)
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    port = template["spec"]["containers"][0]["ports"][0]
    rule = named("NetworkPolicy", objects)[name]["spec"]["ingress"][0]
    assert rule["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert endpoint["port"] == port["name"] == rule["ports"][0]["port"]


@pytest.mark.parametrize("rendered", ["dev", "production"], indirect=True)
def test_the_memory_limit_holds_what_a_worker_may_remember(objects: list[dict[str, Any]]) -> None:
    """400 MB, and 2 KiB for each account."""
    (container,) = pod("stillwatch-worker", objects)["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    number, unit = int(limit[:-2]), limit[-2:]
    names = {source["configMapRef"]["name"] for source in container["envFrom"]}
    variables = [named("ConfigMap", objects)[name]["data"] for name in names]
    (accounts,) = (int(each["STILLWATCH_PROFILES"]) for each in variables if "STILLWATCH_PROFILES" in each)
    assert 400e6 + 2_048 * accounts < number * {"Mi": 2**20, "Gi": 2**30}[unit]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_it(rendered: str, version: str, tmp_path: Path) -> None:
    assert kubernetes_refuses(rendered, version, tmp_path) == []


def test_strimzi_takes_it(objects: list[dict[str, Any]]) -> None:
    assert strimzi_refuses(of(STRIMZI, objects)) == []


def test_operators_take_it(objects: list[dict[str, Any]]) -> None:
    assert operators_refuse(of(OPERATORS, objects)) == []


def test_nothing_goes_unchecked(objects: list[dict[str, Any]]) -> None:
    assert of((*CORE, *STRIMZI, *OPERATORS), objects) == objects


@pytest.mark.parametrize("rendered", ["production with keda"], indirect=True)
def test_the_checks_find_a_slip(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    """A field misspelt, in an object of each kind of check."""
    slips = copy.deepcopy(objects)
    named("StatefulSet", slips)["stillwatch-worker"]["spec"]["template"]["spec"]["enableServiceLink"] = False
    named("KafkaUser", slips)["stillwatch-worker"]["spec"]["authorization"]["acl"] = []
    named("ScaledObject", slips)["stillwatch-worker"]["spec"]["maxReplicas"] = 12

    (said,) = kubernetes_refuses(yaml.safe_dump_all(slips), NEWEST, tmp_path)
    assert "enableServiceLink" in said
    (said,) = strimzi_refuses(of(STRIMZI, slips))
    assert "KafkaUser/stillwatch-worker: $.spec.authorization" in said
    assert "'acl' was unexpected" in said
    (said,) = operators_refuse(of(OPERATORS, slips))
    assert "ScaledObject/stillwatch-worker" in said
    assert "maxReplicas" in said


def test_checkov_finds_nothing_that_is_not_explained(tmp_path: Path) -> None:
    checked = tmp_path / "checked"
    checked.mkdir()
    for name in RENDERED:
        (checked / f"{name}.yaml").write_text(render(name, tmp_path))
    done = run(
        *(tool("checkov"), "--directory", checked, "--framework", "kubernetes"),
        *("--config-file", ".checkov.yaml", "--skip-download", "--quiet", "--compact", "--output", "json"),
    )
    found = json.loads(done.stdout)
    failed = found["results"]["failed_checks"]
    assert [(each["check_id"], each["check_name"], each["resource"]) for each in failed] == []
    assert found["summary"]["passed"] > 80 * len(RENDERED), "checkov read less than there is"


def test_what_pods_refer_to_is_there(objects: list[dict[str, Any]]) -> None:
    """ConfigMaps are ours; Secrets are Strimzi's (one a user, one with the certificates to trust) or made by hand."""
    secrets = {*BY_HAND, *named("KafkaUser", objects), *(f"{name}-cluster-ca-cert" for name in named("Kafka", objects))}
    there = {
        "configMap": set(named("ConfigMap", objects)),
        "secret": secrets,
        "serviceAccount": set(named("ServiceAccount", objects)),
    }
    for kind, name in _references(objects):
        assert name in there[kind], f"{kind} {name}"


@pytest.mark.parametrize("name", ["stillwatch-crowdsec", "stillwatch-envoy", "stillwatch-ingest"])
@pytest.mark.parametrize("rendered", [SERVICES], indirect=True)
def test_a_service_leads_where_its_policy_lets_in(objects: list[dict[str, Any]], name: str) -> None:
    (port,) = named("Service", objects)[name]["spec"]["ports"]
    _, asked = named("NetworkPolicy", objects)[name]["spec"]["ingress"]
    template = pod(name, objects)
    names = {each["name"] for each in template["spec"]["containers"][0]["ports"]}
    assert port["targetPort"] == asked["ports"][0]["port"]
    assert port["targetPort"] in names
    assert named("Service", objects)[name]["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def _references(objects: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for each in objects:
        pod = each.get("spec", {}).get("template", {}).get("spec") if each["kind"] != "Kafka" else None
        if pod is None:
            continue
        yield "serviceAccount", pod["serviceAccountName"]
        for volume in pod.get("volumes", ()):
            if "configMap" in volume:
                yield "configMap", volume["configMap"]["name"]
            if "secret" in volume:
                yield "secret", volume["secret"]["secretName"]
        for container in pod["containers"]:
            for source in container.get("envFrom", ()):
                yield "configMap", source["configMapRef"]["name"]
    for each in named("TriggerAuthentication", objects).values():
        yield from (("secret", source["name"]) for source in each["spec"]["secretTargetRef"])
        yield from (("configMap", source["name"]) for source in each["spec"]["configMapTargetRef"])


def test_everything_is_in_one_namespace_that_demands_restricted_pods(objects: list[dict[str, Any]]) -> None:
    ((name, namespace),) = named("Namespace", objects).items()
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] != "Namespace"} == {name}
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_workers_never_outnumber_partitions(objects: list[dict[str, Any]]) -> None:
    partitions = named("KafkaTopic", objects)[REQUESTS.name(SETTINGS)]["spec"]["partitions"]
    assert partitions == SETTINGS.partitions
    scaler = named("ScaledObject", objects).get("stillwatch-worker")
    worker = named("StatefulSet", objects)["stillwatch-worker"]["spec"]
    if scaler is None:
        assert worker["replicas"] <= partitions
    else:
        assert "replicas" not in worker
        assert scaler["spec"]["maxReplicaCount"] <= partitions


@pytest.mark.parametrize("rendered", ["production with keda"], indirect=True)
def test_a_worker_in_perfect_health_lags_less_than_what_adds_another(objects: list[dict[str, Any]]) -> None:
    scaler = named("ScaledObject", objects)["stillwatch-worker"]
    (trigger,) = scaler["spec"]["triggers"]
    asked = trigger["metadata"]
    rate = int(scaler["metadata"]["annotations"]["stillwatch/requests-per-second"])
    commits_every = SETTINGS.checkpoint_seconds + 1  # Faust commits within a second of a checkpoint

    assert int(asked["lagThreshold"]) > rate * commits_every
    assert asked["consumerGroup"] == SETTINGS.group
    assert asked["topic"] == REQUESTS.name(SETTINGS)
    (namespace,) = named("Namespace", objects)
    assert asked["bootstrapServers"] == f"stillwatch-kafka-bootstrap.{namespace}.svc:9093"


def test_replicas_fit_the_brokers(objects: list[dict[str, Any]]) -> None:
    """A topic has no more replicas than there are brokers, and one broker may go without stopping the producers."""
    brokers = sum(
        pool["spec"]["replicas"]
        for pool in named("KafkaNodePool", objects).values()
        if "broker" in pool["spec"]["roles"]
    )
    (kafka,) = named("Kafka", objects).values()
    replicas = {topic["spec"]["replicas"] for topic in named("KafkaTopic", objects).values()}
    assert replicas == {min(3, brokers)}
    assert kafka["spec"]["kafka"]["config"]["min.insync.replicas"] == max(1, brokers - 1)


def test_only_pods_that_talk_to_kafka_may(objects: list[dict[str, Any]]) -> None:
    """The listener lets in the label that workers carry, and a policy lets them out to it and denies the rest."""
    (kafka,) = named("Kafka", objects).values()
    (listener,) = kafka["spec"]["kafka"]["listeners"]
    peers = [peer["podSelector"]["matchLabels"] for peer in listener["networkPolicyPeers"]]
    policies = named("NetworkPolicy", objects)
    assert policies["stillwatch-default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name in PODS.keys() & policies.keys():
        labels = pod(name, objects)["metadata"]["labels"]
        assert any(peer.items() <= labels.items() for peer in peers)
        ports = {port["port"] for rule in policies[name]["spec"]["egress"] for port in rule["ports"]}
        assert ports == {53, listener["port"]}
