"""Picture: what thieves kept behind each countermeasure, and where a watermark shows."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

from . import digits, marked, theft
from .report import Found, best
from .shields import shields


def draw(found: Found, out: Path) -> list[Path]:
    """Draw PNG and SVG beside each other; returns both paths. Raises OSError where a file cannot be written."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "stillwatch"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    names = list(shields())
    for axes, kept, thieves, at, title in (
        (left, found.digit, digits.THIEVES, found.digits_at, f"digits, {found.digits_at} questions: accuracy, %"),
        (middle, found.token, theft.THIEVES, found.tokens_at, f"language, {found.tokens_at:,} tokens: % of the way"),
    ):
        places = np.arange(len(names))
        plain = [100 * kept(name, "plain", at) for name in names]
        most = [100 * best(kept, name, thieves, at)[1] for name in names]
        axes.hlines(places, plain, most, color="lightgrey", zorder=1)
        axes.scatter(plain, places, label="believes what it is told", zorder=2)
        axes.scatter(most, places, marker="D", s=20, label="best of six thieves", zorder=3)
        axes.set_yticks(places, names if axes is left else [""] * len(names), fontsize="small")
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(title, fontsize="medium")
        axes.grid(visible=True, axis="x", alpha=0.3)
    left.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    for mark in marked.MARKS:
        points = [
            np.median(
                [
                    -each.log10_p
                    for each in found.marks
                    if (each.mark, each.share, each.replaced, each.texts) == (mark, share, 0.0, found.texts)
                ]
            )
            for share in marked.SHARES
        ]
        right.plot([f"{share:.0%}" for share in marked.SHARES], points, marker="o", label=mark)
    right.set_yscale("symlog", linthresh=1)
    right.axhline(5, color="grey", linestyle=":", linewidth=1)
    right.set_title("watermark in the student's writing: -log10 p", fontsize="medium")
    right.set_xlabel("share of the training texts that was marked")
    right.grid(visible=True, alpha=0.3)
    right.legend(fontsize="small")
    paths = [out.with_suffix(".png"), out.with_suffix(".svg")]
    figure.savefig(paths[0], dpi=150, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"Date": None})
    pyplot.close(figure)
    return paths
