"""Grammar: sentences that people and programs send, grown from the rules in grammar.txt."""

import re
from pathlib import Path
from typing import Final

import numpy as np

SUBJECTS: Final = (
    *("cooking", "health", "law", "money", "history", "nature"),
    *("travel", "writing", "office", "language", "maths", "technology"),
)
"""What people ask chat models about."""

_SLOT: Final = re.compile(r"\{(#|[a-z_]*)\}")


def _rules(text: str) -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    rule: list[str] = []
    for line in text.splitlines():
        if line.startswith("  "):
            rule.append(line[2:].replace("\\n", "\n"))
        elif line and not line.startswith("#"):
            rule = rules.setdefault(line, [])
    return rules


RULES: Final = _rules(Path(__file__).with_name("grammar.txt").read_text(encoding="utf-8"))


def grow(rule: str, dice: np.random.Generator) -> str:
    """One text of a rule. Numbers are geometric, about 50 on average."""
    choices = RULES[rule]
    chosen = choices[int(dice.integers(len(choices)))]

    def fill(slot: re.Match[str]) -> str:
        name = slot.group(1)
        if name == "#":
            return str(int(dice.geometric(0.02)) + 1)
        return grow(name, dice) if name else ""

    return _SLOT.sub(fill, chosen)


def passage(rule: str, dice: np.random.Generator) -> str:
    """A text with a long tail of lengths: one in four has something pasted below the question."""
    text = grow(rule, dice)
    if dice.random() < 0.25:
        pasted = [grow(rule, dice) for _ in range(min(12, int(dice.geometric(0.25))))]
        text = f"{text}\n\n" + "\n".join(pasted)
    return text
