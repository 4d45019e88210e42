"""Senders: who may come to a service of ours, by token."""

import hmac
import logging
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

logger: Final = logging.getLogger("stillwatch_gateway")

SHORTEST_TOKEN: Final = 16
"""Characters: a shorter one could be guessed."""

CHECK_SECONDS: Final = 1.0
"""How often, at most, we look whether the file has changed."""


class SendersError(ValueError):
    """A file of tokens that cannot be used; the message names the line and never shows a token."""


class _Version(NamedTuple):
    """What tells one version of a file from another: secrets of Kubernetes change by a link to another file."""

    inode: int
    size: int
    modified_ns: int


class Senders:
    """The names and tokens in a file, one `name token` a line, read anew when it changes.

    To rotate a token, give the name a second line, let the sender change over, and take the first line away. A file
    that cannot be used any more changes nothing: the senders known so far stay, and an error is logged.
    `clock` gives seconds.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float]) -> None:
        """Raises SendersError when the file cannot be used."""
        self.failures = 0
        """Times that a changed file could not be used."""
        self._path = Path(path)
        self._clock = clock
        self._version = _version(self._path)
        self._senders = _read(self._path)
        self._checked_at = clock()

    def named(self, authorization: str | None) -> str | None:
        """The name of whoever sent this `Authorization` header; None for a stranger."""
        scheme, _, token = (authorization or "").partition(" ")
        return self.holder(token.strip()) if scheme.lower() == "bearer" else None

    def holder(self, token: str) -> str | None:
        """Whose token it is. Each is compared in constant time: how long it takes tells nothing of any of them."""
        self._renew()
        digest, found = _digest(token), None
        for known, name in self._senders:
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _renew(self) -> None:
        if self._clock() - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = self._clock()
        try:
            version = _version(self._path)
            if version == self._version:
                return
            self._version = version
            self._senders = _read(self._path)
        except SendersError as error:
            self.failures += 1
            logger.error("%s; the senders known so far stay", error)  # noqa: TRY400  (its trace tells nobody anything)


def _version(path: Path) -> _Version:
    try:
        found = path.stat()
    except OSError as error:
        raise SendersError(f"{path}: {error.strerror}") from None
    return _Version(found.st_ino, found.st_size, found.st_mtime_ns)


def _read(path: Path) -> list[tuple[bytes, str]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise SendersError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SendersError(f"{path}: not UTF-8") from None
    senders: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise SendersError(f"{path}: line {number}: expected a name and a token, got {len(words)} words")
        name, token = words
        if len(token) < SHORTEST_TOKEN:
            raise SendersError(
                f"{path}: line {number}: the token of {name} has {len(token)} characters, fewer than {SHORTEST_TOKEN}"
            )
        other = senders.setdefault(_digest(token), name)
        if other != name:
            raise SendersError(f"{path}: line {number}: {name} has the same token as {other}")
    if not senders:
        raise SendersError(f"{path}: no sender in it; a line is a name and a token")
    return list(senders.items())


def _digest(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogateescape")).digest()
