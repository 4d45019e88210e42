"""Retry: a message is posted until somebody takes it or refuses it for good."""

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, Protocol, TypeAlias

Sleep: TypeAlias = Callable[[float], Awaitable[None]]

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 60.0

_NOT_NOW: Final = frozenset({408, 425, 429})
"""Refusals that may pass: too slow, too early, too many."""


class Post(Protocol):
    """Sends a body; the HTTP status. Raises OSError when nobody answers."""

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int: ...


async def retry(
    post: Post,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    sleep: Sleep,
    dice: random.Random,
    tried: Callable[[Literal["taken", "refused", "failed"]], None],
) -> bool:
    """Post until it is taken (True) or refused for good (False).

    Pauses double from one second to a minute, each shortened at random, so that many who wait do not come at once.
    """
    pause = FIRST_SECONDS
    while True:
        try:
            status = await post(url, body, headers)
        except OSError:
            status = 0
        if 200 <= status < 300:
            tried("taken")
            return True
        if 400 <= status < 500 and status not in _NOT_NOW:
            tried("refused")
            return False
        tried("failed")
        await sleep(pause * (0.5 + dice.random() / 2))
        pause = min(2 * pause, LONGEST_SECONDS)
