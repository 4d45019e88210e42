"""Messages: what a body holds, each one checked without regard to its neighbours."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from gateway.request import Request, UnreadableError, check_at, decode, encode
from gateway.sketch import sketch_many

Prompts = Literal["sketch", "text"]
Encoding = Literal["identity", "gzip"]

_GZIP: Final = 31  # zlib's window bits that stand for a gzip header
_BLANK: Final = b" \t\r\n"


class BodyError(ValueError):
    """A body that cannot be taken apart; none of its messages was taken."""


class BodyTooLargeError(BodyError):
    """A body over a limit; the message names it."""


class Message(NamedTuple):
    """One record for Kafka."""

    key: bytes
    value: bytes


class Refused(NamedTuple):
    """A message that was not taken."""

    place: int
    """In the array, or its line; both from 0."""
    error: UnreadableError


class Batch(NamedTuple):
    """A body taken apart."""

    messages: list[Message]
    refused: list[Refused]


class _Read(NamedTuple):
    raw: bytes
    request: Request


def read(body: bytes, now: int, *, encoding: Encoding, prompts: Prompts, most_bytes: int, most: int) -> Batch:
    """Take a body apart: a JSON array of requests, one of them alone, or one a line.

    Each is checked as the detector checks it, against `now` (ms UTC) in place of the broker's time. With `prompts`
    "sketch" the words of a prompt become a sketch here and go no further. Raises BodyError when the body as a whole is
    at fault: over `most_bytes` once unpacked, over `most` messages, or no JSON array though it begins as one.
    """
    if encoding == "gzip":
        body = _unpacked(body, most_bytes)
    refused: list[Refused] = []
    found: list[_Read] = []
    for count, (place, raw) in enumerate(_split(body), 1):
        if count > most:
            raise BodyTooLargeError(f"over the limit of {most} messages")
        try:
            found.append(_Read(raw, _checked(raw, now)))
        except UnreadableError as error:
            refused.append(Refused(place, error))
    if prompts == "sketch":
        found = _sketched(found)
    return Batch([Message(each.request.account.encode(), each.raw) for each in found], refused)


def _checked(raw: bytes, now: int) -> Request:
    request = decode(raw)
    error = check_at(request.at, now)
    if error is not None:
        raise error
    try:
        request.account.encode()
    except UnicodeEncodeError:
        raise UnreadableError("wrong_type", "half a character", "account") from None
    return request


def _unpacked(body: bytes, most_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise BodyError(f"not gzip: {error}") from None
    if len(plain) > most_bytes:
        raise BodyTooLargeError(f"over the limit of {most_bytes} bytes once unpacked")
    if not unpacker.eof:
        raise BodyError("not gzip: cut short")
    return plain


def _split(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of a body with their places, as they came."""
    if body.lstrip(_BLANK).startswith(b"["):
        try:
            array = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BodyError(f"not a JSON array: {str(error).removeprefix('JSON is malformed: ')}") from None
        yield from ((index, bytes(raw)) for index, raw in enumerate(array))
        return
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not one alone, which may span lines: one a line then, and each is checked by itself.
        yield from ((index, line) for index, line in enumerate(body.split(b"\n")) if line.strip(_BLANK))
    else:
        yield 0, body


def _sketched(found: Sequence[_Read]) -> list[_Read]:
    """The same, without a word of any prompt."""
    worded = [index for index, each in enumerate(found) if each.request.text is not None or each.request.instructions]
    if not worded:
        return list(found)
    requests = [found[index].request for index in worded]
    bare = [request for request in requests if request.sketch is None and request.text is not None]
    made = iter(sketch_many([request.text or "" for request in bare], [request.instructions for request in bare]))
    told = list(found)
    for index, request in zip(worded, requests, strict=True):
        sketch = request.sketch if request.sketch is not None or request.text is None else next(made)
        plain = msgspec.structs.replace(request, sketch=sketch, text=None, instructions=None)
        told[index] = _Read(encode(plain), plain)
    return told
