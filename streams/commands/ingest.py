"""`stillwatch ingest`: requests over HTTP, for servers that cannot speak Kafka."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .process import settings_in_force
from .terminal import BAD_INPUT, fail

if TYPE_CHECKING:
    from ..ingest.messages import Prompts


@click.command()
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    required=True,
    help="File of senders, one `name token` a line; read anew when it changes.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8_081, show_default=True, help="Port to listen on.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate (PEM); without it, plain HTTP.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--body-mb", type=click.IntRange(1, 1_024), default=8, show_default=True, help="Largest body.")
@click.option(
    "--messages", type=click.IntRange(1), default=10_000, show_default=True, help="Most messages in one body."
)
@click.option(
    "--waiting-mb",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Bodies held in memory, all together; of more: 503.",
)
@click.option(
    "--delivery-seconds",
    type=click.FloatRange(1, 300),
    default=10,
    show_default=True,
    help="Time Kafka has to take a body; after that: 503.",
)
@click.option(
    "--prompts",
    type=click.Choice(["sketch", "text"]),
    default="sketch",
    show_default=True,
    help="What becomes of `text` and `instructions`: sketched here, or sent on as they are.",
)
def ingest(
    tokens: Path,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    body_mb: int,
    messages: int,
    waiting_mb: int,
    delivery_seconds: float,
    prompts: "Prompts",
) -> None:
    """Take batches of requests over HTTP and write them to Kafka, until SIGTERM.

    POST them to /v1/requests with a bearer token: a JSON array, or one a line, gzip or not. Each message that cannot
    be read is named in the reply with its field and value, and costs its neighbours nothing. While Kafka is away the
    reply is 503. /metrics, /ready and /live are on STILLWATCH_WEB_HOST and STILLWATCH_WEB_PORT.
    """
    import asyncio
    import ssl
    import time

    where = settings_in_force()
    if (tls_cert is None) != (tls_key is None):
        fail("--tls-cert and --tls-key belong together", BAD_INPUT)

    from gateway.senders import Senders, SendersError

    from ..ingest.serve import Where, serve
    from ..ingest.web import Limits

    try:
        senders = Senders(tokens, time.monotonic)
    except SendersError as error:
        fail(error, BAD_INPUT)
    limits = Limits(body_mb * 1024 * 1024, messages, waiting_mb * 1024 * 1024)
    listening = Where(host, port, tls_cert, tls_key)
    try:
        asyncio.run(serve(where, listening, senders, limits=limits, prompts=prompts, delivery_seconds=delivery_seconds))
    except ssl.SSLError as error:
        fail(f"{tls_cert}, {tls_key}: {error}", BAD_INPUT)
    except OSError as error:
        fail(f"{host}:{port}: {error.strerror or error}")
