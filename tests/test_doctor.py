"""Doctor: what is wrong is named, with what to do; what is right is left alone."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from brokers import Broker, free_port
from click.testing import CliRunner
from fleet import Fleet
from stories import request

from gateway.request import encode
from streams import topics
from streams.cli import main
from streams.doctor import Finding, examine
from streams.profiles import LAYOUT
from streams.settings import Settings
from streams.topics import TOPICS


async def findings(settings: Settings, now: float | None = None) -> dict[str, Finding]:
    """The last finding about each thing."""
    return {one.about: one async for one in examine(settings, now=lambda: now or time.time())}


async def test_nobody_at_the_address() -> None:
    found = await findings(Settings(brokers=f"127.0.0.1:{free_port()}"))
    assert found["brokers"].level == "wrong"
    assert "Mend STILLWATCH_BROKERS" in found["brokers"].remedy
    assert found.keys() == {"versions", "policy", "brokers"}


async def test_an_address_without_port() -> None:
    found = await findings(Settings(brokers="kafka"))
    assert found["brokers"].text == "kafka is no host:port"


@pytest.mark.kafka
async def test_a_port_that_does_not_speak_tls(kafka: Broker) -> None:
    found = await findings(Settings(brokers=kafka.address, security="SSL"))
    assert found["brokers"].level == "wrong"
    assert "STILLWATCH_SECURITY" in found["brokers"].remedy or "STILLWATCH_BROKERS" in found["brokers"].remedy


async def test_one_dead_address_beside_a_living_one_is_a_note(embedded: Broker) -> None:
    dead = f"127.0.0.1:{free_port()}"
    settings = Settings.read(embedded.environment(STILLWATCH_BROKERS=f"{dead},{embedded.address}"))
    found = [one async for one in examine(settings) if one.about == "brokers"]
    assert [one.level for one in found] == ["note", "ok"]
    assert dead in found[0].text


async def test_before_and_after_topics_are_created(broker: Broker) -> None:
    settings = Settings.read(broker.environment())
    before = await findings(settings)
    assert before["topics"].level == "wrong"
    assert before["topics"].text.endswith("stillwatch topics create")

    await topics.create(settings)

    after = await findings(settings)
    assert after["topics"] == Finding("ok", "topics", f"all {len(TOPICS)} as they should be, 4 partitions")
    assert after["workers"].level in ("wrong", "note")
    assert after["workers"].remedy.endswith("stillwatch worker")
    assert after["profiles"].text == "none stored yet"


@pytest.mark.kafka
async def test_a_worker_that_has_caught_up(kafka: Broker, tmp_path: Path) -> None:
    fleet = await Fleet.assemble(kafka, tmp_path)
    now = int(time.time() * 1000)
    sent = await fleet.produce((b"ada", encode(request("ada", now, id=str(n)))) for n in range(100))
    worker = fleet.start()
    ends = {partition: offset + 1 for partition, offset in sorted(sent)}
    try:
        await fleet.until(lambda: worker.metric("stillwatch_requests_total") >= 100)
        while {number: at for number, at in (await fleet.committed()).items() if at} != ends:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        found = await findings(fleet.settings)
    finally:
        fleet.dismiss()
    assert found["workers"] == Finding(
        "ok", "workers", f"1 in group {fleet.settings.group}, 0 requests not yet committed"
    )
    assert found["profiles"].text == f"stored with layout {LAYOUT}"


async def test_a_policy_that_is_refused_or_only_watches(tmp_path: Path) -> None:
    packaged = (Path(__file__).parents[1] / "sinks" / "policy.toml").read_text()
    file = tmp_path / "policy.toml"
    brokers = f"127.0.0.1:{free_port()}"

    file.write_text("version = 1")
    found = await findings(Settings(brokers=brokers, policy=file))
    assert found["policy"].level == "wrong"
    assert "stillwatch policy check" in found["policy"].remedy

    file.write_text(packaged.replace('mode = "enforce"', 'mode = "shadow"'))
    found = await findings(Settings(brokers=brokers, policy=file))
    assert "nothing is enforced" in found["policy"].text

    exempt = '[[exempt]]\nscope = "account"\nvalue = "acme"\nuntil = 2026-01-01T00:00:00Z\n'
    file.write_text(packaged + exempt)
    found = await findings(Settings(brokers=brokers, policy=file), now=1_800_000_000)
    assert found["policy"].text.endswith("exemptions have ended: acme")


def test_the_command_says_what_to_do_and_exits_with_1() -> None:
    environment = {"STILLWATCH_BROKERS": f"127.0.0.1:{free_port()}"}
    result = CliRunner().invoke(main, ["doctor"], env=environment)
    assert result.exit_code == 1
    assert "-> is a broker there?" in result.stdout

    result = CliRunner().invoke(main, ["doctor", "--json"], env=environment)
    assert result.exit_code == 1
    levels = [json.loads(line)["level"] for line in result.stdout.splitlines()]
    assert levels == ["ok", "ok", "wrong"]
    assert not [name for name in os.environ if name.startswith("STILLWATCH_")]
