"""Vitals: what probes and Prometheus may ask a worker, and nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


@asynccontextmanager
async def vitals(
    host: str,
    port: int,
    *,
    registry: CollectorRegistry,
    ready: Callable[[], bool],
    alive: Callable[[], bool],
    measure: Callable[[], None] = lambda: None,
) -> AsyncIterator[None]:
    """Serve `/metrics`, `/ready` and `/live` on `host:port`; port 0 serves nothing.

    `measure` is called before each scrape: a gauge says what is so now, even while the worker waits for something.
    State is never served: Faust's own web server would show its tables to anyone.
    """

    async def metrics(_: web.Request) -> web.Response:
        measure()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def readiness(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if ready() else web.Response(text="not ready\n", status=503)

    async def liveness(_: web.Request) -> web.Response:
        return web.Response(text="alive\n") if alive() else web.Response(text="stuck\n", status=503)

    if not port:
        yield
        return
    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/ready", readiness), web.get("/live", liveness)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
