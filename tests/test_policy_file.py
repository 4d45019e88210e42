"""A worker's policy follows its file; a file that is refused changes nothing, loudly."""

import logging
from pathlib import Path

import msgspec
import pytest
from fleet import WATCH_EVERYONE
from prometheus_client import CollectorRegistry
from test_watch import POLICY, REQUESTS, ZERO, chunk, given, new_watch

from gateway.verdict import decode
from sinks.metrics import Metrics
from sinks.policy import PACKAGED, Policy, PolicyError
from streams.engine.acks import Acks
from streams.engine.policy_file import PolicyFile
from streams.settings import Settings

TEXT = PACKAGED.read_text("utf-8")
VERSION = Policy.load().version


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def reads(metrics: Metrics) -> tuple[float, float, float]:
    """Policies adopted, policies refused, and whether one is refused now."""
    value = metrics.registry.get_sample_value
    counted = [value("stillwatch_policy_reads_total", {"outcome": outcome}) for outcome in ("adopted", "refused")]
    return counted[0] or 0, counted[1] or 0, value("stillwatch_policy_refused") or 0


def written(path: Path, old: str = "", new: str = "") -> Path:
    """The packaged policy with a change, as an editor saves it: another file takes the place of the one before."""
    assert old in TEXT
    beside = path.with_suffix(".new")
    beside.write_text(TEXT.replace(old, new, 1), "utf-8")
    return beside.replace(path)


def test_a_file_that_nobody_touched_is_no_news(tmp_path: Path, metrics: Metrics) -> None:
    rules = PolicyFile(written(tmp_path / "p.toml"), metrics)
    assert rules.look() is None
    (tmp_path / "p.toml").touch()
    written(tmp_path / "p.toml")
    assert rules.look() is None
    assert reads(metrics) == (0, 0, 0)


def test_another_policy_takes_its_place_once(tmp_path: Path, metrics: Metrics) -> None:
    rules = PolicyFile(written(tmp_path / "p.toml"), metrics)
    written(tmp_path / "p.toml", VERSION, "next")
    found = rules.look()
    assert found is rules.policy
    assert found is not None
    assert found.version == "next"
    assert rules.look() is None
    assert reads(metrics) == (1, 0, 0)


def test_what_is_refused_changes_nothing_and_says_where_it_is_wrong(tmp_path, metrics, caplog) -> None:
    rules = PolicyFile(written(tmp_path / "p.toml"), metrics)
    written(tmp_path / "p.toml", "leave = 0.8", "leave = 0.99")
    with caplog.at_level(logging.WARNING):
        assert rules.look() is rules.look() is None
    (said,) = caplog.messages
    assert said.startswith(f"policy refused, {VERSION} stays in force: p.toml: rungs[2].leave: 0.99 is not below")
    assert rules.policy == Policy.load()
    assert reads(metrics) == (0, 1, 1)
    written(tmp_path / "p.toml", VERSION, "mended")
    assert rules.look() is not None
    assert reads(metrics) == (1, 1, 0)


def test_a_file_that_is_gone_changes_nothing_either(tmp_path: Path, metrics: Metrics) -> None:
    rules = PolicyFile(written(tmp_path / "p.toml"), metrics)
    (tmp_path / "p.toml").unlink()
    assert rules.look() is rules.look() is None
    assert reads(metrics) == (0, 1, 1)
    written(tmp_path / "p.toml")
    assert rules.look() is None
    assert reads(metrics) == (0, 1, 0)


def test_a_link_turned_to_another_file_is_a_change_as_with_a_config_map(tmp_path: Path, metrics: Metrics) -> None:
    one, other, link = tmp_path / "one", tmp_path / "other", tmp_path / "p.toml"
    one.write_text(TEXT, "utf-8")
    other.write_text(TEXT.replace(VERSION, "other", 1), "utf-8")
    link.symlink_to(one)
    rules = PolicyFile(link, metrics)
    (tmp_path / "link").symlink_to(other)
    (tmp_path / "link").replace(link)
    found = rules.look()
    assert found is not None
    assert found.version == "other"


def test_a_policy_under_the_name_of_the_one_before_is_pointed_out(tmp_path, metrics, caplog) -> None:
    rules = PolicyFile(written(tmp_path / "p.toml"), metrics)
    written(tmp_path / "p.toml", "jitter = 0.1", "jitter = 0.2")
    with caplog.at_level(logging.WARNING):
        assert rules.look() is not None
    assert f"policy changed and is still called {VERSION}" in caplog.messages[0]


def test_a_worker_does_not_begin_by_a_policy_that_is_refused(tmp_path: Path, metrics: Metrics) -> None:
    with pytest.raises(PolicyError, match="jitter"):
        PolicyFile(written(tmp_path / "p.toml", "jitter = 0.1", "jitter = 7"), metrics)


def test_without_a_file_the_packaged_policy_holds(metrics: Metrics) -> None:
    rules = PolicyFile(None, metrics)
    assert rules.look() is None
    assert rules.policy == Policy.load()


SHADOW = Policy.parse(WATCH_EVERYONE.replace('"everyone"', '"quiet"\nmode = "shadow"'), "quiet")


async def test_verdicts_in_force_are_announced_anew_when_the_policy_makes_shadows_of_them() -> None:
    watch, wire = new_watch(Settings())
    await given(watch)
    await watch.take(chunk(Acks(), REQUESTS, 0))
    said: list[bytes] = []
    send = wire.send

    async def listening(topic, value, key, *, headers=None):
        if topic == "stillwatch.enforcement":
            said.append(value)
        return await send(topic, value, key, headers=headers)

    watch.partitions[ZERO]._means.outbox._send = listening
    await watch.adopt(SHADOW)
    (verdict,) = map(decode, said)
    assert (verdict.action, verdict.mode, verdict.seq, verdict.policy) == ("watch", "shadow", 2, "quiet")
    await watch.adopt(msgspec.structs.replace(SHADOW))
    assert len(said) == 1
    wire.take_all()


async def test_a_partition_that_comes_later_goes_by_the_newest_policy() -> None:
    watch, _ = new_watch(Settings())
    await watch.adopt(SHADOW)
    await given(watch)
    assert watch.partitions[ZERO].memory.policy.version == "quiet"
    assert POLICY.version == "everyone"
