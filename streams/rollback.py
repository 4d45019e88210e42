"""Rollback: stored profiles as an earlier release reads them."""

from collections.abc import Sequence

import numpy as np

from models.score import NAMES

from .compacted import StateError
from .layouts import LAYOUTS
from .profiles import LAYOUT, PROFILE, STORED, Profiles


def known_layouts() -> list[int]:
    """Layouts that profiles can be written in, this release's last."""
    return [*sorted(LAYOUTS), LAYOUT]


def lowered(rows: Sequence[tuple[str, bytes]], number: int) -> list[bytes]:
    """The rows, of this layout or an earlier one, in the layout `number`.

    Fields go over by name where their shape is the same, evidence by the name of its column. What the older release
    does not keep is lost; what only it keeps begins at zero. Raises StateError for a layout that is not known.
    """
    if number not in known_layouts():
        raise StateError(f"layout {number} is not known; known: {', '.join(map(str, known_layouts()))}")
    _, block = Profiles().restore(rows)
    if number == LAYOUT:
        stored = np.empty(len(block), dtype=STORED)
        stored["profile"] = block
    else:
        layout = LAYOUTS[number]
        stored = np.zeros(len(block), dtype=np.dtype([("layout", np.int64), ("profile", layout.profile)]))
        older = stored["profile"]
        for name in layout.profile.names or ():
            if name == "evidence":
                for column, term in enumerate(layout.evidence):
                    if term in NAMES:
                        older[name][:, column] = block[name][:, NAMES.index(term)]
            elif name in (PROFILE.names or ()) and PROFILE[name].shape == layout.profile[name].shape:
                older[name] = block[name]
    stored["layout"] = number
    size, packed = stored.dtype.itemsize, stored.tobytes()
    return [packed[i * size : (i + 1) * size] for i in range(len(block))]
