from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.verdict import ACTIONS, Exposure, Reason, UnreadableVerdictError, Verdict, decode, encode

GOLDEN = Path(__file__).parent / "golden"

MINIMAL = Verdict(
    id="v-1",
    at=1_767_225_600_000,
    seq=1,
    scope="account",
    value="ada",
    action="watch",
    score=0.5,
    expires_at=1_767_229_200_000,
    policy="2026-11-1",
    model="1",
)
FULL = Verdict(
    id="v-2",
    at=1_767_225_600_000,
    seq=2,
    scope="campaign",
    value="c-17",
    action="throttle",
    score=0.97,
    scenario="chain-of-thought extraction",
    reasons=(
        Reason(signal="volume", weight=2.5, text="900 requests an hour", observed=900.0, typical=12.0),
        Reason(signal="anomaly", weight=1.25, text="unlike its peers"),
    ),
    campaign="c-17",
    exposure=Exposure(requests=900.0, output_tokens=2e6, reasoning_tokens=1.5e6, cost=31.25, share_of_budget=0.05),
    parameters={"rpm": 20.0, "link": "https://verify.example/ada"},
    expires_at=1_767_229_200_000,
    origin="analyst",
    mode="shadow",
    policy="2026-11-1",
    model="1",
)


@pytest.mark.parametrize(("name", "verdict"), [("verdict_minimal.json", MINIMAL), ("verdict_full.json", FULL)])
def test_the_bytes_of_the_contract_are_frozen(name: str, verdict: Verdict) -> None:
    golden = (GOLDEN / name).read_bytes().rstrip(b"\n")
    assert encode(verdict) == golden
    assert decode(golden) == verdict


def test_equal_verdicts_have_equal_bytes_whatever_the_order_of_their_parameters() -> None:
    turned = msgspec.structs.replace(FULL, parameters=dict(reversed(FULL.parameters.items())))
    assert list(turned.parameters) != list(FULL.parameters)
    assert encode(turned) == encode(FULL)


def test_an_unknown_action_is_read_and_counts_as_watch() -> None:
    newer = decode(encode(msgspec.structs.replace(MINIMAL, action="quarantine")))
    assert (newer.action, newer.effective_action) == ("quarantine", "watch")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_known_action_counts_as_itself(action: str) -> None:
    assert msgspec.structs.replace(MINIMAL, action=action).effective_action == action


def test_fields_of_a_newer_detector_are_ignored() -> None:
    assert decode(b'{"mood":"grim",' + encode(MINIMAL)[1:]) == MINIMAL


def test_the_subject_is_the_key_on_the_topic() -> None:
    assert FULL.subject == "campaign:c-17"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not a verdict: Input data was truncated"),
        (b"{}", "not a verdict: Object missing required field `id`"),
        (encode(MINIMAL).replace(b"0.5", b"1.5"), "not a verdict: Expected `float` <= 1.0 - at `$.score`"),
        (encode(MINIMAL).replace(b'"seq":1', b'"seq":0'), "not a verdict: Expected `int` >= 1 - at `$.seq`"),
        (
            encode(MINIMAL).replace(b'"account"', b'"galaxy"'),
            "not a verdict: Invalid enum value 'galaxy' - at `$.scope`",
        ),
    ],
)
def test_what_is_no_verdict_says_why(raw: bytes, problem: str) -> None:
    with pytest.raises(UnreadableVerdictError) as caught:
        decode(raw)
    assert str(caught.value) == problem
    assert isinstance(caught.value, ValueError)


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with pytest.raises(UnreadableVerdictError):
        decode(raw)
