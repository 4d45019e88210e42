"""Webhook: the beginning and the end of each alert as one JSON object."""

import msgspec

from .alertmanager import name, page
from .notices import Notice


def body(notice: Notice, runbooks: str) -> bytes:
    """What is posted. `id` is the same when it is told twice, `key` at the beginning and at the end of an alert."""
    return msgspec.json.encode(
        {
            "id": notice.id,
            "key": notice.key,
            "state": "firing" if notice.firing else "resolved",
            "name": name(notice.alert.kind),
            "runbook": page(notice.alert.kind, runbooks),
            **msgspec.to_builtins(notice.alert),
        }
    )


def headers(notice: Notice, token: str | None) -> dict[str, str]:
    """What goes with it: receivers that look at Idempotency-Key take a notice that is told twice for one."""
    found = {"Content-Type": "application/json", "Idempotency-Key": notice.id}
    return found | ({"Authorization": f"Bearer {token}"} if token else {})
