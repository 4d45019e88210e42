"""The command `stillwatch`."""

# Modules of commands load click and nothing heavy: `stillwatch --help` must not wait for numpy, Kafka and Faust.

from importlib.metadata import version
from typing import Final

import click

from .commands.alerts import alerts
from .commands.campaigns import campaigns
from .commands.demo import demo
from .commands.doctor import doctor
from .commands.evaluate import evaluate
from .commands.explain import explain
from .commands.forget import forget
from .commands.ingest import ingest
from .commands.metrics import metrics
from .commands.policy import policy
from .commands.replay import replay
from .commands.schema import schema
from .commands.simulate import simulate
from .commands.spoken import feedback
from .commands.state import backup, grow, restore
from .commands.topics import topics
from .commands.verdicts import verdicts
from .commands.worker import settings, worker

COMMANDS: Final[tuple[click.Command, ...]] = (
    settings,
    topics,
    doctor,
    backup,
    restore,
    grow,
    verdicts,
    campaigns,
    explain,
    feedback,
    forget,
    policy,
    replay,
    schema,
    metrics,
    worker,
    alerts,
    ingest,
    simulate,
    demo,
    evaluate,
)


@click.group(commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("stillwatch"), message="stillwatch %(version)s")
def main() -> None:
    """Watch the request stream of an LLM API and stop distillation attacks while they are still worth little.

    Where a worker runs is set by variables (see `stillwatch settings`), what a score earns by a policy file.
    """


if __name__ == "__main__":
    main()
