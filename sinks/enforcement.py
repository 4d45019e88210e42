"""Enforcement: the newest verdict of each subject, as the serving tier reads it."""

from gateway.verdict import encode
from sinks.policy import Decision


def announcement(decision: Decision) -> tuple[bytes, bytes | None]:
    """Key and value for the enforcement topic. Null lifts a verdict, and compaction forgets the subject."""
    verdict = decision.verdict
    return verdict.subject.encode(), None if decision.lifted else encode(verdict)
