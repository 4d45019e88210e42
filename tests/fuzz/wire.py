"""Wire: what decodes the messages of our topics. A message is read, or refused with a reason; nothing else happens."""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from hypothesis import strategies as st

from gateway import feedback, request, verdict
from gateway.actions import Actions
from gateway.guard import Guard
from gateway.request import MAX_BYTES
from models.rarity import NAMES
from sinks import alertmanager, alerts, webhook
from sinks.notices import Notices
from streams import batch, links, standing
from streams.links import LINK, Sightings
from streams.profiles import blank, packed
from tests.stories import T0, Raw, records
from tests.stories import request as plain

from .odd import WORDS, clear, cut, messages

GOLDEN: Final = Path(__file__).parents[1] / "golden"


def golden(name: str) -> bytes:
    """A message of the contract."""
    return (GOLDEN / name).read_bytes()


REQUESTS: Final = messages(golden("request_full.json"), golden("request_minimal.json"))
VERDICTS: Final = messages(golden("verdict_full.json"), golden("verdict_minimal.json"))
FEEDBACK: Final = messages(golden("feedback_full.json"), golden("feedback_minimal.json"))


def requests(raw: bytes) -> None:
    """One message, alone and between two neighbours, which are read whatever it is."""
    readable = _request(raw)
    ada, bob = records([plain("ada"), plain("bob")])
    found, aside = batch.read([ada, Raw(raw, offset=1), bob])
    assert found is not None
    assert {"ada", "bob"} <= set(found.accounts)
    assert (len(found), len(aside)) == ((3, 0) if readable else (2, 1))
    if aside:
        assert aside[0].reason in request.REASONS
        assert len(aside[0].text) < 1_000
    for name in ("input_tokens", "output_tokens", "temperature"):
        column = getattr(found, name, None)
        assert column is None or not np.isinf(column).any()


def _request(raw: bytes) -> bool:
    try:
        read = request.decode(raw)
    except request.UnreadableError as error:
        clear(error)
        reason, value = error.reason, error.value
        read = None
    if read is None:
        assert reason in request.REASONS
        assert value is None or len(value) <= 90
        return False
    assert len(raw) <= MAX_BYTES
    assert request.decode(request.encode(read)) == read
    return True


def verdicts(raw: bytes) -> None:
    """A guard takes what is read, finds it again, and can answer a request with it."""
    try:
        read = verdict.decode(raw)
    except verdict.UnreadableVerdictError:
        return
    assert verdict.decode(verdict.encode(read)) == read
    guard = Guard(when_stale="keep")
    actions = Actions(replicas=2, verify_url="https://example.com/verify/{decision}", explain=True)
    for now in (0, read.at, read.expires_at - 1, read.expires_at):
        guard.take(read, now)
        guard.confirm(now)
        for found in (guard.find(now, read.value, read.value, (read.value,)), *guard):
            if found is not None:
                refusal = actions.refusal([found], now)
                assert refusal is None or refusal.status in (403, 429)
                assert refusal is None or msgspec.json.decode(refusal.body)
        guard.expire(now)
    guard.lift(read.subject, read.at)


def said(raw: bytes) -> None:
    """What people say."""
    try:
        read = feedback.decode(raw, T0)
    except feedback.UnreadableFeedbackError as error:
        clear(error)
        return
    assert feedback.decode(feedback.encode(read)) == read


def _sightings(accounts: int) -> bytes:
    rows = blank(accounts)
    rows["at"] = rows["first_at"] = T0
    found = np.zeros(2 * accounts, dtype=LINK)
    found["of"], found["kind"], found["trait"], found["at"] = np.arange(2 * accounts) % accounts, 1, 7, T0
    return msgspec.msgpack.encode(
        Sightings(
            v=links.VERSION,
            accounts=[f"a{number}" for number in range(accounts)],
            owners=np.zeros(accounts, dtype="<u8").tobytes(),
            links=found.tobytes(),
            reported=np.arange(accounts, dtype="<u4").tobytes(),
            rows=packed(rows),
        )
    )


SIGHTINGS: Final = st.one_of(
    st.sampled_from((1, 2, 5)).map(_sightings).flatmap(cut),
    st.builds(
        Sightings,
        v=st.sampled_from((links.VERSION, 0, 2**40)),
        accounts=st.lists(WORDS, max_size=3),
        owners=st.integers(0, 3).flatmap(lambda size: st.binary(min_size=8 * size, max_size=8 * size)),
        links=st.integers(0, 3).flatmap(
            lambda size: st.binary(min_size=LINK.itemsize * size, max_size=LINK.itemsize * size)
        ),
        reported=st.integers(0, 2).flatmap(lambda size: st.binary(min_size=4 * size, max_size=4 * size)),
        rows=st.integers(0, 2).map(blank).map(packed),
    ).map(lambda each: _packed(each)),
    st.binary(max_size=200),
)


def _packed(each: Sightings) -> bytes:
    # msgpack takes no lone surrogates, so nobody can send one.
    names = [name.encode("utf-8", "replace").decode() for name in each.accounts]
    return msgspec.msgpack.encode(msgspec.structs.replace(each, accounts=names))


def sightings(raw: bytes) -> None:
    """Everything in a message that is read points at an account of it."""
    try:
        told = links.decode(raw)
    except links.UnreadableSightingsError:
        return
    count = len(told.accounts)
    assert len(told.owners) == count
    assert (told.links["of"] < max(count, 1)).all()
    assert (told.links["kind"] < len(NAMES)).all()
    assert (told.reported < max(count, 1)).all()
    assert len(told.profiles) == len(told.reported)


STANDINGS: Final = messages(
    standing.encode(standing.Standing(campaign="c-1", at=T0, until=T0 + 1, action="throttle", score=0.9)),
    standing.encode(
        standing.Standing(
            campaign="c-1", at=T0, until=T0 + 1, action="verify", score=0.9, scenario="chain-of-thought extraction",
            reasons=(verdict.Reason(signal="kin", weight=2.0, text="shares a card with 40", observed=40.0),),
        )
    ),
)  # fmt: skip


def standings(raw: bytes) -> None:
    """A place in a campaign."""
    try:
        read = standing.decode(raw)
    except standing.UnreadableStandingError:
        return
    assert standing.decode(standing.encode(read)) == read


ALERTS: Final = messages(
    alerts.encode(
        alerts.alert("campaign_found", "campaign:c-1", T0, "Found.", labels={"a": "b"}, details={"accounts": 3.0})
    )
)


def told(raw: bytes) -> None:
    """A message of the alerts topic, and what an Alertmanager and a webhook would be sent of it."""
    try:
        read = alerts.decode(raw)
    except alerts.UnreadableAlertError:
        return
    assert alerts.decode(alerts.encode(read)) == read
    notices = Notices()
    began, ended = notices.take(read), notices.expire(2**53)
    assert len(began) == len(ended) == (0 if read.over else 1)
    for notice in (*began, *ended):
        assert msgspec.json.decode(webhook.body(notice, "https://runbooks.example"))
    (row,) = msgspec.json.decode(alertmanager.body([read], "https://runbooks.example"))
    assert row["labels"]["severity"] == read.severity
    assert row["startsAt"] <= row["endsAt"]
    assert notices.firing() == []
