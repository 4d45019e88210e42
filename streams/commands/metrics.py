"""What a worker measures."""

import click


@click.command()
def metrics() -> None:
    """Print the reference of all metrics (docs/metrics.md): name, kind, unit, labels and meaning."""
    from prometheus_client import CollectorRegistry

    from sinks.catalogue import page
    from sinks.metrics import Metrics

    click.echo(page(Metrics(CollectorRegistry()).entries), nl=False)
