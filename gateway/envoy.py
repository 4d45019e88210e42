"""Envoy: an `ext_authz` service, so that Envoy refuses what a verdict says.

Envoy asks before it passes a request on, and sends its path and headers; 200 lets it pass, anything else is the reply
to the client. It never shows us the body or the answer. So what was served is reported by the server behind (our
middleware with STILLWATCH_ENFORCE=false, or `stillwatch ingest`), what was refused is reported from here, and degrade
passes, announced by a header. Run it by `uvicorn --factory stillwatch_gateway.envoy:app`.
"""

import os
from typing import Final

from .exchange import operation_of
from .gate import Gate, Passage
from .headers import DECISION, OURS, announced, quoted
from .service import Receive, Scope, Send, lifespan, reply, vitals
from .settings import Settings

PREFIX: Final = "/authz"
"""Envoy's `path_prefix`: what begins with it is a question, anything else is for us."""

_REMOVE: Final = b"x-envoy-auth-headers-to-remove"
_NAMES: Final = tuple(OURS + name for name in (b"action", b"subject", b"decision", b"request"))


class Authz:
    """The service as an ASGI application. A fault of ours is counted, and the request passes."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one question, or what probes and Prometheus ask."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send, self.gate.run)
        elif scope["type"] == "http" and scope["path"].startswith(PREFIX + "/"):
            await self._answer(scope, send)
        elif scope["type"] == "http":
            ready = self.gate.subscriber.restored.is_set()
            await vitals(scope, send, ready=ready, counts=self.gate.counts())

    async def _answer(self, scope: Scope, send: Send) -> None:
        asked = operation_of(scope["method"], scope["path"])
        passage: Passage | None = None
        try:
            if asked is not None:
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
                passage = await self.gate.admit(headers, _last(headers.get("x-forwarded-for")))
        except Exception:
            self.gate.fault()
        if passage is None:
            await reply(send, 200, headers=_told([]))
            return
        if passage.refusal is None:
            told = announced(passage)
            await reply(send, 200, headers=[*_told([name for name, _ in told]), *told])
            return
        refusal = passage.refusal
        decision = (DECISION, quoted(refusal.standing.id))
        await reply(send, refusal.status, refusal.body, [*refusal.headers, decision])
        self.gate.refused(passage, asked or "")


def app() -> Authz:
    """The service as the environment describes it. Raises SettingsError."""
    return Authz(Gate(Settings.read(os.environ)))


def _told(names: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Has Envoy take away what a client pretends to be ours."""
    pretended = [name for name in _NAMES if name not in names]
    return [(_REMOVE, b",".join(pretended))] if pretended else []


def _last(addresses: str | None) -> str | None:
    """The address that Envoy itself added; the others come from the caller."""
    return addresses.rpartition(",")[2].strip() or None if addresses else None
