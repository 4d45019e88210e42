"""The web port: what it answers, what it never shows, and that nobody can hold it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from brokers import Broker, free_port
from fleet import Fleet
from prometheus_client import CollectorRegistry, Counter
from stories import request, sketch

from gateway.request import encode
from streams.engine.vitals import MOST_CONNECTIONS, MOST_HEAD_BYTES, vitals


def yes() -> bool:
    return True


@asynccontextmanager
async def served(
    ready: Callable[[], bool] = yes, alive: Callable[[], bool] = yes, seconds: float = 10
) -> AsyncIterator[int]:
    """The port of one that is being served."""
    registry, port = CollectorRegistry(), free_port()
    Counter("visits", "Visits.", registry=registry).inc(3)
    async with vitals("127.0.0.1", port, registry=registry, ready=ready, alive=alive, seconds=seconds):
        yield port


async def said(port: int, raw: bytes) -> bytes:
    """What comes back for some bytes, until the other end closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    async with asyncio.timeout(10):
        answer = await reader.read(-1)
    writer.close()
    return answer


async def test_three_paths_and_no_other() -> None:
    async with served(ready=lambda: False, alive=lambda: False) as port, httpx.AsyncClient() as client:
        at = f"http://127.0.0.1:{port}"
        page = await client.get(f"{at}/metrics?x=1")
        assert page.status_code == 200
        assert "visits_total 3.0" in page.text
        assert page.headers["content-type"].startswith("text/plain; version=")
        assert (await client.get(f"{at}/ready")).status_code == 503
        assert (await client.get(f"{at}/live")).text == "stuck\n"
        assert (await client.head(f"{at}/live")).text == ""
        for path in ("/", "/table/", "/profiles", "/metrics/", "//metrics", "/../etc/passwd", "/live%00"):
            assert (await client.get(at + path)).status_code == 404, path
        assert (await client.post(f"{at}/live", content=b"x" * 1_000_000)).status_code == 405
    async with served() as port, httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/ready")).text == "ready\n"
        assert (await client.get(f"http://127.0.0.1:{port}/live")).text == "alive\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /live HTTP/1.1\r\nx: " + b"y" * MOST_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 3 * MOST_HEAD_BYTES, b"431"),
        (b"\r\n\r\n", b"400"),
        (b"\xff\xfe\x00 \x00 \x00\r\n\r\n", b"400"),
        (b"GET /live HTTP/2.0\r\n\r\n", b"400"),
        (b"GET  /live HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
    ],
)
async def test_whatever_comes_in_gets_a_status(raw: bytes, status: bytes) -> None:
    async with served() as port:
        assert (await said(port, raw)).startswith(b"HTTP/1.1 " + status + b" ")


async def test_who_dawdles_is_let_go() -> None:
    async with served(seconds=0.3) as port:
        began = time.monotonic()
        assert await said(port, b"GET /live HTTP/1.1\r\nx: ") == b""
        assert 0.2 < time.monotonic() - began < 5


async def test_many_who_dawdle_shut_nobody_out_for_long() -> None:
    async with served(seconds=0.5) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MOST_CONNECTIONS)]
        async with asyncio.timeout(10):
            while not (await _live(port)).startswith(b"HTTP/1.1 200"):
                pass
        for _, writer in idle:
            writer.close()


async def _live(port: int) -> bytes:
    try:
        return await said(port, b"GET /live HTTP/1.1\r\n\r\n")
    except OSError:
        return b""


@pytest.mark.kafka
async def test_nothing_about_accounts_is_shown(kafka: Broker, tmp_path: Path) -> None:
    """A worker that has seen, judged and refused: none of the names it met stands on any page."""
    names = ("account-of-ada", "org-of-ada", "key-of-ada", "10.98.76.54", "client-of-ada", "model-of-ada", "payment-of")
    account, org, key, ip, client, model, payment = names
    now = int(time.time() * 1000)
    asked = [
        request(
            account, now, id=f"id-of-{n}", org=org, key=key, ip=ip, client=client, model=model, payment=payment,
            sketch=sketch(n, cues=("cue-of-ada",)),
        )
        for n in range(200)
    ]  # fmt: skip
    unreadable = json.dumps({"account": "account-of-eve", "id": "id-of-eve"}).encode()
    fleet = await Fleet.assemble(kafka, tmp_path)
    await fleet.produce([(account.encode(), encode(one)) for one in asked] + [(b"account-of-eve", unreadable)])
    worker = fleet.start()
    try:
        await fleet.until(lambda: worker.metric("stillwatch_live_verdicts") == 1)
        async with httpx.AsyncClient() as visitor:
            paths = ("/", "/metrics", "/ready", "/live", f"/{account}", "/table/profiles", "/router/", "/stats/")
            pages = [await visitor.get(f"http://127.0.0.1:{worker.port}{path}") for path in paths]
    finally:
        fleet.dismiss()
    assert [page.status_code for page in pages] == [404, 200, 200, 200, 404, 404, 404, 404]
    told = "".join(page.text + str(page.headers) for page in pages)
    assert "-of-" not in told
    assert ip not in told
    assert "-of-" not in worker.log.read_text()
