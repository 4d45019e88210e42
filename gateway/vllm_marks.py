"""The watermark inside vLLM: `vllm serve MODEL --logits-processors stillwatch_gateway.vllm_marks:GreenMarks`.

For vLLM's V1 interface (`vllm.v1.sample.logits_processor`, 0.11 and newer, where the V1 model runner is in use). vLLM
imports this module itself; nothing else does. A request carries its mark in `vllm_xargs` (the middleware puts it
there); one without a mark costs nothing. One with a mark costs a copy of its logits to the CPU for each token.
"""

from collections.abc import Callable
from typing import Any

# vLLM is not installed where this is checked.
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from .detect import Mark
from .green import Green
from .marking import FIELD, read
from .tournament import Tournament

Process = Callable[[list[int], list[int], Any], Any]


class GreenMarks(AdapterLogitsProcessor):  # type: ignore[misc]  # vLLM's classes have no types here.
    """Marks of the green kind: before the temperature, and so also where the likeliest token is taken."""

    @classmethod
    def validate_params(cls, params: Any) -> None:
        """Raise ValueError for a mark that cannot be read."""
        _mark(params)

    def is_argmax_invariant(self) -> bool:
        """No: a green token may overtake."""
        return False

    def new_req_logits_processor(self, params: Any) -> Process | None:
        """What to do with the logits of one request."""
        mark = _mark(params)
        return _process(mark) if isinstance(mark, Green) else None


class TournamentMarks(AdapterLogitsProcessor):  # type: ignore[misc]
    """Marks of the tournament kind: after the temperature, and only where tokens are drawn."""

    @classmethod
    def validate_params(cls, params: Any) -> None:
        """Raise ValueError for a mark that cannot be read."""
        _mark(params)

    def is_argmax_invariant(self) -> bool:
        """As good as: it has no effect where the likeliest token is taken, and vLLM then leaves it out."""
        return True

    def new_req_logits_processor(self, params: Any) -> Process | None:
        """What to do with the logits of one request."""
        mark = _mark(params)
        return _process(mark) if isinstance(mark, Tournament) else None


def _mark(params: Any) -> Mark | None:
    text = (getattr(params, "extra_args", None) or {}).get(FIELD)
    if text is None:
        return None
    return read(text if isinstance(text, str) else "")


def _process(mark: Mark) -> Process:
    def process(prompt: list[int], output: list[int], logits: Any) -> Any:
        row = logits.detach().float().cpu().numpy()
        return logits.new_tensor(mark.process([*(prompt or ())[-mark.width :], *output], row))

    return process
