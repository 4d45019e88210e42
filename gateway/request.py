"""Request: one message of the requests topic."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

MAX_BYTES: Final = 64 * 1024
"""A message longer than this is unreadable."""

EARLIEST_AT: Final = 1_577_836_800_000
"""2020-01-01 UTC in ms: an `at` before it is unreadable."""

MAX_AHEAD_MS: Final = 600_000
"""An `at` more than this ahead of the broker's time is unreadable."""

Name = Annotated[str, Meta(min_length=1, max_length=512)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Millis = Annotated[int, Meta(ge=0, le=2**53)]
Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Hex64 = Annotated[str, Meta(min_length=16, max_length=16, pattern="^[0-9a-f]{16}$")]
Bands = Annotated[tuple[Uint32, ...], Meta(min_length=8, max_length=8)]
Topic = Annotated[bytes, Meta(min_length=64, max_length=64)]


class Sketch(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A prompt without its words: hashes, LSH bands, a topic vector and cues.

    `system` hashes the system prompt, `prefix` the first 256 characters of the last user message (64 bits in
    hex), `bands` are 8 LSH bands of a MinHash over word shingles, `topic` is 64 signed bytes (base64 on the
    wire), `chars` the prompt's length, `cues` the names of what the prompt asks for (`reasoning`, `rubric`, ...).
    """

    v: Annotated[int, Meta(ge=1, le=255)]
    system: Hex64 | None = None
    prefix: Hex64
    bands: Bands
    topic: Topic
    chars: Count
    cues: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One request to the LLM API, as the serving tier saw it. What is absent is never evidence.

    Times are milliseconds UTC. `key`, `payment` and, if the deployment asks for it, `ip` are keyed hashes.
    Unknown fields are ignored; `null` counts as absent.
    """

    id: Name
    at: Annotated[int, Meta(ge=-(2**53), le=2**53)]
    account: Name
    model: Name
    input_tokens: Count
    output_tokens: Count
    org: Name | None = None
    key: Name | None = None
    plan: Name | None = None
    opened_at: Millis | None = None
    pathway: Name | None = None
    operation: Name | None = None
    session: Name | None = None
    turns: Count | None = None
    tools: Count | None = None
    stream: bool | None = None
    reasoning_tokens: Count | None = None
    cached_tokens: Count | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    choices: Count | None = None
    top_logprobs: Count | None = None
    status: Count | None = None
    finish: Name | None = None
    latency_ms: Annotated[float, Meta(ge=0)] | None = None
    ip: Name | None = None
    asn: Name | Count | None = None
    country: Name | None = None
    network: Name | None = None
    client: Name | None = None
    payment: Name | None = None
    billing_country: Name | None = None
    sketch: Sketch | None = None
    text: str | None = None
    instructions: str | None = None
