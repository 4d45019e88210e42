"""Portrait: a group of accounts as named numbers: pooled, and compared with one another."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from models.belonging import Kin
from models.detector import BoolVector, FloatMatrix, FloatVector, IntVector
from models.rarity import GROUP_OF, GROUPS, MANNER, NAMES
from models.same_source import LEAST_PROMPTS, Sources

from .acquaintances import reported
from .features import Features, features
from .pooled import pooled
from .profiles import STRANDED, Block
from .quantile import quantile
from .traits import strand_of_trait
from .windows import WEEK

PACED_FROM: Final = 6.0
"""Requests from which the mean lengths of an account are compared with the others'."""

ASKED_FROM: Final = 0.5
"""Requests of an account with the shared settings, from which their lengths count."""

TRIMMED: Final = 0.35
"""The busiest share of a group's members that is left out when rates are compared: in the strand of those who also
resell there may be what others asked."""

WHOLE_PER_TRIMMED: Final = 2.0
"""What is left of rates that are log-normal, as people's are, varies half as much as all of them (coefficients of
variation of 0.2 to 1.2, by simulation: 1.6 to 2.3)."""

TYPICAL_VARIATION: Final = 1.2
"""How much honest accounts of one kind differ in rate: recorded API clients and public chat logs are heavy-tailed, with
standard deviations above their means."""

_SETTINGS: Final = NAMES.index("settings")

HOUR_MS: Final = 3_600_000.0


def portraits(
    groups: Sequence[Kin],
    table: npt.NDArray[np.void],
    new_from: IntVector,
    present: BoolVector,
    sources: Sources,
    now: int,
) -> tuple[Features, Block]:
    """Features of each group, and the pooled profiles they come from. `table` holds all acquaintances, `present` says
    which rows hold an account; who came after `new_from` (ms, one for each group) was new when the group was found;
    `now` in ms."""
    members = np.concatenate([kin.members for kin in groups])
    group = np.repeat(np.arange(len(groups)), [len(kin.members) for kin in groups])
    profiles = reported(table, members)
    whole = pooled(profiles, group, np.full(len(groups), max(now, int(profiles["at"].max(initial=0)))))
    found = dict(features(whole))
    count = len(groups)
    found["shared_kinds"], found["rarity"] = _sharing(groups)
    size = np.bincount(group, minlength=count).astype(np.float64)
    new = np.bincount(group, table["first_at"][members] > new_from[group], count)
    found["accounts"], found["newcomers"] = size, new / size
    # Of all other accounts: a campaign that is half of the traffic must not be its own yardstick.
    first = np.sort(table["first_at"][present])
    everywhere = (len(first) - np.searchsorted(first, new_from, side="right")).astype(np.float64)
    found["newcomers_everywhere"] = (everywhere - new) / np.maximum(len(first) - size, 1.0)
    hours = np.maximum((now - profiles["first_at"]) / HOUR_MS, 0.25)
    found |= _compared(_core(groups, profiles, now), hours, group, count)
    found["sameness"] = _sameness(profiles, group, count, sources)
    return found, whole


def _compared(core: FloatMatrix, hours: FloatVector, group: IntVector, count: int) -> dict[str, FloatVector]:
    """How alike the members of each group are in rate and lengths, and what the middle one gets. `core` is that of
    `_core`, `hours` since each member's first request."""
    found: dict[str, FloatVector] = {"typical_variation": np.full(count, TYPICAL_VARIATION)}
    own, of_own = _without_the_busiest(core[:, 0] / hours, group, count)
    most, least = _variation(core[own, 0], hours[own], of_own, count)
    found["rate_variation"], found["rate_variation_least"] = WHOLE_PER_TRIMMED * most, WHOLE_PER_TRIMMED * least
    found["core_requests"] = np.bincount(group, core[:, 0], count).astype(np.float64)
    paced, asked = core[:, 0] >= PACED_FROM, core[:, 0] >= ASKED_FROM
    found["paced"] = np.bincount(group[paced], minlength=count).astype(np.float64)
    sent, received = _log_lengths(core)
    spread = [_spread(np.where(paced, length, np.nan), group, count)[1] for length in (sent, received)]
    found["length_variation"] = np.maximum(*spread)
    found["core_output_length"] = np.exp(_spread(np.where(asked, received, np.nan), group, count)[0])
    found["core_output_per_input"] = np.exp(_spread(np.where(asked, received - sent, np.nan), group, count)[0])
    return found


def _core(groups: Sequence[Kin], profiles: Block, now: int) -> FloatMatrix:
    """What each member sent with the settings that its group shares, or altogether where it shares none: requests,
    input and output tokens of about a week, (members, 3). Of several shared settings it is those with which the middle
    member gets most for what it sends: a member whose strand holds others' settings too says nothing of the rest."""
    kept = np.exp((profiles["at"] - now) / (WEEK * 1_000.0))[:, None]
    core = profiles["volumes"][:, -1, : len(STRANDED)] * kept
    strands = profiles["strands"] * kept[:, None]
    begin = 0
    for kin in groups:
        members = slice(begin, begin + len(kin.members))
        begin = members.stop
        best = -np.inf
        for strand in _shared_strands(kin):
            some = strands[members, strand].astype(np.float64)
            asked = some[some[:, 0] >= ASKED_FROM]
            if len(asked) and (gain := float(np.median(np.subtract(*_log_lengths(asked)[::-1])))) > best:
                core[members], best = some, gain
    return core


def _log_lengths(core: FloatMatrix) -> tuple[FloatVector, FloatVector]:
    """The logarithms of the mean lengths sent and received, for rows of requests, input and output tokens."""
    each, sent, received = np.maximum(core, 1e-9).T
    return np.log(np.maximum(sent / each, 1.0)), np.log(np.maximum(received / each, 1.0))


def _shared_strands(kin: Kin) -> list[int]:
    """The strands of the settings that at least a third of a group's owners share."""
    shared = [trait for trait, kind, share, _ in kin.traits if kind == _SETTINGS and share >= 1 / 3]
    return [int(strand) for strand in strand_of_trait(np.array(shared, dtype=np.uint64))]


def effective_prompts(profiles: Block) -> FloatVector:
    """How many prompts the mean topic of each profile comes from, (sum w)^2 / sum w^2."""
    total, squares = profiles["topic_weights"].T
    prompts: FloatVector = np.where(squares > 0, total * total / np.maximum(squares, 1e-12), 0.0)
    return prompts


def topics(profiles: Block, rows: IntVector) -> npt.NDArray[np.float64]:
    """The mean topic of some of the profiles: (rows, 64)."""
    means: npt.NDArray[np.float64] = profiles["topic"][rows].astype(np.float64)
    means /= np.maximum(profiles["topic_weights"][rows, :1], 1e-12)
    return means


def bare_questions(profiles: Block, now: int) -> tuple[FloatMatrix, FloatVector]:
    """How each profile asks bare questions, as logarithms of how many an hour and of their mean lengths, sent and
    received: (profiles, 3); and how many they were, of about a week."""
    kept = np.exp((profiles["at"] - now) / (WEEK * 1_000.0))
    bare = profiles["bare"].astype(np.float64) * kept[:, None]
    hours = np.maximum((now - profiles["first_at"]) / HOUR_MS, 0.25)
    week = WEEK * 1_000.0 / HOUR_MS
    # A decayed sum of an even rate is that rate times this many hours.
    rate = bare[:, 0] / (-np.expm1(-hours / week) * week)
    return np.stack((np.log(np.maximum(rate, 1e-9)), *_log_lengths(bare)), axis=1), bare[:, 0]


def _sharing(groups: Sequence[Kin]) -> tuple[FloatVector, FloatVector]:
    """In how many independent groups of kinds at least a third of the owners share one trait, and log-odds of the best
    of each, added up."""
    best = np.zeros((len(groups), len(GROUPS)))
    shared = np.zeros((len(groups), len(GROUPS)))
    for row, kin in enumerate(groups):
        for _, kind, share, background in kin.traits:
            own = GROUP_OF[kind]
            if own == MANNER:
                continue  # It comes from the campaign itself.
            shared[row, own] = max(shared[row, own], share)
            best[row, own] = max(best[row, own], share * -np.log(background))
    return (shared >= 1 / 3).sum(axis=1).astype(np.float64), best.sum(axis=1)


def _sameness(profiles: Block, group: IntVector, count: int, sources: Sources) -> FloatVector:
    """The mean log Bayes factor that a member draws from what the rest of its group draws from; each is bounded to 4,
    so that no member decides alone. NaN with fewer than three that have prompts enough."""
    prompts = effective_prompts(profiles)
    enough = np.flatnonzero(prompts >= LEAST_PROMPTS)
    result = np.full(count, np.nan)
    if not len(enough) or not len(sources.between):
        return result
    prompts, group = prompts[enough], group[enough]
    placed = sources.place(topics(profiles, enough))
    total = np.zeros((count, placed.shape[1]))
    np.add.at(total, group, placed * prompts[:, None])
    size = np.bincount(group, weights=prompts, minlength=count)
    rest = size[group] - prompts
    several = np.flatnonzero((rest > 0) & (np.bincount(group, minlength=count)[group] >= 3))
    if not len(several):
        return result
    others = (total[group] - placed * prompts[:, None])[several] / rest[several, None]
    # The rest of a group is many accounts; were it one source, so many prompts would place it exactly.
    said = np.clip(sources.log_bayes_factor(placed[several], others, prompts[several], rest[several]), -4.0, 4.0)
    return _mean(said, group[several], count)


def _variation(
    requests: FloatVector, hours: FloatVector, group: IntVector, count: int
) -> tuple[FloatVector, FloatVector]:
    """How much the rates of a group's accounts vary, as a coefficient of variation: bounds one standard error above
    and below.

    Of n requests where the group's common rate over an account's time expects e, (n - e)^2 - e is an unbiased estimate
    of e^2 CV^2 (the method of moments for an overdispersed Poisson; Breslow, "Extra-Poisson variation in log-linear
    models", 1984). Its standard error under one common rate is sqrt(2 / sum e^2), so accounts with two requests each
    tell as much together as a few with hundreds. NaN for fewer than three accounts.
    """
    heard = requests > 0
    time = np.where(heard, hours, 0.0)
    rate = np.bincount(group, requests, count) / np.maximum(np.bincount(group, time, count), 1e-9)
    expected = rate[group] * time
    squares = np.bincount(group, expected**2, count)
    raw = np.bincount(group, (requests - expected) ** 2 - expected, count) / np.maximum(squares, 1e-9)
    error = np.sqrt(2.0 / np.maximum(squares, 1e-9))
    enough = np.bincount(group[heard], minlength=count) >= 3
    most = np.where(enough, np.sqrt(np.maximum(raw, 0.0) + error), np.nan)
    least = np.where(enough, np.sqrt(np.maximum(raw - error, 0.0)), np.nan)
    return most, least


def _without_the_busiest(rate: FloatVector, group: IntVector, count: int) -> tuple[IntVector, IntVector]:
    """The members below the TRIMMED busiest of each group, and the group of each."""
    order = np.lexsort((rate, group))
    size = np.bincount(group, minlength=count)
    rank = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    kept = order[rank < np.ceil(size[group[order]] * (1.0 - TRIMMED))]
    return kept, group[kept]


def _mean(values: FloatVector, group: IntVector, count: int) -> FloatVector:
    size = np.bincount(group, minlength=count)
    mean: FloatVector = np.where(size > 0, np.bincount(group, values, count) / np.maximum(size, 1), np.nan)
    return mean


def _spread(values: FloatVector, group: IntVector, count: int) -> tuple[FloatVector, FloatVector]:
    """The median of each group, and half the distance between the 16th and the 84th percentile (one standard deviation,
    if normal), less sensitive to a few members than that; NaN is left out, and groups of fewer than three are NaN. Of
    logarithms it is about the relative variation."""
    middle, spread = np.full(count, np.nan), np.full(count, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.lexsort((values[known], group[known]))]
    starts = np.searchsorted(group[order], np.arange(count))
    ends = np.searchsorted(group[order], np.arange(count), side="right")
    rows = np.flatnonzero(ends - starts >= 3)
    low, middle[rows], high = (quantile(values[order], starts[rows], ends[rows], part) for part in (0.16, 0.5, 0.84))
    spread[rows] = (high - low) / 2
    return middle, spread
