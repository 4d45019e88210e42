"""Rows that move as bytes arrive as they were."""

import numpy as np
import pytest

from streams import whole

PAIR = np.dtype([("at", np.int64), ("seen", np.uint8, 3), ("score", np.float32), ("spare", np.uint8, 1)])
NESTED = np.dtype([("layout", np.int64), ("pair", PAIR)])


def pairs(count: int, first: int = 0) -> whole.Table:
    rows = np.zeros(count, dtype=PAIR)
    rows["at"] = np.arange(first, first + count)
    rows["seen"] = rows["at"][:, None] * 2
    rows["score"] = rows["at"] / 4
    return rows


@pytest.mark.parametrize(
    "rows", [np.array([3, 0, 3]), np.array([], dtype=np.int64), np.array([True, False, True, True]), slice(1, None)]
)
def test_picked_rows_are_a_copy_of_what_numpy_picks(rows: whole.Where) -> None:
    table = pairs(4)
    picked = whole.pick(table, rows)
    assert picked.tobytes() == table[rows].tobytes()
    picked["at"] = -1
    assert table["at"].tolist() == [0, 1, 2, 3]


def test_rows_go_where_they_should_and_nowhere_else() -> None:
    table = pairs(4)
    whole.put(table, np.array([2, 0]), pairs(2, first=10))
    assert table["at"].tolist() == [11, 1, 10, 3]
    assert table["score"].tolist() == [2.75, 0.25, 2.5, 0.75]
    whole.put(table, slice(2, None), pairs(1, first=20))
    assert table["at"].tolist() == [11, 1, 20, 20]


def test_a_table_inside_another_is_written_in_place() -> None:
    outer = np.zeros(3, dtype=NESTED)
    outer["layout"] = 7
    whole.put(outer["pair"], np.array([1]), pairs(1, first=5))
    assert outer["layout"].tolist() == [7, 7, 7]
    assert outer["pair"]["at"].tolist() == [0, 5, 0]
    assert outer["pair"]["seen"].tolist() == [[0, 0, 0], [10, 10, 10], [0, 0, 0]]
    assert whole.pick(outer["pair"], np.array([1])).tobytes() == pairs(1, first=5).tobytes()


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="rows of 8 bytes for a table of"):
        whole.put(pairs(2), slice(None), np.zeros(2, dtype=[("at", np.int64)]))
