"""docker-compose.yml: Compose takes it, it keeps its promises, and its services work with what it gives them."""

import asyncio
import json
import shutil
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import VERSION, NoKafkaError, configured, free_port
from checkers import run
from compose import Stack, kafka_properties, services
from deployment import K8S, ROOT, documents
from dockerfile import EXAMPLE, IMAGE, build, stages
from fleet import PATIENCE_SECONDS, status
from programs import missing, program
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import Settings as GatewaySettings
from streams.settings import Settings

OURS = "stillwatch:0.1.0"
EXAMPLES = ROOT / "examples" / "compose"

ENDING = {"topics", "simulator"}
"""Services that do one thing and end."""


def promises() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from services().items()


def test_what_was_asked_for_is_there() -> None:
    there = services()
    expected = {"kafka", "topics", "worker", "forwarder", "simulator", "gateway"}
    assert there.keys() == expected | {"prometheus", "alertmanager", "grafana"}
    assert there["worker"]["deploy"]["replicas"] == 2


def test_every_image_is_pinned_to_a_version_and_kafka_to_the_one_of_the_tests() -> None:
    for name, service in promises():
        _, _, tag = service["image"].rpartition(":")
        assert tag.lstrip("v").count(".") == 2, f"{name}: {service['image']}"
    assert services()["kafka"]["image"] == f"apache/kafka:{VERSION}"


def test_nobody_runs_as_root_or_may_become_it() -> None:
    for name, service in promises():
        assert int(service["user"].partition(":")[0]) > 0, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only") or name == "kafka", name


def test_everybody_has_limits() -> None:
    for name, service in promises():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name


def test_whoever_stays_says_how_it_is() -> None:
    for name, service in promises():
        if name in ENDING:
            assert service["restart"] == "no", name
            assert service["healthcheck"] == {"disable": True}, name
        else:
            assert service["restart"] == "unless-stopped", name
            assert {"test", "interval", "timeout", "retries"} <= service["healthcheck"].keys(), name


def test_ports_are_open_to_this_machine_only() -> None:
    opened = {name: port["host_ip"] for name, service in promises() for port in service.get("ports", ())}
    assert set(opened.values()) == {"127.0.0.1"}
    for name, service in promises():
        assert set(service["networks"]) == ({"inside", "outside"} if name in opened else {"inside"}), name


def test_what_is_mounted_exists_and_cannot_be_written() -> None:
    for name, service in promises():
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"
                assert volume["read_only"], f"{name}: {volume['source']}"


def test_services_take_the_settings_they_are_given() -> None:
    for name, service in promises():
        if service["image"] == OURS:
            assert Settings.read(service["environment"]).brokers == "kafka:9092", name
    assert GatewaySettings.read(services()["gateway"]["environment"]).brokers == "kafka:9092"


def test_a_worker_has_as_long_to_end_as_on_kubernetes() -> None:
    (worker,) = (each for each in documents(K8S / "base" / "worker.yaml") if each["kind"] == "StatefulSet")
    seconds = worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert services()["worker"]["stop_grace_period"] == f"{seconds // 60}m{seconds % 60}s"


def test_prometheus_and_alertmanager_take_their_files() -> None:
    promtool = program("promtool", "apt-get install prometheus")
    done = run(promtool, "check", "config", "--syntax-only", EXAMPLES / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    amtool = program("amtool", "apt-get install prometheus-alertmanager")
    done = run(amtool, "check-config", EXAMPLES / "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_in_the_files_are_services_and_their_mounts() -> None:
    there = services()
    asked = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    mounted = {volume["target"] for volume in there["prometheus"]["volumes"]}
    assert set(asked["rule_files"]) <= mounted
    workers, forwarder = asked["scrape_configs"]
    (found,) = workers["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["worker"], Settings().web_port)
    assert forwarder["static_configs"][0]["targets"] == [f"forwarder:{Settings().web_port}"]
    (manager,) = asked["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert f"http://{manager}" == there["forwarder"]["environment"]["STILLWATCH_ALERTMANAGER"]
    assert {manager.partition(":")[0], "forwarder", "worker"} <= there.keys()

    (source,) = yaml.safe_load((EXAMPLES / "grafana" / "datasources.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((EXAMPLES / "grafana" / "dashboards.yml").read_text())["providers"]
    assert provider["options"]["path"] in {volume["target"] for volume in there["grafana"]["volumes"]}
    home = Path(there["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (K8S / "observe" / "dashboards" / home.name).exists()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example's image gets, app.py included."""
    services()  # whoever has the tools may be made to download
    root = tmp_path_factory.mktemp("example")
    build(EXAMPLE, root)
    shutil.copy(ROOT / "examples" / "gateway" / "app.py", root / "opt" / "example")
    return root / "opt" / "example"


@pytest.fixture
async def stack(example: Path, tmp_path: Path) -> AsyncIterator[Stack]:
    """Kafka as the file configures it; the services that come after it are started by the test."""
    ports = {name: free_port() for name in ("INSIDE", "CONTROLLER", "OUTSIDE")}
    properties = kafka_properties(services()["kafka"]["environment"])
    given = {name: int(url.rpartition(":")[2]) for name, url in _listeners(properties["listeners"]).items()}
    here = {f"kafka:{given[name]}": f"127.0.0.1:{port}" for name, port in ports.items()}
    for name, value in properties.items():
        for listener, port in ports.items():
            value = value.replace(f"//:{given[listener]}", f"//127.0.0.1:{port}")
            value = value.replace(f"127.0.0.1:{given[listener]}", f"127.0.0.1:{port}")
        for there, now in here.items():
            value = value.replace(there, now)
        properties[name] = value
    properties["log.dirs"] = str(tmp_path / "kafka")
    config = tmp_path / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    (entrypoint,) = (json.loads(text) for name, text in stages(IMAGE)[-1] if name == "ENTRYPOINT")
    images = {
        OURS: [str(Path(sys.executable).parent / entrypoint[0])],
        "stillwatch-example:0.1.0": [],
    }
    try:
        java = configured(config, f"127.0.0.1:{ports['INSIDE']}", ())
        java.start()
    except NoKafkaError as error:
        missing(str(error))
    stack = Stack(tmp_path, here, images)
    try:
        yield stack
    finally:
        stack.end()
        java.end()


def _listeners(said: str) -> dict[str, str]:
    return dict(each.split("://", 1) for each in said.split(","))


async def test_the_stack_works(stack: Stack, example: Path) -> None:
    """Topics, two workers, some seconds of the simulator, and a question to the server behind the gate."""
    assert await _ended(stack, "topics") == 0
    ports = [free_port(), free_port()]
    for port in ports:
        stack.start("worker", STILLWATCH_WEB_PORT=str(port))
    await _until(stack, lambda: all(status(port, "/ready") == 200 for port in ports))

    assert await _ended(stack, "simulator", "simulate", "--rate", "200", "--minutes", "0.05") == 0
    said = stack.running[-1].log.read_text()
    sent = int(said.split()[0].replace(",", ""))
    assert sent > 100, said
    await _until(stack, lambda: sum(_counted(port) for port in ports) == sent)

    port = free_port()
    uvicorn = [str(example / "bin" / "python"), "-m", "uvicorn", "--app-dir", str(example), "app:app"]
    stack.start("gateway", *uvicorn, "--port", str(port), "--lifespan", "on")
    await _until(stack, lambda: status(port, "/health") == 200)
    answer = await asyncio.to_thread(_ask, port)
    assert answer["choices"][0]["message"]["content"].startswith("I am a mock")
    await _until(stack, lambda: sum(_counted(port) for port in ports) == sent + 1)


async def _ended(stack: Stack, name: str, *arguments: str) -> int:
    process = stack.start(name, *arguments).process
    return await asyncio.to_thread(process.wait, PATIENCE_SECONDS)


async def _until(stack: Stack, condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110  (a process gives nothing to wait on)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail("\n".join(each.said() for each in stack.running))


def _counted(port: int) -> float:
    """Requests that a worker has read, whatever came of them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        families = text_string_to_metric_families(page.read().decode())
    return sum(
        sample.value for family in families for sample in family.samples if sample.name == "stillwatch_requests_total"
    )


def _ask(port: int) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps({"messages": [{"role": "user", "content": "What is six times seven?"}]}).encode(),
        headers={"content-type": "application/json", "x-account-id": "me"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        found: dict[str, Any] = json.load(reply)
    return found
