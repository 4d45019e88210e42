"""Pooled: the profiles of many accounts as if one account had sent it all."""

import numpy as np

from models.detector import IntVector

from .distinct import turn
from .profiles import DISTINCT, Block, blank
from .whole import pick
from .windows import SPANS_SECONDS, Groups, weights


def pooled(profiles: Block, group: IntVector, at: IntVector) -> Block:
    """One profile for each group of profiles, as of its instant `at` (ms, one for each group; not before any of its
    profiles): sums are decayed to it and added, registers merged. `group` numbers the groups from 0; none is empty.

    What was sent within single minutes and hours stays with the accounts: a crowd of strangers never sleeps either.
    Identity, evidence and standing of the accounts are left out.
    """
    groups = Groups.by(group)
    some = pick(profiles, groups.order)
    now = at[groups.of]
    whole = blank(len(groups.rows))
    whole["at"] = at
    whole["first_at"] = np.minimum.reduceat(some["first_at"], groups.starts)
    kept = weights(now - some["at"], SPANS_SECONDS)
    longest = kept[:, -1]
    whole["volumes"] = np.add.reduceat(some["volumes"] * kept[:, :, None], groups.starts, axis=0)
    whole["traits"] = np.add.reduceat(some["traits"] * longest[:, None], groups.starts, axis=0)
    whole["totals"] = np.add.reduceat(some["totals"], groups.starts, axis=0)
    whole["topic"] = np.add.reduceat(some["topic"] * longest.astype(np.float32)[:, None], groups.starts, axis=0)
    strands = some["strands"] * longest.astype(np.float32)[:, None, None]
    whole["strands"] = np.add.reduceat(strands, groups.starts, axis=0)
    squares = np.stack((longest, longest * longest), axis=1)
    whole["topic_weights"] = np.add.reduceat(some["topic_weights"] * squares, groups.starts, axis=0)
    for kind in DISTINCT:
        seen = some[f"{kind}_seen"].copy()
        turn(seen, some["at"], now)
        whole[f"{kind}_seen"] = np.maximum.reduceat(seen, groups.starts, axis=0)
    return whole
