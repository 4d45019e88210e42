"""What each member of the ensemble is worth: `python -m tests.bench.members`, half an hour.

The same streams in front of detectors whose ensembles differ: all three members, and each that leaves some out. It
prints the share of each family's requests served before a throttle, on an account's own evidence, and the most that
spoke against an honest account. All of it is simulated.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import click

from models.ensemble import Ensemble
from streams.evaluate.watchers import Stillwatch, Watcher, Without
from streams.features import DETECTOR_FEATURES
from streams.learned import ANSWERS
from streams.simulate.stream import Stream

from .town import Accounts, accused, attacked, peaceful, played, policy_for, served

OTHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": ("mahalanobis", "half_space_trees"),
    "no trees": ("mahalanobis",),
    "no mahalanobis": ("half_space_trees",),
    "ecod alone": (),
}
"""Members beside ECOD, which tells what is typical and stays."""

NONE: Final = "none"
"""No ensemble at all."""

FAMILIES: Final = (
    "harvest", "templates", "multimodal", "feedback", "randomised", "paraphrased", "slow search", "slow pivot",
)  # fmt: skip


def each(stream: Stream) -> dict[str, Accounts]:
    """What the accounts of a stream met with each ensemble, on their own evidence."""
    watchers: dict[str, Watcher] = {}
    for name, others in OTHERS.items():
        ensemble = Ensemble(DETECTOR_FEATURES, others, size=ANSWERS)
        detector = watchers[f"detector, {name}"] = Stillwatch(policy_for(stream), detector=ensemble)
        watchers[name] = Without(detector, None)
        if name == "all":
            watchers[NONE] = Without(detector, "anomaly")
    found = played(stream, watchers)
    return {name: found[name] for name in (*OTHERS, NONE)}


@click.command()
@click.option("--family", "families", multiple=True, default=FAMILIES, help="Family of attacks; may be repeated.")
def main(families: Iterable[str]) -> None:
    click.echo(f"{'served before a throttle':26}" + "".join(f"{name:>16}" for name in (*OTHERS, NONE)))
    for family in families:
        stream = attacked(family, 1)
        click.echo(f"{family:26}" + "".join(f"{served(stream, found):16.1%}" for found in each(stream).values()))
    stream = peaceful(1)
    judged = [accused(stream, found) for found in each(stream).values()]
    click.echo(f"{'honest days throttled':26}" + "".join(f"{thrown:16,}" for thrown, _, _ in judged))
    click.echo(f"{'highest honest score':26}" + "".join(f"{highest:16.2f}" for _, _, highest in judged))


if __name__ == "__main__":
    main()
