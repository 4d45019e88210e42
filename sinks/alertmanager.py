"""Alertmanager: our alerts in the words of its API v2."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from .alerts import Alert, Detail

PATH: Final = "/api/v2/alerts"

_LATEST: Final = 253_402_300_799_000
"""The last second of the year 9999, in ms: RFC 3339 has no later one."""


def body(alerts: Iterable[Alert], runbooks: str) -> bytes:
    """What is posted to PATH. It may be posted again at any time: Alertmanager knows an alert by its labels."""
    return msgspec.json.encode([_row(alert, runbooks) for alert in alerts])


def name(kind: str) -> str:
    """The name of a kind beside those of our alert rules: campaign_found is StillwatchCampaignFound."""
    return "Stillwatch" + "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", kind))


def page(kind: str, runbooks: str) -> str:
    """Where the runbook of a kind is."""
    return f"{runbooks.rstrip('/')}/{re.sub(r'[^a-z0-9]+', '-', kind.lower())}.md"


def _row(alert: Alert, runbooks: str) -> dict[str, object]:
    # What routes must not be a publisher's to forge: our own labels win.
    labels = alert.labels | {"alertname": name(alert.kind), "severity": alert.severity, "subject": alert.subject}
    annotations = {"summary": alert.summary, "runbook_url": page(alert.kind, runbooks)}
    if alert.details:
        annotations["details"] = "\n".join(f"{key}: {_show(value)}" for key, value in alert.details.items())
    since = min(alert.since, alert.ends_at)  # an end before the beginning would be refused
    return {"labels": labels, "annotations": annotations, "startsAt": _time(since), "endsAt": _time(alert.ends_at)}


def _show(value: Detail) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,g}" if isinstance(value, float) else str(value)


def _time(at: int) -> str:
    return datetime.fromtimestamp(min(at, _LATEST) / 1000, UTC).isoformat(timespec="milliseconds")
