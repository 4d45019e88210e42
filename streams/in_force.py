"""In force: the verdicts that hold at an instant, as the enforcement topic has them."""

from gateway.verdict import ACTIONS, UnreadableVerdictError, Verdict, decode

from . import compacted, topics
from .settings import Settings


async def in_force(settings: Settings, now: int) -> list[Verdict]:
    """Verdicts that have not expired at `now` (ms UTC), the harshest and surest first. Raises KafkaError, TopicsError.

    What stands there and is no verdict is left out, as a guard leaves it out.
    """
    name = topics.ENFORCEMENT.name(settings)
    count = (await topics.counts(settings)).get(name)
    if not count:
        raise topics.TopicsError(f"missing topic: {name}; create it with: stillwatch topics create")
    found = []
    for partition in range(count):
        for kept in (await compacted.newest(settings, name, partition)).values():
            try:
                verdict = None if kept.value is None else decode(kept.value)
            except UnreadableVerdictError:
                continue
            if verdict is not None and verdict.expires_at > now:
                found.append(verdict)
    harshness = {action: place for place, action in enumerate(ACTIONS)}
    return sorted(found, key=lambda one: (-harshness[one.effective_action], -one.score, one.subject))
