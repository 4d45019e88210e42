"""Report: what was found, as tables."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import digits, marked, theft
from .shields import shields


class Found(NamedTuple):
    """Everything the experiments found; `_at` is the budget at which adaptive thieves were tried."""

    seeds: tuple[int, ...]
    corpus: str
    digits: list[digits.Result]
    digits_at: int
    digits_honest: list[digits.Honest]
    tokens: list[theft.Result]
    tokens_at: int
    tokens_honest: list[theft.Honest]
    public_bits: float
    teacher_bits: float
    marks: list[marked.Result]
    costs: list[marked.Cost]
    texts: int

    def as_json(self) -> dict[str, Any]:
        """The same in plain types."""
        return {
            name: [each._asdict() if isinstance(each, tuple) else each for each in value]  # type: ignore[attr-defined]
            if isinstance(value, list)
            else value
            for name, value in self._asdict().items()
        }

    @property
    def teacher_accuracy(self) -> float:
        """Of the digits' teachers, in the mean."""
        return _mean(each.teacher for each in self.digits)

    def digit(self, shield: str, thief: str, budget: int) -> float:
        """Mean accuracy of a student of digits."""
        return _mean(
            each.student for each in self.digits if (each.shield, each.thief, each.budget) == (shield, thief, budget)
        )

    def token(self, shield: str, thief: str, budget: int) -> float:
        """Mean share that a student of the language model kept."""
        return _mean(
            each.kept for each in self.tokens if (each.shield, each.thief, each.budget) == (shield, thief, budget)
        )


def best(kept: Callable[[str, str, int], float], shield: str, thieves: Iterable[str], budget: int) -> tuple[str, float]:
    """The thief that got most, and how much."""
    return max(((thief, kept(shield, thief, budget)) for thief in thieves), key=lambda each: each[1])


def tables(found: Found) -> str:
    """Markdown, as it stands in the README."""
    budgets = sorted({each.budget for each in found.digits if each.thief == "plain"})
    tokens = sorted({each.budget for each in found.tokens if each.thief == "plain"})
    parts = [
        f"Seeds {', '.join(map(str, found.seeds))}; text {found.corpus}.",
        f"Digits: accuracy of the student in % (teacher {100 * found.teacher_accuracy:.1f}), after so many questions.",
        _table(
            [
                "countermeasure",
                *(f"{each:,}" for each in budgets),
                f"five repeats, {found.digits_at:,}",
                f"best thief, {found.digits_at:,}",
                "calibration error",
            ],
            [
                [
                    name,
                    *(_percent(found.digit(name, "plain", each)) for each in budgets),
                    _percent(found.digit(name, "repeats", found.digits_at)),
                    _named(best(found.digit, name, digits.THIEVES, found.digits_at)),
                    _number(honest.calibration_error),
                ]
                for name, honest in zip(shields(), found.digits_honest, strict=True)
            ],
        ),
        f"Language model: % of the way from public text ({found.public_bits:.2f} bits a token) to the teacher "
        f"({found.teacher_bits:.2f}), after so many tokens.",
        _table(
            [
                "countermeasure",
                *(f"{each:,}" for each in tokens),
                f"five repeats, {found.tokens_at:,}",
                f"best thief, {found.tokens_at:,}",
                "calibration error",
            ],
            [
                [
                    name,
                    *(_percent(found.token(name, "plain", each)) for each in tokens),
                    _percent(found.token(name, "repeats", found.tokens_at)),
                    _named(best(found.token, name, theft.THIEVES, found.tokens_at)),
                    _number(honest.calibration_error),
                ]
                for name, honest in zip(shields(), found.tokens_honest, strict=True)
            ],
        ),
        f"Watermark: p-value in {found.texts} texts of {marked.TEXT_TOKENS} tokens by a student of as many, by the "
        "share of them that was marked; then a fifth marked, with words of it replaced; then a larger student. "
        "Median of the seeds; in brackets where only contexts count that we served.",
        _table(
            [
                "mark",
                "perplexity",
                f"p of one text of {marked.TEXT_TOKENS}",
                *(f"{share:.0%}" for share in marked.SHARES),
                *(f"20%, {share:.0%} replaced" for share in marked.REPLACED),
                f"{1 / marked.LARGER:.0%} of {found.texts * marked.LARGER:,}",
            ],
            [
                [
                    cost.mark,
                    f"{100 * (2**cost.bits - 1):+.0f} %",
                    _power(cost.log10_p_200),
                    *(_found(found.marks, cost.mark, share, 0.0, found.texts) for share in marked.SHARES),
                    *(_found(found.marks, cost.mark, 0.2, share, found.texts) for share in marked.REPLACED),
                    _found(found.marks, cost.mark, 1 / marked.LARGER, 0.0, found.texts * marked.LARGER),
                ]
                for cost in found.costs
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _found(results: Sequence[marked.Result], mark: str, share: float, replaced: float, texts: int) -> str:
    wanted = (mark, share, replaced, texts)
    rows = [each for each in results if (each.mark, each.share, each.replaced, each.texts) == wanted]
    alone, known = (float(np.median([getattr(row, name) for row in rows])) for name in ("log10_p", "log10_p_known"))
    return _power(alone) if share == 0 else f"{_power(alone)} ({_power(known)})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _power(log10: float) -> str:
    return f"{10**log10:.2f}" if log10 > -2 else f"10^{log10:.0f}"


def _named(found: tuple[str, float]) -> str:
    return f"{_percent(found[1])} {found[0]}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
