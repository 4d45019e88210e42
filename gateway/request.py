"""Request: one message of the requests topic."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta

MAX_BYTES: Final = 64 * 1024
"""A message longer than this is unreadable."""

BLOCKED: Final = "blocked"
"""`finish` of a request that the gateway itself refused because of a verdict: the detector must not take it for use."""

EARLIEST_AT: Final = 1_577_836_800_000
"""2020-01-01 UTC in ms: an `at` before it is unreadable."""

MAX_AHEAD_MS: Final = 600_000
"""An `at` more than this ahead of the broker's time is unreadable."""

REASONS: Final = (
    "not_json",
    "missing_field",
    "wrong_type",
    "out_of_range",
    "too_old",
    "in_future",
    "too_large",
)
"""Every reason for which a message is unreadable: few and fixed, so they can label a metric."""

Name = Annotated[str, Meta(min_length=1, max_length=512)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Millis = Annotated[int, Meta(ge=0, le=2**53)]
Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
# msgspec would match a pattern string by string, which takes longer than all the rest of a message together: the digits
# are checked by `wrong_digits`, for many messages in one search.
Hex64 = Annotated[str, Meta(min_length=16, max_length=16, extra_json_schema={"pattern": "^[0-9a-f]{16}$"})]
Bands = Annotated[tuple[Uint32, ...], Meta(min_length=8, max_length=8)]
Topic = Annotated[bytes, Meta(min_length=64, max_length=64)]
Cues = Annotated[tuple[Name, ...], Meta(max_length=16)]


class Sketch(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A prompt without its words: hashes, LSH bands, a topic vector and cues."""

    v: Annotated[int, Meta(ge=1, le=255, description="Version of the recipe; only equal versions compare.")]
    system: Annotated[
        Hex64 | None, Meta(description="64-bit hash of the system prompt, in hex; absent without one.")
    ] = None
    prefix: Annotated[
        Hex64, Meta(description="64-bit hash of the first 256 characters of the last user message, in hex.")
    ]
    bands: Annotated[Bands, Meta(description="8 LSH bands of a MinHash over word shingles; near copies share bands.")]
    topic: Annotated[Topic, Meta(description="64 signed bytes, base64: a random projection of the prompt's words.")]
    chars: Annotated[Count, Meta(description="Length of the last user message in characters.")]
    cues: Annotated[
        Cues | None,
        Meta(description="What the prompt asks for, by name; empty if nothing known, absent if not looked."),
    ] = None


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One request to the LLM API, as the serving tier saw it. What is absent is never evidence.

    Times are milliseconds UTC. `key`, `payment` and, if the deployment asks for it, `ip` are keyed hashes.
    Unknown fields are ignored; `null` counts as absent.
    """

    id: Annotated[Name, Meta(description="Names this request; repeated within some minutes it counts once.")]
    at: Annotated[
        int,
        Meta(
            ge=-(2**53),  # Too old is found later, for a whole batch at once.
            le=2**53,
            description="When the gateway received the request: ms since 1970, UTC; not before 2020.",
        ),
    ]
    account: Annotated[Name, Meta(description="Whom we enforce on; also the key of the Kafka record.")]
    model: Annotated[Name, Meta(description="The model that was asked.")]
    input_tokens: Annotated[Count, Meta(description="Tokens read, cached ones included.")]
    output_tokens: Annotated[Count, Meta(description="Tokens written, reasoning included.")]
    org: Annotated[Name | None, Meta(description="The organisation that owns the account.")] = None
    key: Annotated[Name | None, Meta(description="Keyed hash of the API key.")] = None
    plan: Annotated[Name | None, Meta(description="The plan, which is also the peer group.")] = None
    opened_at: Annotated[Millis | None, Meta(description="When the account was opened: ms UTC.")] = None
    pathway: Annotated[
        Name | None, Meta(description="How the request came: first_party, a cloud's name, reseller.")
    ] = None
    operation: Annotated[
        Name | None, Meta(description="OpenTelemetry GenAI operation name, such as chat or embeddings.")
    ] = None
    session: Annotated[Name | None, Meta(description="The conversation's id.")] = None
    turns: Annotated[Count | None, Meta(description="Messages in the conversation so far.")] = None
    tools: Annotated[Count | None, Meta(description="Tools offered to the model.")] = None
    stream: Annotated[bool | None, Meta(description="Whether the answer was streamed.")] = None
    reasoning_tokens: Annotated[Count | None, Meta(description="Tokens written as reasoning.")] = None
    cached_tokens: Annotated[Count | None, Meta(description="Input tokens served from a cache.")] = None
    max_tokens: Annotated[Count | None, Meta(description="The limit on the answer that was asked for.")] = None
    temperature: Annotated[float | None, Meta(description="Sampling temperature that was asked for.")] = None
    top_p: Annotated[float | None, Meta(description="Nucleus sampling share that was asked for.")] = None
    choices: Annotated[Count | None, Meta(description="Answers asked for in one request (n).")] = None
    top_logprobs: Annotated[
        Count | None, Meta(description="Alternatives a token whose log-probabilities were asked for.")
    ] = None
    status: Annotated[Count | None, Meta(description="HTTP status of the answer.")] = None
    finish: Annotated[
        Name | None,
        Meta(description="Why the answer ended: stop, length, tool_calls, refusal, error; blocked by a verdict."),
    ] = None
    latency_ms: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="From request to the answer's end, in ms.")
    ] = None
    ip: Annotated[Name | None, Meta(description="Any stable string for the client's address.")] = None
    asn: Annotated[Name | Uint32 | None, Meta(description="The address's autonomous system.")] = None
    country: Annotated[
        Name | None, Meta(description="The address's country; used for change of place, never as suspicion.")
    ] = None
    network: Annotated[
        Name | None,
        Meta(description="Kind of network: residential, datacenter, vpn, tor, mobile, corporate."),
    ] = None
    client: Annotated[Name | None, Meta(description="Client fingerprint, such as TLS and SDK.")] = None
    payment: Annotated[Name | None, Meta(description="Keyed hash of the payment instrument.")] = None
    billing_country: Annotated[Name | None, Meta(description="Country of the payment instrument.")] = None
    sketch: Annotated[Sketch | None, Meta(description="The prompt without its words.")] = None
    text: Annotated[
        str | None,
        Meta(description="The last user message, where a deployment allows it: sketched, then dropped."),
    ] = None
    instructions: Annotated[
        str | None,
        Meta(description="The system prompt, where a deployment allows it: sketched, then dropped."),
    ] = None


class UnreadableError(ValueError):
    """A message of the requests topic that cannot be read.

    `reason` is one of REASONS. `field` is the path to the fault, such as `sketch.bands[3]`, or None when the
    message as a whole is at fault. `value` is what stood there, cut to 80 characters. Words of a prompt, keys
    and payment are described, never shown: errors end up in logs.
    """

    def __init__(self, reason: str, problem: str, field: str | None = None, value: str | None = None) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.reason = reason
        self.field = field
        self.value = value


decoder: Final = msgspec.json.Decoder(Request)
"""The bare decoder. It checks neither size, time nor the digits of hashes; for what it refuses, ask `decode`."""

FAILURES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything `decoder` raises."""

_encoder: Final = msgspec.json.Encoder()


class _Literal(str):
    """A number as it was written."""


# 1e999 and worse must not keep us from showing what else stands in the message.
_lenient: Final = msgspec.json.Decoder(float_hook=_Literal)

_NO_DIGIT: Final = re.compile("[^0-9a-f]")
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S
)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_REQUIRED: Final = frozenset(
    field.name for struct in (Request, Sketch) for field in msgspec.structs.fields(struct) if field.required
)
_SECRET: Final = ("text", "instructions", "sketch", "key", "payment", "ip")
_SHOWN: Final = 80


def decode(raw: bytes) -> Request:
    """Reads one message, except for what needs the broker's time (`check_at`).

    Raises UnreadableError. A lone UTF-16 surrogate is legal JSON that msgspec refuses; it is read as U+FFFD,
    for otherwise a prompt with half an emoji in it would make its request invisible.
    """
    if len(raw) > MAX_BYTES:
        raise UnreadableError("too_large", f"{len(raw)} bytes, over the limit of {MAX_BYTES}")
    try:
        request = decoder.decode(raw)
    except FAILURES as error:
        mended = _mend(raw)
        if mended == raw:
            raise explain(raw, error) from None
        try:
            request = decoder.decode(mended)
        except FAILURES as second:
            raise explain(mended, second) from None
    if wrong_digits([request]):
        raise _no_hex(request)
    if request.at < EARLIEST_AT:
        raise _too_old(request.at)
    return request


def wrong_digits(requests: Iterable[Request]) -> bool:
    """Whether any hash in the sketches of these requests is not written in lower-case hex digits."""
    sketches = [request.sketch for request in requests if request.sketch is not None]
    digits = [sketch.prefix for sketch in sketches] + [
        sketch.system for sketch in sketches if sketch.system is not None
    ]
    return bool("".join(digits).encode().translate(None, b"0123456789abcdef"))


def encode(request: Request) -> bytes:
    """The message as bytes, the same for equal requests. Raises UnicodeEncodeError on a lone surrogate."""
    return _encoder.encode(request)


def check_at(at: int, broker_at: int | None) -> UnreadableError | None:
    """What is wrong with `at`, given the broker's time of its record (both ms; None or -1: unknown)."""
    if at < EARLIEST_AT:
        return _too_old(at)
    if broker_at is not None and 0 <= broker_at < at - MAX_AHEAD_MS:
        ahead = (at - broker_at) / 1000
        problem = f"{ahead:.0f} s ahead of the broker, over the limit of {MAX_AHEAD_MS // 1000} s, got {at}"
        return UnreadableError("in_future", problem, "at", str(at))
    return None


def explain(raw: bytes, error: Exception) -> UnreadableError:
    """What is wrong with `raw`, given what `decoder` raised on it (one of FAILURES)."""
    raw = _mend(raw)
    if not raw.strip():
        return UnreadableError("not_json", "the message is empty")
    content: object = ...
    try:
        content = _lenient.decode(raw)
    except msgspec.ValidationError:
        pass  # An int of thousands of digits: still JSON, but nothing can be shown.
    except RecursionError:
        return UnreadableError("not_json", "nested too deeply")
    except UnicodeDecodeError:
        return UnreadableError("not_json", "not UTF-8")
    except msgspec.DecodeError as fault:
        return UnreadableError("not_json", f"not JSON: {_first_down(str(fault).removeprefix('JSON is malformed: '))}")
    if not isinstance(error, msgspec.ValidationError):
        # The fault lies in a part that only the typed decoder reads closely.
        return UnreadableError("not_json", f"not JSON: {_first_down(str(error))}")

    problem, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`")
    missing = _MISSING.fullmatch(problem)
    if missing:
        return UnreadableError("missing_field", "missing", f"{path}.{missing[1]}".removeprefix("."))
    field = path.removeprefix(".")
    if problem.endswith("got `null`") and field.rpartition(".")[2] in _REQUIRED:
        return UnreadableError("missing_field", "missing, got null", field, "null")
    value = _show(field, _at_path(content, path, raw))
    expected, _, kind = _first_down(problem).replace("`", "").partition(", got ")
    got = value or kind
    return UnreadableError(
        _reason(str(error), field), f"{expected}, got {got}" if got else expected, field or None, value
    )


def _no_hex(request: Request) -> UnreadableError:
    at_fault = request.sketch and _NO_DIGIT.search(request.sketch.prefix)
    field = "sketch.prefix" if at_fault else "sketch.system"
    text = "a string of 16 characters"
    return UnreadableError("out_of_range", f"expected 16 lower-case hex digits, got {text}", field, text)


def _too_old(at: int) -> UnreadableError:
    return UnreadableError("too_old", f"before 2020, got {at}", "at", str(at))


def _reason(problem: str, field: str) -> str:
    if ", got `" in problem or "base64" in problem:
        return "wrong_type"
    if field == "at":
        return "too_old" if ">=" in problem else "in_future"
    return "out_of_range"


def _mend(raw: bytes) -> bytes:
    """Lone surrogate escapes become the replacement character; everything else stays."""
    if _SURROGATE.search(raw) is None:
        return raw
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], raw)


def _at_path(content: object, path: str, raw: bytes) -> object:
    """The value at msgspec's `path`, or ... when it cannot be told, as when a key is given twice."""
    for name, index in _STEP.findall(path):
        if name and isinstance(content, dict) and raw.count(f'"{name}"'.encode()) == 1:
            content = content.get(name, ...)
        elif index and isinstance(content, list) and int(index) < len(content):
            content = content[int(index)]
        else:
            return ...
    return content


def _show(field: str, value: object) -> str | None:
    """`value` on one line of at most 80 characters; what may hold words or secrets only by kind and size."""
    if value is ...:
        return None
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    text = isinstance(value, str) and not isinstance(value, _Literal)
    secret = not field or field.partition(".")[0] in _SECRET
    if text and secret:
        return f"a string of {len(str(value))} characters"
    if field.startswith("sketch.") or not secret:
        shown = ascii(value) if text else _digits(value)
        return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
    return "a number"


def _digits(value: object) -> str:
    # Python refuses to print an int of more than 4,300 digits.
    return str(Decimal(value)) if isinstance(value, int) else str(value)


def _first_down(text: str) -> str:
    return text[:1].lower() + text[1:]
