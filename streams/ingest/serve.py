"""Serve: an ingest process, from its start to SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import uvicorn
from prometheus_client import CollectorRegistry

from gateway.senders import Senders

from ..engine.vitals import vitals
from ..settings import Settings
from .counters import Counters
from .messages import Prompts
from .outlet import Outlet
from .web import Ingest, Limits

MOST_CONNECTIONS: Final = 1_000
"""Requests served at once; of more, uvicorn answers 503."""

CLOSING_SECONDS: Final = 15
"""Time allowed at the end for requests under way."""


class Where(NamedTuple):
    """How an ingest process listens."""

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def listen(self) -> socket.socket:
        """An open socket. Raises OSError, as when the port is taken."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.create_server((self.host, self.port), family=family, backlog=2_048)


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it: uvicorn's own handlers end the process before we are done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    settings: Settings,
    where: Where,
    senders: Senders,
    *,
    limits: Limits,
    prompts: Prompts,
    delivery_seconds: float,
) -> None:
    """Take requests until SIGTERM or SIGINT; what is under way then is still answered. Raises OSError."""
    counters = Counters(CollectorRegistry())
    outlet = Outlet(settings, delivery_seconds)
    counters.reachable.set_function(lambda: float(outlet.there))
    counters.unusable_tokens.set_function(lambda: float(senders.failures))
    app = Ingest(senders, outlet, counters, now=lambda: time.time_ns() // 1_000_000, limits=limits, prompts=prompts)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
        ssl_certfile=where.tls_cert,
        ssl_keyfile=where.tls_key,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    with where.listen() as listening:
        async with vitals(
            settings.web_host,
            settings.web_port,
            registry=counters.registry,
            ready=lambda: outlet.there,
            alive=lambda: True,
        ):
            delivering = asyncio.create_task(outlet.run())
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                await asyncio.wait({delivering, serving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                server.should_exit = True
                await serving
                delivering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await delivering
