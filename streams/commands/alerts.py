"""`stillwatch alerts`: what a person should see, brought to where they look."""

import click

from .process import asked, settings_in_force
from .terminal import BAD_INPUT, fail


@click.group()
def alerts() -> None:
    """Pass on what the detector wants a person to see."""


@alerts.command()
def forward() -> None:
    """Forward the alerts topic to Alertmanagers and a webhook until SIGTERM.

    STILLWATCH_ALERTMANAGER and STILLWATCH_WEBHOOK say where. One process is enough; a second one would tell the webhook
    everything twice.
    """
    from ..forward import forward as run

    where = settings_in_force()
    if not (where.alertmanager or where.webhook):
        fail("nobody to forward to: set STILLWATCH_ALERTMANAGER, STILLWATCH_WEBHOOK or both", BAD_INPUT)
    asked(where, run(where))
