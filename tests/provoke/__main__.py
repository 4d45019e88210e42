"""`make alerts`, half an hour on quiet cores; or only the troubles named: `make alerts ARGS="garbage hangs"`.

A real Apache Kafka, workers, the forwarder, Prometheus with our rules and an Alertmanager that tells us what it would
tell people.
"""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from aiohttp import web
from brokers import free_port, kafka_broker
from fleet import WATCH_EVERYONE

from streams import topics
from streams.settings import Settings

from .observers import People, observe, rules
from .stage import Stage, until
from .troubles import PROVOCATIONS, Provocation


def say(line: str) -> None:
    """A line of the table, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def provoke(stage: Stage, one: Provocation) -> list[tuple[str, str, str, str, str]]:
    """Rows of the table: alert, source, what was done, seconds to the notification, and from mending to the end."""
    with contextlib.suppress(TimeoutError):  # the rows of what fires still tell it
        await until(lambda: not stage.people.firing(), f"nothing fires before: {one.what}", 300)
    started = time.monotonic()
    awaited = [(f"Stillwatch{name}", False) for name in one.rules]
    awaited += [(f"Stillwatch{name}", True) for name in one.topic]
    rows, mended = [], None
    fault = ""
    try:
        async with one.done(stage):
            for name, of_topic in awaited:
                await until(
                    lambda n=name, t=of_topic: stage.people.first("firing", n, started, t) is not None,
                    f"{name} fires",
                    one.seconds,
                )
            mended = time.monotonic()
        for name, of_topic in awaited:
            since = stage.people.first("firing", name, started, of_topic) or started
            await until(
                lambda n=name, t=of_topic, s=since: stage.people.first("resolved", n, s, t) is not None, f"{name} ends"
            )
    except TimeoutError as error:
        fault = str(error)
    for name, of_topic in awaited:
        fired = stage.people.first("firing", name, started, of_topic)
        ended = stage.people.first("resolved", name, fired or started, of_topic)
        rows.append((
            name, "topic" if of_topic else "rule", one.what,
            f"{fired - started:.0f} s" if fired else "NOT TOLD",
            f"{max(0, ended - (mended or started)):.0f} s" if ended else f"NOT ENDED {fault}",
        ))  # fmt: skip
    return rows


async def play(stage: Stage, only: Sequence[str]) -> int:
    """All provocations, or those whose words are given; how many alerts did not come and go."""
    flowing = asyncio.create_task(stage.flow())
    await stage.ready("w0")
    failed = 0
    try:
        say("| alert | of | provoked by | told after | over, after mending |\n| --- | --- | --- | --- | --- |")
        for one in PROVOCATIONS:
            if only and not any(word in one.what for word in only):
                continue
            for row in await provoke(stage, one):
                failed += any("NOT" in cell for cell in row[3:])
                say("| " + " | ".join(row) + " |")
        hooked = sorted({(name, state) for _, state, name in stage.people.hooked})
        say(f"webhook was told: {', '.join(f'{name} {state}' for name, state in hooked)}")
        never = {rule["alert"] for group in rules() for rule in group["rules"] if "alert" in rule}
        never -= {what for _, _, what, labels in stage.people.told if "subject" not in labels}
        if not only:
            say(f"rules never seen firing: {', '.join(sorted(never)) or 'none'}")
            failed += len(never)
    finally:
        flowing.cancel()
    return failed


async def main(only: Sequence[str]) -> int:
    """Set everything up, provoke, take everything down."""
    for name in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(name) is None:
            sys.exit(f"needs {name}: apt-get install prometheus prometheus-alertmanager")
    people = People()
    app = web.Application()
    app.add_routes([web.post("/people", people.manager), web.post("/hook", people.hook)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="provoke-")))
        broker = stack.enter_context(kafka_broker(folder))
        ports = {name: free_port() for name in ("w0", "w1", "forwarder", "prometheus", "alertmanager")}
        (folder / "policy.toml").write_text(WATCH_EVERYONE)
        environment = broker.environment(
            STILLWATCH_POLICY=str(folder / "policy.toml"),
            STILLWATCH_ALERTMANAGER=f"http://127.0.0.1:{ports['alertmanager']}",
            STILLWATCH_WEBHOOK=f"{here}/hook",
            STILLWATCH_DELIVERY_SECONDS="30",
            STILLWATCH_SESSION_SECONDS="45",
        )
        settings = Settings.read(environment)
        await topics.create(settings)
        observe(stack, folder, ports, here)
        async with AsyncExitStack() as clients:
            producer = await clients.enter_async_context(settings.producer())
            stage = Stage(folder, broker, settings, environment, people, stack, producer, ports)
            try:
                stage.start("w0")
                stage.start("forwarder", "alerts", "forward")
                return await play(stage, only)
            finally:
                broker_process = broker.java and broker.java.process
                if broker_process:
                    broker_process.send_signal(signal.SIGCONT)
                for process in stage.processes.values():
                    if process.poll() is None:
                        process.kill()
                        process.wait()
                await runner.cleanup()


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main(sys.argv[1:])) else 0)
