"""Backup: what was remembered comes back, and workers go on where it was saved."""

import random
import stat
from collections import Counter
from pathlib import Path

import pytest
from brokers import Broker
from click.testing import CliRunner
from desk import Desk
from fleet import WATCH_EVERYONE
from stories import T0

from sinks.policy import Policy
from streams import backup, topics
from streams.backup import Target, restore, save
from streams.cli import main
from streams.compacted import StateError
from streams.settings import Settings
from streams.topics import PROFILES, admin_client

pytestmark = pytest.mark.kafka  # the embedded broker does not say for certain where a partition ends

POLICY = Policy.parse(WATCH_EVERYONE.replace("requests = 100", "requests = 20"), "everyone")


async def at_work(kafka: Broker, due: Counter[str]) -> Desk:
    """A thousand requests counted, thirty on each partition stored but not committed, twenty not yet read."""
    settings = Settings.read(kafka.environment(STILLWATCH_PARTITIONS="2"))
    await topics.create(settings)
    desk = Desk(settings, POLICY)
    await desk.ask(due, 800, random.Random(3), 0)
    await desk.work()
    await desk.ask(due, 240, random.Random(3), 800)
    await desk.work(leave=20, uncommitted=30)
    return desk


async def test_after_profiles_were_lost_every_request_counts_once(kafka: Broker, tmp_path: Path) -> None:
    due: Counter[str] = Counter()
    desk = await at_work(kafka, due)
    saved = await save(desk.settings, tmp_path / "state.zst", T0)
    await desk.ask(due, 200, random.Random(3), 2_000)
    await desk.work()  # later than the backup, and lost with the topic
    name = PROFILES.name(desk.settings)
    async with admin_client(desk.settings) as admin:
        await admin.delete_topics([name])
    while name in await topics.counts(desk.settings):
        pass
    await topics.create(desk.settings)

    with pytest.raises(StateError, match=r"enforcement is not empty; .* say --replace"):
        await restore(desk.settings, tmp_path / "state.zst", Target(), T0)
    put_back = await restore(desk.settings, tmp_path / "state.zst", Target(replace=True), T0)
    await desk.work()

    assert put_back.rows == saved.rows
    assert saved.rows == {"profiles": 22, "enforcement": 20}  # with the models of two partitions
    assert await desk.counted() == dict(due)


async def test_an_older_state_takes_the_place_of_a_newer_one(kafka: Broker, tmp_path: Path) -> None:
    due: Counter[str] = Counter()
    desk = await at_work(kafka, due)
    await save(desk.settings, tmp_path / "state.zst", T0)
    await desk.ask(due, 200, random.Random(3), 2_000)
    await desk.work()

    await restore(desk.settings, tmp_path / "state.zst", Target(replace=True), T0)
    # It holds less than all, until its workers have read on.
    assert sum((await desk.counted()).values()) == 1_000
    await desk.work()

    assert await desk.counted() == dict(due)


async def test_verdicts_that_have_ended_stay_out(kafka: Broker, tmp_path: Path) -> None:
    desk = await at_work(kafka, Counter())
    await save(desk.settings, tmp_path / "state.zst", T0)
    assert len(await desk.announced()) == 20
    week = 7 * 86_400_000
    await restore(desk.settings, tmp_path / "state.zst", Target(replace=True), T0 + week)
    assert await desk.announced() == {}


async def test_elsewhere_requests_begin_anew_and_profiles_go_on(kafka: Broker, tmp_path: Path) -> None:
    due: Counter[str] = Counter()
    desk = await at_work(kafka, due)
    await desk.work()
    await save(desk.settings, tmp_path / "state.zst", T0)
    there = Settings.read(kafka.environment(STILLWATCH_PARTITIONS="2"))
    await topics.create(there)

    with pytest.raises(StateError, match="say --new-requests"):
        await restore(there, tmp_path / "state.zst", Target(), T0)
    await restore(there, tmp_path / "state.zst", Target(new_requests=True), T0)
    elsewhere = Desk(there, POLICY)
    await elsewhere.ask(due, 100, random.Random(3), 5_000)
    await elsewhere.work()

    assert await elsewhere.counted() == dict(due)


async def test_other_partitions_are_refused(kafka: Broker, tmp_path: Path) -> None:
    desk = await at_work(kafka, Counter())
    await save(desk.settings, tmp_path / "state.zst", T0)
    there = Settings.read(kafka.environment(STILLWATCH_PARTITIONS="6"))
    await topics.create(there)
    with pytest.raises(StateError, match="has 6 partitions, the backup 2"):
        await restore(there, tmp_path / "state.zst", Target(), T0)


async def test_a_file_that_is_not_whole_is_refused(kafka: Broker, tmp_path: Path) -> None:
    desk = await at_work(kafka, Counter())
    path = tmp_path / "state.zst"
    await save(desk.settings, path, T0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole = path.read_bytes()
    for at in (0, 1, 20, len(whole) // 2, len(whole) - 20):
        (tmp_path / "cut.zst").write_bytes(whole[:at])
        with pytest.raises(StateError):
            backup.inspect(tmp_path / "cut.zst")
        (tmp_path / "flipped.zst").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(StateError):
            backup.inspect(tmp_path / "flipped.zst")


def test_the_command_says_what_is_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "no.zst").write_bytes(b"no")
    result = CliRunner().invoke(main, ["restore", "--check", str(tmp_path / "no.zst")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"stillwatch: {tmp_path / 'no.zst'}: damaged, or not a backup")
    result = CliRunner().invoke(main, ["restore", "--check", str(tmp_path / "nowhere.zst")])
    assert result.exit_code == 2
