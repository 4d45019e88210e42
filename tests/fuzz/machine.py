"""Machine: what is readable, and still not what anybody would send, goes through the whole detector."""

import json
import warnings
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from hypothesis import strategies as st

from gateway import request, verdict
from gateway.request import EARLIEST_AT
from gateway.verdict import ACTIONS
from sinks.audit import Chain
from sinks.enforcement import announcement
from sinks.policy import Decision, Policy
from streams.campaigns import Campaigns
from streams.pipeline import Pipeline
from tests.stories import T0, Raw

from .wire import FEEDBACK, STANDINGS

POLICY: Final = Policy.load()
MOST_PROFILES: Final = 1_000

ACCOUNTS: Final = st.sampled_from(("ada", "bob", "eve", "\U0001f600"))
COUNTS: Final = st.sampled_from((0, 1, 7, 1_000, 16_384, 2**31 - 1))
INSTANTS: Final = st.sampled_from((0, 1, 999, 60_000, 86_400_000, 35 * 86_400_000)).map(T0.__add__) | st.sampled_from(
    (EARLIEST_AT, EARLIEST_AT + 1, 2**53 - 1, 2**53)
)
NUMBERS: Final = st.sampled_from((0.0, -0.0, 5e-324, 0.7, 1.0, -1.0, 1e18, 1.7976931348623157e308)) | st.floats(
    allow_nan=False, allow_infinity=False
)
NAMES: Final = st.sampled_from(("a", "\x00", "x" * 512, "1.2.3.4", "::1", "2001:db8::1", ".", "a.1", "\u202e"))
SKETCHES: Final = st.fixed_dictionaries(
    {
        "v": st.sampled_from((1, 2, 255)),
        "prefix": st.sampled_from(("0" * 16, "f" * 16, "00000000000000aa")),
        "bands": st.lists(st.sampled_from((0, 1, 2**32 - 1)), min_size=8, max_size=8),
        "topic": st.sampled_from(("gIGB" * 21 + "gA==", "A" * 86 + "==", "f39/" * 21 + "fw==")),
        "chars": COUNTS,
    },
    optional={
        "system": st.sampled_from(("0" * 16, "f" * 16)),
        "cues": st.lists(st.sampled_from(("reasoning", "rubric", "\x00")), max_size=16),
    },
)
_FIELDS: Final = {
    **dict.fromkeys(("turns", "tools", "reasoning_tokens", "cached_tokens", "max_tokens", "choices"), COUNTS),
    **dict.fromkeys(("top_logprobs", "status"), COUNTS),
    **dict.fromkeys(("temperature", "top_p"), NUMBERS),
    **dict.fromkeys(("org", "key", "plan", "pathway", "session", "finish", "ip", "country", "network"), NAMES),
    **dict.fromkeys(("client", "payment", "billing_country"), NAMES),
    "opened_at": st.sampled_from((0, 1, T0, 2**53)),
    "latency_ms": NUMBERS.map(abs),
    "stream": st.booleans(),
    "asn": st.sampled_from((0, 2**32 - 1, "AS1")),
    "sketch": SKETCHES,
    "text": st.sampled_from(("", "Why?", "\x00" * 100, "\u0130" * 300)),
    "instructions": st.sampled_from(("", "Be brief.")),
}


class Step(NamedTuple):
    """Something that reaches a worker: raw messages of one topic."""

    topic: str
    messages: Sequence[bytes]
    keys: Sequence[str] = ()


@st.composite
def _flood(draw: st.DrawFn) -> Step:
    """One odd request sent many times over, so that its account is judged, and a few others."""
    fields = draw(
        st.fixed_dictionaries(
            {"account": ACCOUNTS, "model": NAMES, "input_tokens": COUNTS, "output_tokens": COUNTS}, optional=_FIELDS
        )
    )
    first, gap = draw(INSTANTS), draw(st.sampled_from((0, 1, 1_000, 3_600_000)))
    tag = draw(st.integers(0, 9))
    return Step(
        "requests",
        [
            json.dumps(fields | {"id": f"{tag}-{number}", "at": min(first + number * gap, 2**53)}).encode()
            for number in range(draw(st.sampled_from((1, 20, 60))))
        ],
    )


STEPS: Final = st.lists(
    st.one_of(
        _flood(),
        _flood(),
        st.lists(FEEDBACK, min_size=1, max_size=3).map(lambda each: Step("feedback", each)),
        st.lists(STANDINGS, min_size=1, max_size=3).map(
            lambda each: Step("standings", each, ["ada", "bob", "eve"][: len(each)])
        ),
        st.just(Step("again", ())),
    ),
    min_size=1,
    max_size=6,
)


def pipeline(steps: Sequence[Step]) -> None:
    """Every record comes to something, every number stays a number, and what is stored can be read back."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _run(steps)


def _run(steps: Sequence[Step]) -> None:
    detector, campaigns = Pipeline(POLICY, most_profiles=MOST_PROFILES), Campaigns(POLICY, most_accounts=1_000)
    chain, offset = Chain("fuzz"), 0
    for step in steps:
        found = [Raw(raw, offset + place, b"k") for place, raw in enumerate(step.messages)]
        offset += len(found)
        match step.topic:
            case "requests":
                outcome = detector.process(found)
                counted = outcome.requests + outcome.skipped + outcome.repeated + outcome.blocked
                assert counted + len(outcome.unreadable) == len(found)
                assert ((outcome.scores >= 0) & (outcome.scores <= 1)).all()
                _announced(outcome.decisions, chain)
                if outcome.sightings is not None:
                    told = campaigns.process([Raw(outcome.sightings, offset)])
                    assert told.unreadable == []
                    _announced(told.decisions, chain)
                    _announced(detector.stand(told.standings), chain)
            case "feedback":
                heard = detector.hear(found)
                assert heard.heard + heard.skipped + len(heard.unreadable) == len(found)
                _announced(heard.decisions, chain)
                _announced(campaigns.hear(found).decisions, chain)
            case "standings":
                _announced(detector.stand(zip(step.keys, step.messages, strict=True)), chain)
            case _:
                detector = _restored(detector)
    _announced(detector.expire(2**53), chain)
    _restored(detector)
    detector.sweep()
    campaigns.sweep()


def _announced(decisions: Sequence[Decision], chain: Chain) -> None:
    for one in decisions:
        key, value = announcement(one)
        said = one.verdict
        assert key.decode() == said.subject
        assert value is None or verdict.decode(value) == said
        assert 0 <= said.score <= 1
        assert said.action in ACTIONS
        assert all(np.isfinite(reason.weight) for reason in said.reasons)
        assert len(chain.append(one)) < request.MAX_BYTES


def _restored(detector: Pipeline) -> Pipeline:
    """Another one that goes on from what this one would store."""
    detector.profiles.touch(np.arange(detector.profiles.height))
    rows = [(name, row) for name, row in detector.snapshot_dirty() if name]
    again = Pipeline(POLICY, most_profiles=MOST_PROFILES)
    again.restore(rows)
    again.restore_models(detector.snapshot_models())
    for name in again.profiles.table.dtype.names or ():
        held = again.profiles.table[name][: again.profiles.height]
        if held.dtype.kind == "f" and name != "opened_at":
            assert np.isfinite(held).all(), name
    return again


def campaigns(raw: bytes) -> None:
    """A message of the links topic goes into the campaign agent, which looks for groups at once."""
    agent = Campaigns(POLICY, most_accounts=100)
    outcome = agent.process([Raw(raw)])
    assert outcome.links >= 0
    again = Campaigns(POLICY, most_accounts=100)
    again.restore(agent.snapshot_dirty())
    assert again.accounts <= agent.accounts
