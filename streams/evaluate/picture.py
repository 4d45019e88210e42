"""Picture: share served against false actions, one curve for each group of families and watcher."""

from pathlib import Path
from typing import Final

from .report import Report
from .watchers import WATCHERS

LEAST: Final = 1.0
"""False actions in 100,000 account-days at which the axis begins: none at all is drawn there."""

_STYLES: Final = dict(zip(WATCHERS, ("-", ":", "--"), strict=True))


def draw(found: Report, out: Path) -> list[Path]:
    """Draw the curves as PNG and SVG beside each other; `out` names either. Returns both paths.

    Raises ImportError without matplotlib (the extra `pictures`), OSError where a file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    # The same report gives the same bytes.
    mpl.rcParams["svg.hashsalt"] = "stillwatch"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6.5), layout="constrained")
    groups = sorted({group for watched in found.watchers.values() for group in watched.curves})
    for name, watched in found.watchers.items():
        for group, points in sorted(watched.curves.items()):
            axes.plot(
                [max(point.false_actions, LEAST) for point in points],
                [100 * point.served for point in points],
                _STYLES[name],
                color=f"C{groups.index(group)}",
                label=f"{group}, {name}",
                drawstyle="steps-post",
            )
    axes.set_xscale("log")
    axes.set_ylim(0, 102)
    axes.set_xlabel(f"honest account-days throttled, in 100,000 ({LEAST:g}: none)")
    axes.set_ylabel("% of the campaign served before the throttle")
    axes.grid(visible=True, alpha=0.3)
    axes.set_title("Accounts of extraction size and licensed ones are left out", fontsize="small")
    figure.legend(loc="outside lower center", fontsize="small", ncols=3)
    paths = [out.with_suffix(".png"), out.with_suffix(".svg")]
    figure.savefig(paths[0], dpi=150, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"Date": None})
    pyplot.close(figure)
    return paths
