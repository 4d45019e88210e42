"""`stillwatch feedback` and what other commands tell the workers: one message, sent and kept in the audit."""

import click

from .process import asked, settings_in_force
from .terminal import BAD_INPUT, fail


def tell(
    kind: str,
    subject: str,
    *,
    by: str,
    reason: str,
    until: str | None = None,
    lasting: str | None = None,
    action: str | None = None,
) -> None:
    """Send one message of feedback, and say where it stands. Ends the command when it cannot be said or sent."""
    import time

    import msgspec

    from gateway.feedback import Feedback, UnreadableFeedbackError

    from .. import spoken

    where = settings_in_force()
    at = time.time_ns() // 1_000_000
    try:
        scope, value = spoken.subject(subject, kind)
        fields = {"id": spoken.number(kind), "at": at, "scope": scope, "value": value, "kind": kind, "by": by}
        fields |= {"reason": reason, "until": spoken.end(until, lasting, at), "action": action}
        told = asked(where, spoken.send(where, msgspec.convert(fields, Feedback)))
    except (spoken.SpokenError, UnreadableFeedbackError, msgspec.ValidationError) as error:
        fail(error, BAD_INPUT)
    click.echo(f"told the workers (feedback, partition {told.partition}, offset {told.offset})")
    click.echo(f"what came of it: stillwatch explain {scope}:{value}")


@click.command()
@click.argument(
    "kind",
    type=click.Choice(["confirmed", "false_alarm", "verified", "verification_failed", "licensed", "appeal"]),
)
@click.argument("subject")
@click.option("--reason", required=True, help="Why, in a sentence; kept in the audit.")
@click.option("--by", required=True, help="Who says so: a person or a service, by name; kept in the audit.")
@click.option("--until", help="When a licence ends, such as 2027-06-30T00:00:00Z.")
@click.option("--for", "lasting", help="How long a licence lasts: 12h, 90d.")
def feedback(kind: str, subject: str, reason: str, by: str, until: str | None, lasting: str | None) -> None:
    """Tell the detector what is known of SUBJECT: account:NAME, or the name alone; campaign:NAME for a false alarm.

    It takes effect at once: a false alarm wipes out all suspicion, a licence or a verification frees the account, an
    appeal keeps it from anything harsher. The policy's table [feedback] says the rest.
    """
    tell(kind, subject, by=by, reason=reason, until=until, lasting=lasting)
