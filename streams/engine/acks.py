"""Acks: which offset of a partition may be committed."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Span:
    """The records of one micro-batch, by first and last offset. Whoever has finished with them sets `done`.

    Between two spans there may be offsets that hold no record (compacted away, transaction marks). Nothing is
    ever fetched there, so order of delivery, not arithmetic on offsets, says what is contiguous.
    """

    first: int
    last: int
    done: bool = False
    fetched_at: float = 0.0
    """On the clock of whoever fetched it."""


@dataclass(slots=True)
class Acks:
    """The spans of one partition between fetch and commit, oldest first.

    A seek starts a new life: spans from before it are forgotten, and their late acks change nothing.
    """

    committed: int | None = None
    """The offset last committed: the first one not yet finished with. None: nothing was ever committed."""
    spans: deque[Span] = field(default_factory=deque)

    def fetched(self, first: int, last: int, at: float = 0.0) -> Span:
        """Note a micro-batch about to be delivered. Raises ValueError unless it follows all before it."""
        after = self.spans[-1].last if self.spans else (self.committed or 0) - 1
        if not after < first <= last:
            raise ValueError(f"records {first}-{last} do not follow offset {after}")
        span = Span(first, last, fetched_at=at)
        self.spans.append(span)
        return span

    def committable(self) -> int | None:
        """The offset that may be committed now, or None when it would commit nothing new."""
        offset = None
        for span in self.spans:
            if not span.done:
                break
            offset = span.last + 1
        return offset

    def commit(self, offset: int) -> None:
        """Note that `offset` was committed: spans below it are forgotten."""
        self.committed = max(offset, self.committed or 0)
        while self.spans and self.spans[0].last < self.committed:
            self.spans.popleft()

    def seek(self, committed: int | None) -> None:
        """Start anew at a committed offset."""
        self.committed = committed
        self.spans.clear()
