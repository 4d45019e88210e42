"""What the pipeline costs, stage by stage, in memory and without Kafka: `python -m tests.bench.pipeline`."""

import click

from streams.commands.process import settle


@click.command()
@click.option("--records", type=click.IntRange(1_000), default=100_000, show_default=True)
@click.option("--accounts", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--chunk", type=click.IntRange(1), default=2_000, show_default=True, help="Records in a micro-batch.")
def main(records: int, accounts: int, chunk: int) -> None:
    """Print what each stage of the pipeline costs, after half of the records have warmed it up."""
    # As `stillwatch worker` does: before numpy is loaded, so imports wait until then.
    settle()

    from rich.console import Console

    from .stages import NEWEST_AT, records_of, stages, table
    from .traffic import Traffic

    taken = records_of(Traffic(records, NEWEST_AT, accounts=accounts))
    half = records // 2
    Console().print(table(stages(taken[:half], taken[half:], chunk)))


if __name__ == "__main__":
    main()
