"""LiteLLM: a callback for its proxy that emits, enforces and degrades.

`litellm_settings: {callbacks: [stillwatch_gateway.litellm.callback]}`; the environment says the rest. Tried with
LiteLLM 1.106. Versions 1.82.7 and 1.82.8 carried malware: do not install them.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, MutableMapping
from datetime import datetime
from typing import Any, Final

import msgspec
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException

from .actions import Refusal
from .answer import LARGEST, Said
from .countermeasures import Measures
from .degrade import Stream
from .exchange import Exchange, Identity, parsed
from .gate import Gate, Passage
from .headers import DECISION, quoted
from .identify import Identify, by_headers
from .settings import Settings

OPERATIONS: Final[Mapping[str, str]] = {
    "acompletion": "chat",
    "completion": "chat",
    "atext_completion": "text_completion",
    "text_completion": "text_completion",
    "aresponses": "chat",
    "responses": "chat",
    "aembedding": "embeddings",
    "embedding": "embeddings",
    "embeddings": "embeddings",
}
"""LiteLLM's names of what is watched and guarded, and OpenTelemetry's name of the operation."""

MOST_UNDER_WAY: Final = 10_000
"""Requests remembered until their answer has been logged; of more, the oldest is reported without its answer."""

_MARK: Final = "stillwatch"
"""Names a request of ours in LiteLLM's metadata. Its own call id will not do: a client may set that."""

_NOBODY: Final = ("default_user_id", "litellm-proxy-master-key", "")
"""What LiteLLM calls a user where it knows of none."""


class Refused(ProxyException):  # type: ignore[misc]  # LiteLLM is not installed where types are checked
    """A refusal in LiteLLM's terms: it becomes the reply, with our error as its body."""

    def __init__(self, refusal: Refusal) -> None:
        self._error: dict[str, Any] = msgspec.json.decode(refusal.body)["error"]
        headers = {name.decode(): value.decode() for name, value in refusal.headers if name == b"retry-after"}
        headers[DECISION.decode()] = quoted(refusal.standing.id).decode()
        super().__init__(self._error["message"], self._error["type"], None, refusal.status, headers=headers)

    def to_dict(self) -> dict[str, Any]:
        """The body's `error`."""
        return self._error


class _Visit:
    """One request on its way through the proxy."""

    def __init__(self, passage: Passage, operation: str, asked: bytes, measures: Measures | None) -> None:
        self.passage = passage
        self.operation = operation
        self.asked = asked
        self.measures = measures
        self.reported = False


class Callback(CustomLogger):  # type: ignore[misc]  # likewise
    """Stands in a LiteLLM proxy before every model. A fault of ours is counted, and the request passes untouched.

    Who sends a request is told by the headers that the settings name. Without an account's header it is LiteLLM's own
    user, else the key; the organisation is LiteLLM's, else its team. A gate of your own finds those among the headers,
    as `:user`, `:org` and `:key` (hashed already).
    """

    def __init__(self, gate: Gate | None = None) -> None:
        super().__init__()
        if gate is None:
            settings = Settings.read(os.environ)
            gate = Gate(settings, identify=by_proxy(settings))
        self.gate = gate
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: object,  # noqa: ARG002  (LiteLLM hands it over)
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any] | None:
        """Let a request pass, or refuse it by raising Refused; a degraded one asks for less from here on."""
        operation = OPERATIONS.get(call_type)
        if operation is None:
            return None
        if self._task is None:
            self._task = asyncio.create_task(self.gate.run())
        try:
            headers, peer, body = _received(data)
            passage = await self.gate.admit(headers | _authenticated(user_api_key_dict), peer)
            refusal = passage.refusal
            if refusal is None:
                refusal = self._begin(passage, operation, body, data)
        except Exception:
            self.gate.fault()
            return None
        if refusal is None:
            return data
        self.gate.refused(passage, operation)
        raise Refused(refusal)

    def _begin(
        self, passage: Passage, operation: str, body: Mapping[str, object], data: dict[str, Any]
    ) -> Refusal | None:
        asked = msgspec.json.encode(body, enc_hook=str)
        standing, measures = passage.standing, None
        if standing is not None and standing.action == "degrade":
            measures = self.gate.countermeasures.against(standing)
            less = parsed(measures.request(asked))
            if measures.spent:
                return self.gate.spent(standing)
            for name in body.keys() - less.keys():
                data.pop(name, None)
            data.update({name: value for name, value in less.items() if name not in body or body[name] != value})
        self._visits[passage.id] = _Visit(passage, operation, asked, measures)
        _metadata(data)[_MARK] = passage.id
        if len(self._visits) > MOST_UNDER_WAY:
            _, oldest = self._visits.popitem(last=False)
            self._report(oldest, Said(200))
        return None

    async def async_post_call_success_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: object,  # noqa: ARG002
        response: Any,
    ) -> Any:
        """A degraded answer without what was not to be told; None leaves it as it is."""
        visit = self._visit(data)
        if visit is None or visit.measures is None:
            return None
        try:
            raw = response.model_dump_json().encode()
            told = await asyncio.to_thread(visit.measures.answer, raw)
            return _like(response, parsed(told))
        except Exception:
            self.gate.fault()
            return None

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: object,  # noqa: ARG002
        response: AsyncIterator[Any],
        request_data: dict[str, Any],
    ) -> AsyncIterator[Any]:
        """The same for an answer that comes piece by piece. Whoever hangs up early is reported all the same."""
        visit = self._visit(request_data)
        stream = None if visit is None or visit.measures is None else visit.measures.stream()
        pieces, ended = 0, False
        try:
            async for piece in response:
                pieces += 1
                told = piece if stream is None else self._lessened(stream, piece)
                if told is not None:
                    yield told
            ended = True
        finally:
            if visit is not None and not ended:
                # Two more, for a whole stream has three events without text and this one only its first.
                self._report(visit, Said(200, streamed=True, events=pieces + 2))

    def _lessened(self, stream: Stream, piece: Any) -> Any:
        try:
            told = stream.feed(b"data: " + piece.model_dump_json(exclude_none=True).encode() + b"\n\n")
            return _like(piece, parsed(told[5:])) if told else None
        except Exception:
            self.gate.fault()
            return piece

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: object,  # noqa: ARG002
        response: object,  # noqa: ARG002
        **_: object,
    ) -> dict[str, str] | None:
        """The request's id, on every reply but refusals, which bring their own."""
        visit = self._visit(data)
        return None if visit is None else {DECISION.decode(): visit.passage.id}

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Report an exchange, after its answer: nobody waits here."""
        visit = self._visit(kwargs.get("litellm_params") or {})
        if visit is None or visit.reported:
            return
        try:
            raw = response_obj.model_dump_json().encode()
            said = Said(200, kept=raw if len(raw) <= LARGEST else b"", size=len(raw))
            self._report(visit, said, (end_time - start_time).total_seconds() * 1000)
        except Exception:
            self.gate.fault()

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: object,  # noqa: ARG002
        traceback_str: str | None = None,  # noqa: ARG002
    ) -> None:
        """Report a request that came to nothing, once LiteLLM has given it up."""
        visit = self._visit(request_data)
        if visit is not None:
            status = getattr(original_exception, "status_code", 500)
            self._report(visit, Said(status if isinstance(status, int) else 500))

    def _visit(self, data: Mapping[str, Any]) -> _Visit | None:
        for name in ("litellm_metadata", "metadata"):
            metadata = data.get(name)
            if isinstance(metadata, Mapping) and isinstance(mark := metadata.get(_MARK), str):
                return self._visits.get(mark)
        return None

    def _report(self, visit: _Visit, said: Said, latency_ms: float | None = None) -> None:
        if visit.reported or visit.passage.who is None:
            return
        exchange = Exchange(
            id=visit.passage.id,
            at=visit.passage.at,
            operation=visit.operation,
            who=visit.passage.who,
            asked=visit.asked,
            said=said,
            latency_ms=latency_ms,
        )
        # Kept without its body a while longer: LiteLLM tells some things twice.
        visit.reported, visit.asked = True, b""
        self.gate.report(exchange, exchange.size)


def by_proxy(settings: Settings) -> Identify:
    """Reads identities from the headers that `settings` name, and from what LiteLLM knows of its own keys."""
    by_their_headers = by_headers(settings)

    def identify(sent: Mapping[str, str], peer: str | None) -> Identity | None:
        if ":key" in sent:
            sent = {**sent, "authorization": f"Bearer {sent[':key']}"}
        found = by_their_headers(sent, peer)
        if settings.account_header is None and ":user" in sent:
            found = found or Identity(account=sent[":user"], pathway=settings.pathway, ip=peer)
            found = msgspec.structs.replace(found, account=sent[":user"])
        if found is not None and found.org is None and ":org" in sent:
            found = msgspec.structs.replace(found, org=sent[":org"])
        return found

    return identify


def __getattr__(name: str) -> Callback:
    # Made where LiteLLM asks for it by name, not by an import: it needs the environment.
    if name != "callback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Callback()


def _received(data: Mapping[str, Any]) -> tuple[dict[str, str], str | None, dict[str, object]]:
    """Headers by lower-case name, the peer's address, and the body as it came."""
    request = data.get("proxy_server_request") or {}
    headers = {str(name).lower(): str(value) for name, value in (request.get("headers") or {}).items()}
    body = {name: value for name, value in (request.get("body") or {}).items() if name != "metadata"}
    peer = _metadata(data).get("requester_ip_address")
    return headers, peer if isinstance(peer, str) and peer else None, body


def _authenticated(auth: Any) -> dict[str, str]:
    """What LiteLLM knows of the caller, under names that no header has."""
    user, key = getattr(auth, "user_id", None), getattr(auth, "api_key", None)
    org = getattr(auth, "org_id", None) or getattr(auth, "team_id", None)
    known = {":user": user, ":key": key, ":org": org}
    return {name: str(value) for name, value in known.items() if value and value not in _NOBODY}


def _metadata(data: Mapping[str, Any]) -> MutableMapping[str, Any]:
    """LiteLLM's own metadata: a place of its own where the API has a field of that name."""
    own = data.get("litellm_metadata")
    if isinstance(own, MutableMapping):
        return own
    metadata = data.get("metadata")
    if isinstance(metadata, MutableMapping):
        return metadata
    return {}


def _like(one: Any, fields: Mapping[str, object]) -> Any:
    """Another of the same kind with other fields; what LiteLLM keeps beside them stays."""
    other = type(one)(**fields)
    for name in ("_hidden_params", "_response_headers"):
        if hasattr(one, name):
            setattr(other, name, getattr(one, name))
    return other
