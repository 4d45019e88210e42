"""Pepper: stable names for what must not be read."""

from hashlib import blake2b
from typing import Literal

Kind = Literal["account", "key", "payment", "ip", "client"]


class Pepper:
    """Hashes values with a secret, so that nobody without it can tell or test what they were (BLAKE2b, keyed).

    Equal values of one kind have equal names wherever the secret is the same, so all replicas need the same one;
    values of different kinds never have. To rotate it, start every replica with the new secret and the old one as
    `previous`: requests carry the new names from then on, and verdicts on keys are looked up under both. Once the
    last verdict from before has ended (at most the longest `seconds` of the policy), leave `previous` away. What a
    rotation costs: links through a payment instrument or a hashed address begin anew, and so does an account whose
    name is itself such a hash.
    """

    def __init__(self, secret: str, previous: str | None = None) -> None:
        self._secrets = [secret.encode()] if previous is None else [secret.encode(), previous.encode()]
        # BLAKE2b takes keys of up to 64 bytes: longer secrets are hashed to that first.
        self._keys = [blake2b(each).digest() for each in self._secrets]

    def name(self, kind: Kind, value: str) -> str:
        """The name of a value: 32 hex digits."""
        return _name(self._keys[0], kind, value)

    def names(self, kind: Kind, value: str) -> tuple[str, ...]:
        """Its names under every secret that is valid, the newest first."""
        return tuple(_name(key, kind, value) for key in self._keys)

    @property
    def sketch_key(self) -> bytes:
        """The key for the hashes in sketches: derived, so that it gives the secret away to nobody."""
        return blake2b(b"", key=self._keys[0], person=b"sketch").digest()


def _name(key: bytes, kind: Kind, value: str) -> str:
    text = value.encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16, key=key, person=kind.encode()).hexdigest()
