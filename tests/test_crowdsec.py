"""CrowdSec: bouncers hear of every decision once, and a real one from Debian acts on them."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from brokers import Broker
from programs import program
from serving import listening
from stories import HOUR, MINUTE, SECOND, T0
from test_guard import guard_with, verdict

from gateway.crowdsec import Filters, Ledger, Stream, app, duration
from gateway.gate import wall
from gateway.guard import Guard
from gateway.senders import SendersError
from gateway.settings import Settings, SettingsError
from gateway.verdict import encode
from streams import topics
from streams.settings import Settings as Worker
from streams.topics import ENFORCEMENT

KEY = "a-key-of-enough-letters"
KEYS = f"door {KEY}\ngate another-key-of-enough-letters\n"


def heard(ledger: Ledger, now: int = T0, bouncer: str = "door", **query: str) -> tuple[list[str], list[str]]:
    """New and deleted decisions as `type scope:value`."""
    told = ledger.pull(bouncer, now, startup=query.pop("startup", "") == "true", filters=Filters.read(query))
    new, deleted = ([f"{each.type} {each.scope}:{each.value}" for each in told[name]] for name in ("new", "deleted"))
    return new, deleted


def test_each_action_has_its_word_and_watching_is_no_decision() -> None:
    guard = guard_with(
        verdict("a", "watch"),
        verdict("b", "throttle"),
        verdict("c", "verify", scope="org"),
        verdict("d", "degrade", scope="key"),
        verdict("e", "suspend", scope="campaign"),
        verdict("f", "suspend", mode="shadow"),
        verdict("g", "quarantine"),
    )
    (told,) = [Ledger(guard).pull("door", T0 + MINUTE, startup=True, filters=Filters())]
    assert [(each.type, each.scope, each.value, each.duration, each.scenario) for each in told["new"]] == [
        ("throttle", "account", "b", "0h59m0s", "stillwatch/throttle"),
        ("captcha", "org", "c", "0h59m0s", "stillwatch/verify"),
        ("degrade", "key", "d", "0h59m0s", "stillwatch/degrade"),
        ("ban", "campaign", "e", "0h59m0s", "stillwatch/suspend"),
    ]
    assert [each.id for each in told["new"]] == [1, 2, 3, 4]
    assert told["deleted"] == []


def test_a_bouncer_hears_of_each_change_once() -> None:
    guard = guard_with(verdict("ada", "throttle"), verdict("eve", "suspend"))
    ledger = Ledger(guard)
    assert heard(ledger, startup="true") == (["throttle account:ada", "ban account:eve"], [])
    assert heard(ledger) == ([], [])
    guard.take(verdict("ada", "verify", seq=2), T0)
    assert heard(ledger) == (["captcha account:ada"], ["throttle account:ada"])
    guard.lift("account:eve", T0)
    assert heard(ledger) == ([], ["ban account:eve"])
    assert heard(ledger) == ([], [])
    assert heard(ledger, T0 + HOUR) == ([], ["captcha account:ada"]), "what ends by itself is told as well"


def test_a_renewed_decision_is_told_with_its_new_end_and_nothing_is_deleted() -> None:
    guard = guard_with(verdict("ada", "throttle"))
    ledger = Ledger(guard)
    heard(ledger)
    guard.take(verdict("ada", "throttle", seq=2, expires_at=T0 + 2 * HOUR), T0)
    told = ledger.pull("door", T0, startup=False, filters=Filters())
    assert [(each.id, each.duration) for each in told["new"]] == [(2, "2h0m0s")]
    assert told["deleted"] == []


def test_a_deleted_decision_is_over_whatever_it_once_said() -> None:
    guard = guard_with(verdict("ada", "throttle"))
    ledger = Ledger(guard)
    heard(ledger)
    guard.lift("account:ada", T0)
    (deleted,) = ledger.pull("door", T0, startup=False, filters=Filters())["deleted"]
    assert deleted.duration == "-0h0m1s"


def test_each_bouncer_has_its_own_place_and_one_that_starts_anew_hears_everything_that_holds() -> None:
    guard = guard_with(verdict("ada", "throttle"))
    ledger = Ledger(guard)
    heard(ledger)
    guard.lift("account:ada", T0)
    guard.take(verdict("bob", "throttle"), T0)
    assert heard(ledger, bouncer="door") == (["throttle account:bob"], ["throttle account:ada"])
    assert heard(ledger, bouncer="gate", startup="true") == (["throttle account:bob"], [])
    assert heard(ledger, bouncer="door", startup="true") == (["throttle account:bob"], [])


def test_one_that_was_away_for_too_many_ends_hears_everything_again() -> None:
    guard = Guard(when_stale="keep")
    ledger = Ledger(guard, most_ended=2)
    guard.take(verdict("ada", "throttle"), T0)
    heard(ledger)
    for n in range(3):
        guard.take(verdict(f"b{n}", "throttle"), T0)
        heard(ledger, bouncer="gate")
        guard.lift(f"account:b{n}", T0)
        heard(ledger, bouncer="gate")
    assert heard(ledger) == (["throttle account:ada"], ["throttle account:b1", "throttle account:b2"])


def test_verdicts_that_nobody_confirms_are_taken_back() -> None:
    guard = guard_with(verdict("ada", "throttle"))
    ledger = Ledger(guard)
    heard(ledger)
    assert heard(ledger, T0 + 2 * MINUTE) == ([], ["throttle account:ada"])
    guard.confirm(T0 + 2 * MINUTE)
    assert heard(ledger, T0 + 2 * MINUTE) == (["throttle account:ada"], [])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"scopes": "account"}, ["throttle account:ada"]),
        ({"scopes": "Org,key"}, ["ban org:acme"]),
        ({"scopes": "ip,range"}, []),
        ({"origins": "crowdsec,cscli"}, []),
        ({"origins": "stillwatch"}, ["throttle account:ada", "ban org:acme"]),
        ({"scenarios_containing": "suspend"}, ["ban org:acme"]),
        ({"scenarios_not_containing": "suspend"}, ["throttle account:ada"]),
    ],
)
def test_a_bouncer_may_ask_for_some_only(query: dict[str, str], expected: list[str]) -> None:
    ledger = Ledger(guard_with(verdict("ada", "throttle"), verdict("acme", "suspend", scope="org")))
    assert heard(ledger, **query) == (expected, [])


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0h0m0s"), (61 * SECOND, "0h1m1s"), (100 * HOUR + 999, "100h0m0s"), (-1_500, "-0h0m1s")],
)
def test_spans_are_written_as_go_does(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


def settings(folder: Path, **more: str) -> Settings:
    (folder / "keys").write_text(KEYS)
    return Settings.read({"STILLWATCH_BOUNCER_KEYS": str(folder / "keys")} | more, identifies=False)


def test_it_needs_a_file_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="set STILLWATCH_BOUNCER_KEYS: a file of bouncers"):
        app()
    monkeypatch.setenv("STILLWATCH_BOUNCER_KEYS", str(tmp_path / "nowhere"))
    with pytest.raises(SendersError, match="nowhere: No such file"):
        app()


async def test_strangers_hear_nothing(tmp_path: Path) -> None:
    stream = Stream(settings(tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(stream), base_url="http://stillwatch") as http:
        for headers in ({}, {"x-api-key": "another"}, {"authorization": f"Bearer {KEY}"}):
            assert (await http.get("/v1/decisions/stream", headers=headers)).status_code == 403
        assert (await http.get("/ready")).status_code == 503
        assert "stillwatch_gateway_strangers_total 3\n" in (await http.get("/metrics")).text


@pytest.fixture
async def bouncer(tmp_path: Path) -> AsyncIterator["Bouncer"]:
    path = program("crowdsec-custom-bouncer", "apt-get install --no-install-recommends crowdsec-custom-bouncer")
    running = Bouncer(path, tmp_path)
    yield running
    running.end()


class Bouncer:
    """The real custom bouncer: for each decision it runs a program, which here writes down what it was told."""

    def __init__(self, path: str, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, address: str) -> None:
        folder = self._folder
        hook = folder / "hook"
        hook.write_text(f'#!/bin/sh\necho "$1 $2 $4 $5" >> {folder}/told\n')
        hook.chmod(0o755)
        config = {
            "bin_path": str(hook),
            "piddir": str(folder),
            "log_dir": str(folder),
            "log_mode": "stdout",
            "log_level": "info",
            "daemonize": False,
            "update_frequency": "1s",
            "cache_retention_duration": "10s",
            "api_url": f"http://{address}/",
            "api_key": KEY,
            "prometheus": {"enabled": False},
        }
        (folder / "bouncer.yaml").write_text(json.dumps(config))
        with (folder / "bouncer.log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._path, "-c", str(folder / "bouncer.yaml")], stdout=log, stderr=log, cwd=folder
            )

    async def told(self, count: int) -> list[tuple[str, str, str, dict[str, Any]]]:
        """What it passed on: add or del, the value, the scenario, the whole decision. Waits for so many."""
        path = self._folder / "told"
        async with asyncio.timeout(60):
            while not path.exists() or len(path.read_text().splitlines()) < count:
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "bouncer.log").read_text()
                await asyncio.sleep(0.05)
        lines = [line.split(" ", 3) for line in path.read_text().splitlines()]
        return [(what, value, scenario, json.loads(whole)) for what, value, scenario, whole in lines]

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


async def test_a_real_bouncer_acts_on_verdicts_and_takes_them_back(
    embedded: Broker, bouncer: Bouncer, tmp_path: Path
) -> None:
    worker = Worker.read(embedded.environment())
    await topics.create(worker)
    where = {"STILLWATCH_BROKERS": embedded.address, "STILLWATCH_TOPIC_PREFIX": worker.topic_prefix}
    lasting = {"at": wall(), "expires_at": wall() + HOUR}
    async with worker.producer() as producer:

        async def announce(value: str, action: str, seq: int = 1) -> None:
            one = verdict(value, action, seq, **lasting)
            await producer.send_and_wait(ENFORCEMENT.name(worker), encode(one), one.subject.encode())

        await announce("eve", "suspend")
        await announce("ida", "watch")
        async with listening(Stream(settings(tmp_path, **where))) as address:
            bouncer.start(address)
            ((what, value, scenario, whole),) = await bouncer.told(1)
            assert (what, value, scenario) == ("add", "eve", "stillwatch/suspend")
            assert (whole["type"], whole["scope"], whole["origin"]) == ("ban", "account", "stillwatch")
            assert whole["duration"].startswith("0h59m")

            await announce("bob", "verify")
            assert (await bouncer.told(2))[1][:3] == ("add", "bob", "stillwatch/verify")
            await producer.send_and_wait(ENFORCEMENT.name(worker), None, b"account:eve")
            assert (await bouncer.told(3))[2][:2] == ("del", "eve")
            async with httpx.AsyncClient(base_url=f"http://{address}") as http:
                assert (await http.get("/ready")).status_code == 200
