"""Profile: what we remember of one account."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from models.detector import FloatMatrix, FloatVector, IntVector
from models.score import NAMES

from . import whole
from .batch import TOPIC_SIZE, Batch
from .distinct import EPOCH_MS, Hashes, registers, turn
from .layouts import LAYOUTS, upgraded
from .rows import Rows
from .traits import STRANDS, strand
from .windows import HOURS, MINUTES, SPANS_SECONDS, WEEK, Groups, add_decayed, weights

VOLUMES: Final = ("requests", "input_tokens", "output_tokens", "reasoning_tokens")
"""Measures summed over every span of SPANS_SECONDS."""

TRAITS: Final = (
    "capped", "logprobs", "many_choices", "single_turn", "with_tools", "refused", "failed",
    "sketched", "reasoning_cue", "inline_tags_cue", "rationale_cue", "grading_cue",
)  # fmt: skip
"""Requests of about a week that did this. Absent fields count as "did not": what is absent is never evidence."""

STRANDED: Final = ("requests", "input_tokens", "output_tokens")
"""Measures of about a week that are kept apart by the settings they were asked with: whoever resells an account's
capacity passes on what customers set, and the extraction beside them has settings of its own."""

BARE_INPUT: Final = 256
"""Input tokens up to which a request is a bare question,"""

BARE_RATIO: Final = 8
"""if its answer has at least so many times as many. Public pipelines that copy a model ask single sentences for answers
of thousands of tokens; of simulated honest accounts a quarter ask any."""

DISTINCT: Final = {
    "address": 64, "prefix": 64, "band": 64, "text": 64, "network": 32, "client": 32, "settings": 16,
}  # fmt: skip
"""What is counted as distinct, and in how many HyperLogLog registers."""

TOTALS: Final = ("requests", "input_tokens", "output_tokens", "reasoning_tokens", "cost")
"""Exposure: what was served since the first request, or since it was last forgiven. Exact up to 2^53."""

MODEL_BUCKETS: Final = 4
"""Models are told apart by two bits of a hash: two that share a bucket hide a change from one to the other."""

JUDGED_FROM: Final = 16
"""Requests from which an account is judged: fewer say nothing, and most accounts of a day send fewer."""

KNOWN_LATER_MS: Final = 2**61
"""Puts accounts that are known behind all strangers when some must go."""

MOST_ERASED: Final = 65_536
"""Erased accounts whose message is remembered, while the topic of feedback still has it."""

IDLE_MS: Final = 35 * 86_400_000
"""Five weeks: by then a week's window holds less than 1 % of what it held."""

KEPT_MS: Final = 400 * 86_400_000
"""What people have told us about an account is remembered for so long after they did, however silent the account is.
"""

LAYOUT: Final = 4
"""Raise it when a field is added or changes meaning, and add the layout before it to `layouts.py`: a stored profile
is brought up to date or refused, never misread."""

PROFILE: Final = np.dtype(
    [
        # Eight bytes first, then four, two, one: every field is aligned and no byte of a row is undefined.
        (
            "at",
            np.int64,
        ),  # newest request, ms: the instant that all decayed sums refer to; 0 before the first
        ("first_at", np.int64),  # oldest request seen, ms
        ("offset", np.int64),  # the last request of the topic that this row contains
        ("until", np.int64),  # when its rung ends, ms; 0 on no rung
        ("ruled_at", np.int64),  # when its verdict was last announced, ms
        ("scored_at", np.int64),  # when `evidence` was weighed, ms
        ("taught_at", np.int64),  # when the detectors last learned from it, ms
        ("opened_at", np.float64),  # when the account was opened, ms; NaN while unknown
        ("volumes", np.float64, (len(SPANS_SECONDS), len(VOLUMES))),
        ("totals", np.float64, len(TOTALS)),
        (
            "topic_weights",
            np.float64,
            2,
        ),  # decayed number of topic vectors, and the sum of their squared weights
        ("topic", np.float32, TOPIC_SIZE),  # decayed sum of topic vectors, each of length 1
        ("evidence", np.float32, len(NAMES)),  # held log-odds of each signal
        ("score", np.float32),
        ("models", np.float32, (2, MODEL_BUCKETS)),  # decayed requests by model, of a day and of a week
        ("traits", np.float32, len(TRAITS)),
        ("strands", np.float32, (STRANDS, len(STRANDED))),
        ("bare", np.float32, len(STRANDED)),  # decayed sums of a week over bare questions: see `_add_strands`
        ("seq", np.uint32),  # how many verdicts this account has had
        # What people said: instants in seconds UTC (see `moment`), 0 where there is none.
        ("struck_at", np.uint32),  # when it last came onto a rung that costs it something
        ("added_until", np.uint32),  # until when people hold it on the rung `added`
        ("verified_at", np.uint32),  # when the customer showed who they are
        ("cleared_at", np.uint32),  # when people last wiped out its suspicion
        ("licensed_until", np.uint32),  # until when it may do as it does
        ("appealed_at", np.uint32),  # when the customer last objected
        ("heard", np.int32),  # the last message of the feedback topic that this row contains
        ("minutes", np.uint16, MINUTES.slots),
        ("plan", np.uint16),  # a hash of the newest plan; 0 while unknown
        ("hours", np.uint8, HOURS.slots),
        *((f"{kind}_seen", np.uint8, (2, size)) for kind, size in DISTINCT.items()),
        ("rung", np.int8),  # the action it meets, by its place in gateway.verdict.ACTIONS; 0 is none
        ("added", np.int8),  # the least that people hold it to, likewise
        ("strikes", np.uint8),  # how often it came onto a rung that costs it something
        ("shadowed", np.bool_),  # its verdict stands announced as a shadow one
        ("spare", np.uint8, 2),
    ]
)
"""One profile, about 1.7 KB. Fields are views with one row an account; a whole row moves, or is stored, as one piece.
"""

STORED: Final = np.dtype([("layout", np.int64), ("profile", PROFILE)])
"""A profile as it is stored."""

Block = npt.NDArray[np.void]

_IDENTITY: Final = (
    "offset", "heard", "seq", "taught_at", "ruled_at", "opened_at", "plan", "verified_at", "cleared_at",
    "licensed_until",
)  # fmt: skip

_FIRST_BYTE: Final = {name: place[1] for name, place in (PROFILE.fields or {}).items()}


def blank(rows: int) -> Block:
    """Profiles that have seen nothing."""
    block = np.zeros(rows, dtype=PROFILE)
    block["offset"] = -1
    block["heard"] = -1
    block["opened_at"] = np.nan
    return block


def moment(block: Block, name: str) -> IntVector:
    """An instant that is kept in seconds, in ms."""
    return block[name].astype(np.int64) * 1000


def clear(block: Block) -> None:
    """Make profiles those of strangers, in place: what they did is forgotten with all suspicion that came of it.

    What remains is who they are: when the account was opened, what people have told us, how far the topics were read.
    """
    clean = blank(len(block))
    for name in _IDENTITY:
        clean[name] = block[name]
    block[:] = clean


def observe(block: Block, batch: Batch, cost: FloatVector, groups: Groups) -> None:
    """Add a batch to the profiles it belongs to, in place. `block` has one profile for each group of `groups`.

    Any order and any split of the same requests leads to the same profile: counts, rings and registers exactly, float64
    sums to a relative 1e-9, float32 ones to 1e-5, the topic to 1e-4 of its weight. The plan too, unless only some
    requests name one. `cost` is the list price of each request in
    dollars.
    """
    order = groups.order
    at = batch.at[order]
    was_at = block["at"].copy()
    now_at = np.maximum(was_at, groups.newest(at))
    fresh = was_at == 0
    was_at = np.where(fresh, now_at, was_at)
    oldest = np.minimum.reduceat(at, groups.starts)
    block["first_at"] = np.where(fresh, oldest, np.minimum(block["first_at"], oldest))
    block["at"] = now_at
    block["offset"] = np.maximum(block["offset"], groups.newest(batch.offsets[order]))
    block["opened_at"] = np.fmin(block["opened_at"], np.fmin.reduceat(batch.opened_at[order], groups.starts))

    volumes = np.stack(
        (np.ones(len(batch)), batch.input_tokens, batch.output_tokens, np.nan_to_num(batch.reasoning_tokens)),
        axis=1,
    )[order]
    kept, counted = weights(now_at - was_at, SPANS_SECONDS), weights(now_at[groups.of] - at, SPANS_SECONDS)
    block["volumes"] = add_decayed(block["volumes"], kept, counted, volumes, groups)
    traits = _traits(batch)[order] * counted[:, -1:]
    block["traits"] = block["traits"] * kept[:, -1:] + groups.sums(traits)
    block["totals"] += groups.sums(np.concatenate((volumes, cost[order, None]), axis=1))

    _add_models(block, batch, kept, counted, groups)
    _add_plan(block, batch, at, now_at, groups)
    _add_strands(block, batch, volumes, kept[:, -1], counted[:, -1], groups)

    minutes, hours = block["minutes"], block["hours"]
    MINUTES.add(minutes, was_at, now_at, at, groups)
    HOURS.add(hours, was_at, now_at, at, groups)
    _add_topics(block, batch, kept[:, -1], now_at, groups)
    _add_distinct(block, batch, was_at, now_at, at, groups)


def _traits(batch: Batch) -> FloatMatrix:
    """One column for each of TRAITS. A comparison with NaN is false, so what is absent counts as 0."""
    traits = np.zeros((len(batch), len(TRAITS)))
    column = dict(zip(TRAITS, traits.T, strict=True))
    with np.errstate(invalid="ignore"):
        column["capped"][:] = batch.finish_length | (batch.output_tokens >= batch.max_tokens)
        column["logprobs"][:] = batch.top_logprobs > 0
        column["many_choices"][:] = batch.choices > 1
        column["single_turn"][:] = (batch.turns <= 1) & ~(batch.tools > 0)
        column["with_tools"][:] = batch.tools > 0
        column["refused"][:] = batch.finish_refusal
        column["failed"][:] = batch.status >= 400
    column["sketched"][batch.sketched] = 1
    traits[batch.sketched, TRAITS.index("reasoning_cue") :] = batch.cues
    return traits


def _add_models(block: Block, batch: Batch, kept: FloatMatrix, counted: FloatMatrix, groups: Groups) -> None:
    bucket = (batch.model[groups.order] & np.uint64(MODEL_BUCKETS - 1)).astype(np.int64)
    chosen = bucket[:, None] == np.arange(MODEL_BUCKETS)
    added = groups.sums((counted[:, 2:, None] * chosen[:, None, :]).reshape(len(bucket), -1))
    block["models"] = block["models"] * kept[:, 2:, None] + added.reshape(-1, 2, MODEL_BUCKETS)


def _add_strands(
    block: Block, batch: Batch, volumes: FloatMatrix, kept: FloatVector, counted: FloatVector, groups: Groups
) -> None:
    """What was asked with each settings, and what was asked in bare questions: short ones with long answers, as
    harvesters ask them whatever else they leave out. `volumes` and `counted` in sorted order."""
    settings = batch.settings[groups.order]
    shown = np.flatnonzero(settings)
    place = groups.of[shown] * STRANDS + strand(settings[shown])
    measures = volumes[shown, : len(STRANDED)] * counted[shown, None]
    sums = [np.bincount(place, measure, len(kept) * STRANDS) for measure in measures.T]
    added = np.stack(sums, axis=1).reshape(-1, STRANDS, len(STRANDED))
    block["strands"] = block["strands"] * kept[:, None, None] + added
    _, sent, received, *_ = volumes.T
    bare = (sent <= BARE_INPUT) & (received >= BARE_RATIO * np.maximum(sent, 1))
    asked = groups.sums(volumes[:, : len(STRANDED)] * (counted * bare)[:, None])
    block["bare"] = block["bare"] * kept[:, None] + asked


def _add_plan(block: Block, batch: Batch, at: IntVector, now_at: IntVector, groups: Groups) -> None:
    """The plan of the newest request; of several at one instant the one with the largest hash."""
    plan = (batch.plan[groups.order] & np.uint64(0xFFFF)).astype(np.uint16)
    newest = np.maximum.reduceat(np.where(at == now_at[groups.of], plan, 0), groups.starts)
    block["plan"] = np.where(newest > 0, newest, block["plan"])


def _add_topics(block: Block, batch: Batch, kept: FloatVector, now_at: IntVector, groups: Groups) -> None:
    topic = block["topic"] * kept.astype(np.float32)[:, None]
    topic_weights = block["topic_weights"] * np.stack((kept, kept * kept), axis=1)
    if len(batch.sketched):
        own = Groups.by(groups.unsorted(groups.of)[batch.sketched])
        now = now_at[own.rows]
        weight = np.exp((batch.at[batch.sketched][own.order] - now[own.of]) / (WEEK * 1000.0))
        vectors = batch.topic[own.order].astype(np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        vectors *= (weight / np.maximum(lengths, 1.0)).astype(np.float32)[:, None]
        topic[own.rows] += np.add.reduceat(vectors, own.starts, axis=0)
        topic_weights[own.rows] += own.sums(np.stack((weight, weight * weight), axis=1))
    block["topic"], block["topic_weights"] = topic, topic_weights


def _add_distinct(
    block: Block, batch: Batch, was_at: IntVector, now_at: IntVector, at: IntVector, groups: Groups
) -> None:
    epoch = at // EPOCH_MS
    live = epoch >= (now_at // EPOCH_MS)[groups.of] - 1
    # One flat view of the block's bytes: `maximum.at` has a fast path only for one index into one dimension.
    flat = block.view(np.uint8)
    row_bytes = block.dtype.itemsize
    for kind, size in DISTINCT.items():
        turn(block[f"{kind}_seen"], was_at, now_at)
        hashes: Hashes = getattr(batch, kind)[groups.order]
        chosen = np.flatnonzero((hashes != 0) & live)
        if len(chosen):
            register, rank = registers(hashes[chosen], size)
            index = groups.of[chosen] * row_bytes + _FIRST_BYTE[f"{kind}_seen"] + (epoch[chosen] % 2) * size + register
            np.maximum.at(flat, index, rank)


_THIS_LAYOUT: Final = LAYOUT.to_bytes(8, "little")


def brought_up(row: bytes) -> bytes:
    """A stored row of an earlier layout as one of this. Raises ValueError when it is of no known layout."""
    if row[:8] == _THIS_LAYOUT:
        raise ValueError(f"{len(row)} bytes, where layout {LAYOUT} has {STORED.itemsize}")
    stored = np.zeros(1, dtype=STORED)
    stored["layout"] = LAYOUT
    stored["profile"] = blank(1)
    upgraded(row, stored["profile"], NAMES)
    return stored.tobytes()


def _last(block: Block) -> IntVector:
    """When each profile was last of use, for forgetting by (ms; 0 where the row is free)."""
    told = np.maximum(block["verified_at"], block["cleared_at"])
    kept = np.where(told > 0, told.astype(np.int64) * 1000 + (KEPT_MS - IDLE_MS), 0)
    last: IntVector = np.maximum(np.maximum(block["at"], kept), moment(block, "licensed_until"))
    return last


def packed(block: Block) -> bytes:
    """Profiles as they are stored: for each a layout number, then the row."""
    stored = np.empty(len(block), dtype=STORED)
    stored["layout"] = LAYOUT
    whole.put(stored["profile"], slice(None), block)
    return stored.tobytes()


def unpacked(raw: bytes) -> Block:
    """Profiles that `packed` gave, those of an earlier layout brought up to date. Raises ValueError when they are of no
    known layout."""
    number = int.from_bytes(raw[:8], "little")
    if raw and number in LAYOUTS:
        size = 8 + LAYOUTS[number].profile.itemsize
        raw = b"".join(brought_up(raw[start : start + size]) for start in range(0, len(raw), size))
    if len(raw) % STORED.itemsize:
        raise ValueError(f"{len(raw)} bytes are no profiles of {STORED.itemsize}")
    stored = np.frombuffer(raw, dtype=STORED)
    for layout in np.unique(stored["layout"][stored["layout"] != LAYOUT]).tolist():
        raise ValueError(f"a profile of layout {layout}, where this release reads layout {LAYOUT}")
    profiles: Block = stored["profile"]
    return profiles


def _as_today(rows: Mapping[str, bytes]) -> Block | None:
    """Profiles if all of them are stored as they are written today: tens of thousands are not looked at one by one."""
    if not set(map(len, rows.values())) <= {STORED.itemsize}:
        return None
    stored = np.frombuffer(b"".join(rows.values()), dtype=STORED)
    profiles: Block = stored["profile"]
    return profiles if (stored["layout"] == LAYOUT).all() else None


def _today(account: str, row: bytes) -> bytes:
    """A stored row as it is written today. Raises ValueError when it is of no known layout or length."""
    if len(row) == STORED.itemsize and row[:8] == _THIS_LAYOUT:
        return row
    try:
        return brought_up(row)
    except ValueError as error:
        raise ValueError(f"stored profile of account {account!r}: {error}") from error


class Profiles(Rows):
    """The profiles of one partition: a table with one row an account, and where each account's row is.

    At most `most` are kept. An account silent for IDLE_MS is forgotten; when there are too many, those silent for
    longest go first: strangers, with fewer than JUDGED_FROM requests, before all others. An account with a verdict in
    force stays, and so does one that people told us about within KEPT_MS while there is room. Free rows, and accounts
    of which there was nothing but feedback, have `at` 0.
    """

    def __init__(self, most: int = 2_000_000) -> None:
        super().__init__(blank)
        self.most = most
        self.appeared: list[str] = []
        """Accounts that were given a row since somebody last emptied this."""
        self._erased: dict[str, int] = {}  # by people's wish, and the message that said so
        self._swept = 0

    def rows(self, accounts: Iterable[str]) -> IntVector:
        """The row of each account; a new account gets a blank one."""
        before = len(self.appeared)
        found = super().rows(accounts)
        if self._erased:
            for account in self.appeared[before:]:
                if account in self._erased:
                    self.table["heard"][self._row[account]] = self._erased[account]
        return found

    def put(self, rows: IntVector, block: Block) -> None:
        """Write profiles back to their rows; the next `changed` returns them."""
        whole.put(self.table, rows, block)
        self.touch(rows)

    def sweep(self, now: int) -> int:
        """Forget accounts that have been silent for long, or for longest when there are too many; how many went.

        A call looks at a sixteenth of the table, so that no batch waits for all of it.
        """
        end = min(self._swept + 4_096 + self.height // 16, self.height)
        looked_at = self.table[self._swept : end]
        last = _last(looked_at)
        gone = np.flatnonzero((last > 0) & (last < now - IDLE_MS) & (looked_at["rung"] == 0)) + self._swept
        self._swept = end % max(self.height, 1)
        if len(self) - len(gone) > self.most:
            # A little below the limit, so that the next new account does not start this again.
            surplus = len(self) - self.most + self.most // 16
            table = self.table[: self.height]
            last = _last(table)
            # Whoever floods us with accounts must not wash away what others have shown: strangers go before all others.
            known = (table["totals"][:, 0] >= JUDGED_FROM) | (last > table["at"])
            order = np.where((last > 0) & (table["rung"] == 0), last + known * KNOWN_LATER_MS, np.iinfo(np.int64).max)
            oldest = np.argpartition(order, min(surplus, self.height) - 1)[:surplus]
            gone = np.union1d(gone, oldest[order[oldest] < np.iinfo(np.int64).max])
        self._drop(gone)
        return len(gone)

    def heard(self, account: str) -> int:
        """The last message of feedback contained in what we hold of an account, or erased with it; -1 for none."""
        row = self._row.get(account)
        return self._erased.get(account, -1) if row is None else int(self.table["heard"][row])

    def erase(self, account: str, heard: int) -> None:
        """Forget an account at once, with a tombstone even where it is not known: it may be stored.

        `heard` is the message that asked for it. Messages up to there say nothing of whoever comes back under the name.
        """
        self._erased[account] = heard
        if len(self._erased) > MOST_ERASED:
            del self._erased[next(iter(self._erased))]
        row = self._row.get(account)
        if row is None:
            self._dropped.add(account)
        else:
            self._drop(np.array([row]))

    def changed(self) -> list[tuple[str, bytes | None]]:
        """Every account changed since the last call, with its row as bytes: a layout number, then the row.

        None stands for an account that was forgotten.
        """
        return self.stored(packed)

    def restore(self, rows: Iterable[tuple[str, bytes | None]]) -> tuple[IntVector, Block]:
        """Take rows that `changed` once gave, all at once; a later row of the same account wins, None removes it.

        Rows of an earlier layout are brought up to date. Returns where they are now, and a copy of them that cannot be
        written to. Raises ValueError for a row of a layout or length that is not known: none is ever misread.
        """
        newest = {account: row for account, row in dict(rows).items() if row is not None}
        block = _as_today(newest)
        if block is None:
            block = unpacked(b"".join(_today(account, row) for account, row in newest.items()))
        places = self.rows(newest)
        whole.put(self.table, places, block)
        return places, block

    def begin_anew(self) -> None:
        """Let profiles hold nothing of topics whose offsets begin anew; `changed` then gives them all."""
        rows = np.array(sorted(self._row.values()), dtype=np.int64)
        self.table["offset"][rows] = self.table["heard"][rows] = -1
        self.touch(rows)

    def _place(self, accounts: Sequence[str]) -> None:
        self.appeared += accounts
        super()._place(accounts)
