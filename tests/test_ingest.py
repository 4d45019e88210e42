"""Ingest: batches over HTTP, each message for itself, and nothing lost while Kafka is away."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from aiokafka.partitioner import murmur2
from brokers import Broker, free_port
from fleet import Fleet
from prometheus_client import CollectorRegistry
from stories import T0, request

from gateway.request import encode
from gateway.senders import CHECK_SECONDS, Senders, SendersError
from gateway.sketch import sketch
from streams.ingest.counters import Counters
from streams.ingest.messages import BodyError, Message, read
from streams.ingest.outlet import AwayError, Outlet
from streams.ingest.web import Ingest, Limits
from streams.topics import REQUESTS

TOKEN = "a token of enough letters"
TOKENS = f"# who may send\nberlin {TOKEN.replace(' ', '-')}\n\ntokyo another-token-of-enough-letters\n"
BERLIN = {"authorization": f"Bearer {TOKEN.replace(' ', '-')}"}


@dataclass
class Kafka:
    """An outlet that is a list; it refuses while it is away."""

    there: bool = True
    taken: list[Message] = field(default_factory=list)

    async def deliver(self, messages: Sequence[Message]) -> None:
        if not self.there:
            raise AwayError("Kafka is away")
        self.taken += messages


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def tokens(folder: Path, text: str = TOKENS) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    return path


@dataclass
class House:
    """An ingest application in this process, and what stands behind it."""

    kafka: Kafka
    counters: Counters
    http: httpx.AsyncClient

    async def post(self, content: bytes, **headers: str) -> httpx.Response:
        return await self.http.post("/v1/requests", content=content, headers=BERLIN | headers)

    def count(self, name: str, **labels: str) -> float | None:
        return self.counters.registry.get_sample_value(name, labels)


def house(folder: Path, **more: Any) -> House:
    kafka, counters = Kafka(), Counters(CollectorRegistry())
    app = Ingest(Senders(tokens(folder), Clock()), cast(Outlet, kafka), counters, now=lambda: T0, **more)
    return House(kafka, counters, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://i"))


ONE, TWO = encode(request("ada", id="1")), encode(request("bob", id="2"))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (ONE + b"\n" + TWO + b"\n", {}),
        (ONE + b"\r\n\r\n" + TWO, {"content-type": "application/x-ndjson"}),
        (b" [" + ONE + b", " + TWO + b"]\n", {"content-type": "application/json"}),
        (gzip.compress(ONE + b"\n" + TWO, mtime=0), {"content-encoding": "gzip"}),
    ],
    ids=["lines", "windows", "array", "gzip"],
)
async def test_a_batch_reaches_kafka_as_it_came_keyed_by_account(
    tmp_path: Path, body: bytes, headers: dict[str, str]
) -> None:
    ingest = house(tmp_path)
    reply = await ingest.post(body, **headers)
    assert (reply.status_code, reply.json()) == (200, {"accepted": 2, "refused": 0})
    assert [(message.key, message.value.strip()) for message in ingest.kafka.taken] == [(b"ada", ONE), (b"bob", TWO)]
    assert ingest.count("stillwatch_ingest_messages_total", outcome="taken") == 2
    assert ingest.count("stillwatch_ingest_body_bytes") == 0


async def test_one_alone_may_span_lines(tmp_path: Path) -> None:
    ingest = house(tmp_path)
    reply = await ingest.post(json.dumps(json.loads(ONE), indent=2).encode())
    assert reply.json() == {"accepted": 1, "refused": 0}


async def test_what_cannot_be_read_is_named_and_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    ingest = house(tmp_path)
    wrong = [
        b'{"id": "3"',
        ONE.replace(b'"output_tokens":50', b'"output_tokens":-1'),
        encode(request("eve", at=T0 + 700_000)),
        ONE.replace(b'"model":"m"', b'"model":"' + b"m" * 70_000 + b'"'),
        ONE.replace(b'"account":"ada",', b""),
    ]
    reply = await ingest.post(b"\n".join([ONE, *wrong, b"", TWO]))
    assert reply.status_code == 200
    said = reply.json()
    assert (said["accepted"], said["refused"]) == (2, 5)
    assert [(error["index"], error["reason"], error["field"], error["value"]) for error in said["errors"]] == [
        (1, "not_json", None, None),
        (2, "out_of_range", "output_tokens", "-1"),
        (3, "in_future", "at", str(T0 + 700_000)),
        (4, "too_large", None, None),
        (5, "missing_field", "account", None),
    ]
    assert said["errors"][1]["message"] == "output_tokens: expected int >= 0, got -1"
    assert [message.key for message in ingest.kafka.taken] == [b"ada", b"bob"]
    assert ingest.count("stillwatch_ingest_messages_total", outcome="in_future") == 1


async def test_a_batch_in_which_nothing_can_be_read_says_so_by_its_status(tmp_path: Path) -> None:
    ingest = house(tmp_path)
    reply = await ingest.post(b"[1, null]")
    assert reply.status_code == 422
    assert [error["index"] for error in reply.json()["errors"]] == [0, 1]
    assert (await ingest.post(b"[]")).json() == {"accepted": 0, "refused": 0}


async def test_of_many_errors_a_hundred_are_told(tmp_path: Path) -> None:
    said = (await house(tmp_path).post(b"{}\n" * 250)).json()
    assert (said["refused"], len(said["errors"])) == (250, 100)


async def test_prompts_become_sketches_and_no_word_of_them_goes_further(tmp_path: Path) -> None:
    raw = encode(request("ada", text="Think step by step.", instructions="Be a patient teacher."))
    batch = read(raw, T0, encoding="identity", prompts="sketch", most_bytes=10**6, most=9)
    told = json.loads(batch.messages[0].value)
    assert "text" not in told
    assert "instructions" not in told
    expected = request("ada", sketch=sketch("Think step by step.", "Be a patient teacher."))
    assert batch.messages[0].value == encode(expected)

    batch = read(raw, T0, encoding="identity", prompts="text", most_bytes=10**6, most=9)
    assert batch.messages[0].value == raw


async def test_a_sketch_that_came_is_kept_and_the_words_beside_it_are_dropped() -> None:
    own = sketch("as the sender saw it")
    raw = encode(request("ada", text="other words", sketch=own)) + b"\n" + encode(request("bob", instructions="words"))
    batch = read(raw, T0, encoding="identity", prompts="sketch", most_bytes=10**6, most=9)
    assert [message.value for message in batch.messages] == [
        encode(request("ada", sketch=own)),
        encode(request("bob")),
    ]


@pytest.mark.parametrize(
    ("content", "headers", "status", "code", "said"),
    [
        (b"[1, 2", {}, 400, "unreadable", "not a JSON array: "),
        (b"x" * 5_001, {}, 413, "too_large", "over the limit of 5000 bytes"),
        (
            gzip.compress(b"x" * 5_001, mtime=0),
            {"content-encoding": "gzip"},
            413,
            "too_large",
            "5000 bytes once unpacked",
        ),
        (gzip.compress(ONE, mtime=0)[:-9], {"content-encoding": "gzip"}, 400, "unreadable", "not gzip: cut short"),
        (b"plain", {"content-encoding": "gzip"}, 400, "unreadable", "not gzip: "),
        (b"{}", {"content-encoding": "br"}, 415, "unknown_encoding", "content-encoding 'br' is not known"),
        (b"[" + b"1," * 20 + b"1]", {}, 413, "too_large", "over the limit of 20 messages"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_refused_whole(
    tmp_path: Path, content: bytes, headers: dict[str, str], status: int, code: str, said: str
) -> None:
    ingest = house(tmp_path, limits=Limits(body_bytes=5_000, messages=20))
    reply = await ingest.post(content, **headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert said in error["message"]
    assert ingest.kafka.taken == []


async def test_a_body_that_hides_its_length_is_counted_as_it_comes(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * 1_000

    ingest = house(tmp_path, limits=Limits(body_bytes=5_000))
    reply = await ingest.http.post("/v1/requests", content=pieces(), headers=BERLIN)
    assert reply.status_code == 413
    assert ingest.count("stillwatch_ingest_body_bytes") == 0


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer  ",
        "Basic " + TOKEN.replace(" ", "-"),
        "Bearer a-token-of-enough-lettern",
        "Bearer ü",
    ],
)
async def test_strangers_are_refused_before_their_body_is_read(tmp_path: Path, authorization: str | None) -> None:
    ingest = house(tmp_path)
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    reply = await ingest.http.post("/v1/requests", content=b"\xff" * 9_000_000, headers=headers)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert ingest.count("stillwatch_ingest_replies_total", status="401") == 1


async def test_other_paths_and_methods_say_what_there_is(tmp_path: Path) -> None:
    http = house(tmp_path).http
    assert (await http.post("/v1/request", headers=BERLIN)).status_code == 404
    assert (await http.get("/v1/requests", headers=BERLIN)).headers["allow"] == "POST"


async def test_while_kafka_is_away_senders_are_told_when_to_come_back(tmp_path: Path) -> None:
    ingest = house(tmp_path)
    assert (await ingest.http.get("/ready")).status_code == 200
    ingest.kafka.there = False
    reply = await ingest.post(ONE)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert (await ingest.http.get("/ready")).status_code == 503
    ingest.kafka.there = True
    assert (await ingest.post(ONE)).status_code == 200


async def test_what_waits_for_kafka_is_bounded(tmp_path: Path) -> None:
    """Four bodies of 300 bytes, room for 700: the third finds it full; once the first two are through there is room."""
    ingest = house(tmp_path, limits=Limits(waiting_bytes=700))
    released = asyncio.Event()
    waiting: list[Message] = []

    async def deliver(messages: Sequence[Message]) -> None:
        waiting.extend(messages)
        await released.wait()

    ingest.kafka.deliver = deliver  # type: ignore[method-assign]
    body = ONE.replace(b'"model":"m"', b'"model":"' + b"m" * (301 - len(ONE)) + b'"')
    held = [asyncio.create_task(ingest.post(body)) for _ in range(2)]
    while len(waiting) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    refused = await ingest.post(body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "try_again")
    released.set()
    assert [(await task).status_code for task in held] == [200, 200]
    assert (await ingest.post(body)).status_code == 200


def test_tokens_are_rotated_without_a_restart(tmp_path: Path) -> None:
    clock, path = Clock(), tokens(tmp_path, "berlin the-old-token-of-berlin\n")
    senders = Senders(path, clock)
    assert senders.named("Bearer the-old-token-of-berlin") == "berlin"
    path.write_text("berlin the-old-token-of-berlin\nberlin the-new-token-of-berlin\n")
    clock.now += CHECK_SECONDS
    assert senders.named("bearer the-new-token-of-berlin") == "berlin"
    assert senders.named("Bearer the-old-token-of-berlin") == "berlin"
    path.write_text("berlin the-new-token-of-berlin\n")
    clock.now += CHECK_SECONDS
    assert senders.named("Bearer the-old-token-of-berlin") is None
    path.unlink()
    clock.now += CHECK_SECONDS
    assert senders.named("Bearer the-new-token-of-berlin") == "berlin", "a lost file locks nobody out"
    assert senders.failures == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no sender in it"),
        ("# nobody\n", "no sender in it"),
        ("\nberlin\n", "line 2: expected a name and a token, got 1 words"),
        ("berlin short\n", "line 1: the token of berlin has 5 characters, fewer than 16"),
        ("a sixteen-letters-\nb sixteen-letters-\n", "line 2: b has the same token as a"),
    ],
)
def test_a_file_of_tokens_is_refused_by_line_and_shows_none(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SendersError) as caught:
        Senders(tokens(tmp_path, text), Clock())
    assert str(caught.value).startswith(f"{tmp_path}/tokens: {complaint}")
    assert "short" not in str(caught.value)


def test_an_array_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match="not a JSON array"):
        read(b"[" * 100_000, T0, encoding="identity", prompts="text", most_bytes=10**6, most=9)


# --- the process ---


@dataclass
class Process:
    """`stillwatch ingest`, running."""

    running: "subprocess.Popen[bytes]"
    url: str
    web: str
    log: Path

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(condition):
                assert self.running.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)

    def status(self, path: str = "/ready") -> int:
        try:
            return httpx.get(self.web + path).status_code
        except httpx.HTTPError:
            return 0


def started(fleet: Fleet, folder: Path, *more: str) -> Process:
    port, web, log = free_port(), free_port(), folder / "ingest.log"
    command = [sys.executable, "-m", "streams.cli", "ingest", "--tokens", str(tokens(folder)), "--port", str(port)]
    with log.open("wb") as out:
        running = subprocess.Popen(
            [*command, *more],
            env={**os.environ, **fleet.environment, "STILLWATCH_WEB_PORT": str(web)},
            cwd=Path(__file__).parents[1],
            stdout=out,
            stderr=out,
        )
    return Process(running, f"http://127.0.0.1:{port}/v1/requests", f"http://127.0.0.1:{web}", log)


async def test_what_is_posted_lies_where_murmur2_puts_it(embedded: Broker, tmp_path: Path) -> None:
    fleet = await Fleet.assemble(embedded, tmp_path)
    ingest = started(fleet, tmp_path)
    try:
        await ingest.until(lambda: ingest.status() == 200)
        sent = [encode(request(f"account-{n}", id=str(n))) for n in range(40)]
        async with httpx.AsyncClient() as http:
            assert "stillwatch_ingest_kafka_reachable 1.0" in (await http.get(ingest.web + "/metrics")).text
            reply = await http.post(ingest.url, content=b"\n".join(sent), headers=BERLIN)
            assert (reply.status_code, reply.json()["accepted"]) == (200, 40)
            assert (await http.post(ingest.url, content=sent[0])).status_code == 401
        ingest.running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(ingest.running.wait, 20) == 0, ingest.log.read_text()
    finally:
        ingest.running.kill()
    found = await fleet.heard(REQUESTS, 40)
    assert sorted(record.value or b"" for record in found) == sorted(sent)
    for record in found:
        assert record.partition == (murmur2(record.key or b"") & 0x7FFFFFFF) % fleet.settings.partitions


@pytest.mark.kafka
async def test_kafka_may_stop_and_come_back(frail_kafka: Broker, tmp_path: Path) -> None:
    if frail_kafka.java is None:
        pytest.skip("this Kafka is not ours to stop")
    fleet = await Fleet.assemble(frail_kafka, tmp_path)
    ingest = started(fleet, tmp_path, "--delivery-seconds", "2")
    async with httpx.AsyncClient(headers=BERLIN, timeout=30) as http:
        try:
            await ingest.until(lambda: ingest.status() == 200)
            assert (await http.post(ingest.url, content=ONE)).status_code == 200
            await asyncio.to_thread(frail_kafka.java.end)
            try:
                reply = await http.post(ingest.url, content=TWO)
                assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
                await ingest.until(lambda: ingest.status() == 503)
                assert ingest.status("/live") == 200
            finally:
                await asyncio.to_thread(frail_kafka.java.start)
            await ingest.until(lambda: ingest.status() == 200)
            # A broker that has just come back may take longer than two seconds: the client asks again, as it was told.
            async with asyncio.timeout(120):
                while (await http.post(ingest.url, content=TWO)).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        finally:
            ingest.running.kill()
    # What was refused may have arrived all the same: it counts once, by its id.
    assert {record.value for record in await fleet.heard(REQUESTS, 2)} == {ONE, TWO}


def test_a_start_that_cannot_be_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def said(*more: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "streams.cli", "ingest", *more]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    nowhere = str(tmp_path / "nowhere")
    assert said("--tokens", nowhere) == (2, f"stillwatch: {nowhere}: No such file or directory\n")
    given = ("--tokens", str(tokens(tmp_path)))
    assert said(*given, "--tls-cert", "a.pem") == (2, "stillwatch: --tls-cert and --tls-key belong together\n")
