"""Headers: what a gate tells the server behind it, and the customer in front."""

from typing import Final
from urllib.parse import quote

from .gate import Passage

OURS: Final = b"x-stillwatch-"
"""Begins our headers. Those of a client are taken away, so that the server can believe what it reads."""

DECISION: Final = b"x-stillwatch-decision"
"""On every reply: the verdict's id where one refused, else the request's. A watched client sees no difference."""


def announced(passage: Passage) -> list[tuple[bytes, bytes]]:
    """What the server behind is told of a request that passes."""
    headers = [(OURS + b"request", passage.id.encode())]
    standing = passage.standing
    if standing is not None:
        headers += [
            (OURS + b"action", standing.action.encode()),
            (OURS + b"subject", quoted(standing.subject)),
            (DECISION, quoted(standing.id)),
        ]
    return headers


def quoted(text: str) -> bytes:
    """A header's value that holds what it should, whatever stood on the topic."""
    return quote(text, safe=":@").encode()
