"""What a worker measures."""

import click


@click.command()
def metrics() -> None:
    """Print the reference of all metrics (docs/metrics.md): name, kind, unit, labels and meaning."""
    from prometheus_client import CollectorRegistry

    from sinks.catalogue import page
    from sinks.forwarding import ForwardingMetrics
    from sinks.metrics import Metrics

    from ..ingest.counters import Counters

    sections = {
        "stillwatch worker": Metrics(CollectorRegistry()).entries,
        "stillwatch ingest": Counters(CollectorRegistry()).entries,
        "stillwatch alerts forward": ForwardingMetrics(CollectorRegistry()).entries,
    }
    click.echo(page(sections), nl=False)
