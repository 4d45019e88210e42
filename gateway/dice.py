"""Dice: chance that is the same whenever the same thing is asked, and unpredictable without the key."""

from hashlib import blake2b, shake_256

import numpy as np
from numpy.typing import NDArray


def derived(secret: str, person: bytes, *parts: str) -> bytes:
    """A key of 32 bytes for one purpose (`person`, up to 16 bytes) and subject; it gives the secret away to nobody."""
    text = b"".join(b"%d:%s" % (len(raw), raw) for raw in map(_raw, parts))
    return blake2b(text, digest_size=32, key=blake2b(_raw(secret)).digest(), person=person).digest()


def uniforms(key: bytes, content: bytes, count: int) -> NDArray[np.float64]:
    """`count` numbers from (0, 1), the same for equal key (up to 64 bytes) and content."""
    stream = shake_256(blake2b(content, key=key).digest()).digest(8 * count)
    return (np.frombuffer(stream, "<u8") >> np.uint64(12)).astype(np.float64) / 2.0**52 + 2.0**-53


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
