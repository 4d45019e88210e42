"""Turns: the row counts at which what was counted becomes what scores.

Between two turns the order of rows does not matter and nothing that scores changes, so a batch is as good
as its rows one by one, and tables are worked out once a turn. The first turns come early, so that a young
detector knows something; then they come every `step` rows.
"""

from collections.abc import Iterator
from typing import Final

FIRST: Final = 32
"""The first turn comes after so many rows, the next ones at twice the rows each, until `step`."""


def next_turn(seen: int, step: int) -> int:
    """The row count of the first turn after `seen` rows."""
    if seen >= step:
        return (seen // step + 1) * step
    turn = FIRST
    while turn <= seen:
        turn *= 2
    return min(turn, step)


def pieces(rows: int, seen: int, step: int) -> Iterator[tuple[slice, bool]]:
    """A batch of `rows` rows after `seen` ones, cut at the turns: each piece, and whether a turn ends it."""
    start = 0
    while start < rows:
        turn = next_turn(seen + start, step) - seen
        yield slice(start, min(turn, rows)), turn <= rows
        start = turn
