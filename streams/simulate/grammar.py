"""Grammar: sentences that people and programs send, grown from the rules in grammar.txt."""

import math
import re
from pathlib import Path
from random import Random
from typing import Final

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


def grow(rule: str, luck: Random) -> str:
    """One text of a rule. Numbers are geometric, about 50 on average."""
    choices = RULES[rule]
    chosen = choices[int(luck.random() * len(choices))]

    def fill(slot: re.Match[str]) -> str:
        name = slot.group(1)
        if name == "#":
            return str(2 + int(50 * -math.log(1.0 - luck.random())))
        return grow(name, luck) if name else ""

    return _SLOT.sub(fill, chosen)


def passage(rule: str, luck: Random) -> str:
    """A text with a long tail of lengths: one in four has something pasted below the question."""
    text = grow(rule, luck)
    if luck.random() < 0.25:
        pasted = [grow(rule, luck) for _ in range(1 + min(11, int(luck.expovariate(0.3))))]
        text = f"{text}\n\n" + "\n".join(pasted)
    return text
