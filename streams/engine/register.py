"""Register: what the standings topic says of every account, by its newest message.

The campaign agent writes it, wherever it runs at the moment. Each message carries a term, in a header: when its writer
took the campaigns on (ms UTC), raised above every term before. A writer that was frozen, lost the campaigns and wakes
up may still write what it held; its term is lower, so that is not heard, and the writer in office says again what
holds, lest compaction keep the wrong one.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from aiokafka import ConsumerRecord

from streams.partitioner import partition_of

Standings: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Accounts and their standings, encoded; None where one ended."""

TERM: Final = "term"
"""The header's name; its value is the number in decimal."""


MOST_ENDED: Final = 100_000
"""Ended standings remembered; the oldest go first."""


class _Said(NamedTuple):
    term: int
    partition: int
    """Of `requests`: where the account's requests are."""
    standing: bytes | None


class Register:
    """All standings heard so far; ended ones are remembered, for a pipeline that was elsewhere when they ended."""

    def __init__(self, partitions: int) -> None:
        """`partitions` is the number of partitions of `requests`."""
        self.term = 0
        """The highest term heard."""
        self.pass_on: Callable[[Mapping[int, Standings]], Awaitable[None]]
        """Told what is new, by partition of `requests`; set by whoever holds partitions."""
        self.correct: Callable[[Standings], Awaitable[None]]
        """Told what holds where a lower term has written over it; set likewise."""
        self.caught_up: Callable[[], Awaitable[None]]
        """Waits until all that stands on the topic is heard; set by whoever reads it."""
        self._partitions = partitions
        self._in_force: dict[str, _Said] = {}
        self._ended: dict[str, _Said] = {}

    def __len__(self) -> int:
        """Accounts with a standing in force."""
        return len(self._in_force)

    async def hear(self, _: int, records: Sequence[ConsumerRecord]) -> None:
        """Take messages of the topic."""
        news: dict[int, list[tuple[str, bytes | None]]] = {}
        outdated: dict[str, bytes | None] = {}
        for record in records:
            account, term = (record.key or b"").decode("utf-8", "replace"), _term(record)
            known = self._in_force.get(account) or self._ended.get(account)
            if known is not None and term < known.term:
                outdated[account] = known.standing
                continue
            outdated.pop(account, None)
            partition = partition_of(account.encode(), self._partitions) if known is None else known.partition
            self._note(account, _Said(term, partition, record.value))
            self.term = max(self.term, term)
            news.setdefault(partition, []).append((account, record.value))
        if news:
            await self.pass_on(news)
        if outdated:
            await self.correct(list(outdated.items()))

    def _note(self, account: str, said: _Said) -> None:
        self._in_force.pop(account, None)
        self._ended.pop(account, None)
        if said.standing is not None:
            self._in_force[account] = said
            return
        self._ended[account] = said
        if len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def of(self, partition: int) -> Standings:
        """What holds for the accounts of a partition of `requests`."""
        return [
            (account, said.standing)
            for known in (self._ended, self._in_force)
            for account, said in known.items()
            if said.partition == partition
        ]

    def missing(self, due: Iterable[tuple[str, bytes | None]]) -> Standings:
        """What must be said for exactly `due` to be in force."""
        wanted = {account: standing for account, standing in due if standing is not None}
        known = {account: said.standing for account, said in self._in_force.items()}
        ended = [(account, None) for account in known if account not in wanted]
        return [
            *ended,
            *((account, standing) for account, standing in wanted.items() if known.get(account) != standing),
        ]


def _term(record: ConsumerRecord) -> int:
    term = dict(record.headers).get(TERM, b"0")
    return int(term) if term.isdigit() else 0
