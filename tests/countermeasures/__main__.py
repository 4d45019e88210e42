"""Does it hurt a thief? `make countermeasures`: models, thieves and countermeasures on one CPU, in minutes."""

import json
import time
from pathlib import Path
from typing import Final

import click

from . import digits, marked, theft
from .language import Ngram, corpus
from .report import Found, tables

SIZES: Final = {
    "full": dict(digits=(50, 100, 1_000), digits_at=100, tokens=(2_000, 8_000, 32_000), tokens_at=8_000, texts=400),
    "quick": dict(digits=(60, 100), digits_at=100, tokens=(500, 1_000), tokens_at=1_000, texts=20),
}


@click.command()
@click.option("--seeds", default="1,2,3", show_default=True, help="Each seed is one whole repetition.")
@click.option("--size", type=click.Choice(list(SIZES)), default="full", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/countermeasures"), show_default=True)
@click.option("--picture/--no-picture", default=True, help="Draw PNG and SVG; needs matplotlib.")
def main(seeds: str, size: str, out: Path, picture: bool) -> None:
    """Let thieves copy models through countermeasures, and report what they got and what honest customers lost."""
    numbers = tuple(int(seed) for seed in seeds.split(","))
    found = measured(numbers, **SIZES[size])  # type: ignore[arg-type]
    out.mkdir(parents=True, exist_ok=True)
    text = tables(found)
    (out / "tables.md").write_text(text)
    (out / "results.json").write_text(json.dumps(found.as_json(), indent=1))
    click.echo(text)
    if picture:
        try:
            from .picture import draw
        except ImportError:
            raise click.ClickException("no matplotlib: pip install -e '.[pictures]', or --no-picture") from None
        for path in draw(found, out / "countermeasures"):
            click.echo(f"drew {path}")


def measured(
    seeds: tuple[int, ...],
    digits: tuple[int, ...],
    digits_at: int,
    tokens: tuple[int, ...],
    tokens_at: int,
    texts: int,
) -> Found:
    """All three experiments."""
    began = time.process_time()

    def say(what: str) -> None:
        click.echo(f"{what} after {time.process_time() - began:.0f} s of CPU", err=True)

    images = _digits(seeds, digits, digits_at)
    say("digits copied")
    have = corpus()
    teacher = Ngram().learn(have.teacher).tuned(have.own)
    stolen, honest = theft.experiment(have, teacher, tokens, tokens_at, seeds)
    say("language model copied")
    marks, costs = marked.experiment(have, teacher, texts, seeds)
    say("marks looked for")
    return Found(
        seeds=seeds,
        corpus=have.fingerprint,
        digits=images,
        digits_at=digits_at,
        digits_honest=_honest(seeds),
        tokens=stolen,
        tokens_at=tokens_at,
        tokens_honest=honest,
        public_bits=theft.public(have).tuned(have.own).bits(have.test),
        teacher_bits=teacher.bits(have.test),
        marks=marks,
        costs=costs,
        texts=texts,
    )


def _digits(seeds: tuple[int, ...], budgets: tuple[int, ...], at: int) -> list[digits.Result]:
    return digits.experiment(budgets, at, seeds)


def _honest(seeds: tuple[int, ...]) -> list[digits.Honest]:
    return digits.honest(seeds[0])


if __name__ == "__main__":
    main()
