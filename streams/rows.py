"""Rows: a table with one row an account, and where each account's row is."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from models.detector import IntVector

from . import whole

_FIRST_SIZE: Final = 256


class Rows:
    """Structured rows by account. A row given up is blank, and the next new account gets it.

    `table` may be larger than what is in use; rows below `height` have been used. What is written must be marked with
    `touch`, so that the next `stored` gives it.
    """

    def __init__(self, blank: Callable[[int], npt.NDArray[np.void]]) -> None:
        self.table = blank(_FIRST_SIZE)
        self._blank = blank
        self._row: dict[str, int] = {}
        self._names: list[str] = []  # of rows in use; what stands at a free row means nothing
        self._free: list[int] = []
        self._dirty = np.zeros(len(self.table), dtype=bool)
        self._dropped: set[str] = set()

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, account: str) -> bool:
        return account in self._row

    @property
    def height(self) -> int:
        """Rows of the table that have ever been used."""
        return len(self._names)

    def name(self, row: int) -> str:
        """The account of a row."""
        return self._names[row]

    def find(self, account: str) -> int | None:
        """The row of an account, if it has one."""
        return self._row.get(account)

    def rows(self, accounts: Iterable[str]) -> IntVector:
        """The row of each account; a new account gets a blank one."""
        names = list(accounts)
        found = list(map(self._row.get, names))
        if None in found:
            self._place(list(dict.fromkeys(name for name, row in zip(names, found, strict=True) if row is None)))
            found = list(map(self._row.__getitem__, names))
        return np.array(found, dtype=np.int64)

    def reserve(self, accounts: int) -> None:
        """Make room for so many accounts at once, rather than bit by bit."""
        if accounts <= len(self.table):
            return
        if self._names:
            self._grow(accounts)
        else:
            # Nothing to keep: a new table is written once, and comes in large pages; one that grows does neither.
            self.table, self._dirty = self._blank(accounts), np.zeros(accounts, dtype=bool)

    def pick(self, rows: IntVector) -> npt.NDArray[np.void]:
        """A copy of some rows."""
        return whole.pick(self.table, rows)

    def touch(self, rows: IntVector) -> None:
        """Mark rows as changed."""
        self._dirty[rows] = True

    def stored(self, packed: Callable[[npt.NDArray[np.void]], bytes]) -> list[tuple[str, bytes | None]]:
        """Every account changed since the last call, each with its row as `packed` writes it; None for one that was
        forgotten."""
        rows = np.flatnonzero(self._dirty)
        self._dirty[rows] = False
        written = packed(self.pick(rows))
        size = len(written) // max(len(rows), 1)
        forgotten = [(account, None) for account in sorted(self._dropped) if account not in self._row]
        self._dropped.clear()
        return forgotten + [
            (self._names[row], written[i * size : (i + 1) * size]) for i, row in enumerate(rows.tolist())
        ]

    def _drop(self, rows: IntVector) -> None:
        """Give rows up."""
        for row in rows.tolist():
            self._dropped.add(self._names[row])
            del self._row[self._names[row]]
            self._names[row] = ""
        whole.put(self.table, rows, self._blank(1))
        self._dirty[rows] = False
        self._free.extend(rows.tolist())

    def _place(self, accounts: Sequence[str]) -> None:
        """Rows for new accounts: those given up first; the table may have to grow for the others."""
        reused = min(len(self._free), len(accounts))
        for account in accounts[:reused]:
            row = self._row[account] = self._free.pop()
            self._names[row] = account
        first = len(self._names)
        self._names += accounts[reused:]
        self._row.update(zip(accounts[reused:], range(first, len(self._names)), strict=True))
        if len(self._names) > len(self.table):
            self._grow(len(self._names))

    def _grow(self, least: int) -> None:
        # In place and by a quarter: a table of gigabytes is never held twice.
        was = len(self.table)
        size = max(least, was + max(was // 4, 4_096))
        self.table.resize(size, refcheck=False)
        whole.put(self.table, slice(was, None), self._blank(1))
        self._dirty.resize(size, refcheck=False)
