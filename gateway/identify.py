"""Identify: who sent a request, from its headers."""

from collections.abc import Callable, Mapping
from typing import Final

from .exchange import Identity, milliseconds
from .pepper import Pepper
from .settings import Settings

Identify = Callable[[Mapping[str, str], str | None], Identity | None]
"""Header names (lower case) with their values, and the peer's address, to an identity; None where nobody can be told.

A deployment that keeps its accounts elsewhere passes its own. It must not wait: it runs on the reply path.
"""

_FINGERPRINT: Final = (
    "user-agent",
    "x-stainless-lang",
    "x-stainless-package-version",
    "x-stainless-os",
    "x-stainless-arch",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
)
"""What SDKs say of themselves; a deployment with TLS fingerprints names their header instead."""


def by_headers(settings: Settings) -> Identify:
    """Reads identities from the headers that `settings` name.

    Only name headers that your own proxy sets and that it takes away from what comes from outside: whoever can write
    the account's header can be anybody. Without `account_header` the keyed hash of the API key stands for the account.
    Of a list of addresses (`X-Forwarded-For`) the last counts, for the others come from the caller.
    """
    pepper = None if settings.secret is None else Pepper(settings.secret, settings.previous_secret)
    headers = {
        field: getattr(settings, f"{field}_header").lower()
        for field in ("account", "org", "plan", "opened_at", "payment", "address", "country", "client")
        if getattr(settings, f"{field}_header") is not None
    }

    def identify(sent: Mapping[str, str], peer: str | None) -> Identity | None:
        given = {field: sent[name] for field, name in headers.items() if sent.get(name)}
        token = api_key(sent)
        account = given.get("account")
        if account is None and "account" not in headers and pepper is not None and token is not None:
            account = pepper.name("account", token)
        if account is None:
            return None
        address = given["address"].rpartition(",")[2].strip() if "address" in given else peer
        if address and settings.hash_addresses and pepper is not None:
            address = pepper.name("ip", address)
        payment = given.get("payment")
        return Identity(
            account=account,
            org=given.get("org"),
            keys=pepper.names("key", token) if pepper is not None and token is not None else (),
            plan=given.get("plan"),
            opened_at=milliseconds(given.get("opened_at")),
            payment=pepper.name("payment", payment) if pepper is not None and payment is not None else None,
            pathway=settings.pathway,
            ip=address or None,
            country=given.get("country"),
            client=given.get("client") or _fingerprint(sent),
        )

    return identify


def api_key(sent: Mapping[str, str]) -> str | None:
    """The API key of a request, wherever clients put it."""
    scheme, _, token = sent.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return sent.get("api-key") or sent.get("x-api-key") or None


def _fingerprint(sent: Mapping[str, str]) -> str | None:
    found = [sent[name] for name in _FINGERPRINT if name in sent]
    return " ".join(found) or None
