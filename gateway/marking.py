"""Marking: a watermark where tokens are sampled: for Hugging Face transformers, and as text on the way to a server.

Neither torch nor transformers is needed to import this: tensors are used as they come.
"""

from typing import Any, Final

import numpy as np

from .detect import Mark
from .green import DELTA, Green
from .tournament import Tournament

FIELD: Final = "stillwatch_mark"
"""Where a request to vLLM says which mark its answer carries, in `vllm_xargs`."""


class Transformers:
    """A logits processor: `model.generate(..., logits_processor=[Transformers(mark)])`.

    The prompt counts as context. transformers divides by its temperature afterwards: tell a Tournament which one.
    """

    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    # The types are torch's, which is not installed where this is checked.
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of the next token, one row a sequence, as they should be sampled from."""
        rows = scores.detach().float().cpu().numpy()
        texts = input_ids.tolist()
        marked = [self._mark.process(text, row) for text, row in zip(texts, rows, strict=True)]
        return scores.new_tensor(np.stack(marked))


def spelled(kind: str, key: bytes, strength: float = 1.0) -> str:
    """A mark as text, as it travels in a request. Whoever reads it can forge the mark."""
    return f"{kind}:{key.hex()}:{DELTA * strength:g}"


def read(text: str) -> Mark:
    """The mark that `spelled` wrote. Raises ValueError for anything else."""
    kind, _, rest = text.partition(":")
    key, _, delta = rest.partition(":")
    try:
        raw, number = bytes.fromhex(key), float(delta)
    except ValueError:
        raw, number = b"", 0.0
    if not 16 <= len(raw) <= 64 or not 0 < number <= 100:
        raise ValueError(f"{FIELD}: not a mark: want kind:key in hex:delta")
    if kind == "green":
        return Green(raw, delta=number)
    if kind == "tournament":
        return Tournament(raw)
    raise ValueError(f"{FIELD}: unknown kind {kind!r}: green or tournament")
