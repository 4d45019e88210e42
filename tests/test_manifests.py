"""Manifests: topics and users on Kubernetes are those of the code."""

import re
from typing import Any

import pytest
from manifests import K8S, NAMED, ROOT, documents, imported, topics_named_in

from streams.access import COMPONENTS, WORKERS, Access
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


@pytest.mark.parametrize(("component", "module"), [("worker", "streams.app")])
def test_a_component_may_use_every_topic_that_its_code_names(component: str, module: str) -> None:
    access = COMPONENTS[component]
    assert topics_named_in(imported(module)) <= {*access.reads, *access.writes}


def test_the_gateway_may_use_every_topic_that_its_code_names() -> None:
    source = "".join(path.read_text() for path in (ROOT / "gateway").glob("*.py"))
    access = COMPONENTS["gateway"]

    found = set(re.findall(r'topic_prefix \+ "(\w+)"', source))
    assert found == {topic.noun for topic in {*access.reads, *access.writes}}
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
