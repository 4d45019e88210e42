"""Everything that takes what others wrote stands what `make fuzz` gives it: the same few examples at every run."""

import gc
import json
import tracemalloc

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from stories import T0, Raw

from gateway.request import MAX_BYTES, UnreadableError, decode
from sinks import alerts
from sinks.policy import PACKAGED, Policy
from streams import standing
from streams.campaigns import Campaigns
from streams.links import Sightings
from streams.pipeline import Pipeline
from streams.profiles import blank, packed
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_odd_input_breaks_nothing(target: Target) -> None:
    gc.collect()  # an openai client that a test left open closes itself in whatever loop runs then: in none
    look = settings(max_examples=target.few, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    look(given(target.given)(target.holds))()


def _alert(**fields: int) -> bytes:
    said = alerts.alert("campaign_found", "campaign:c-1", T0, "Found.")
    return alerts.encode(msgspec.structs.replace(said, **fields))


def _standing(**fields: object) -> bytes:
    said = {"campaign": "c-1", "at": T0, "until": T0 + 1, "action": "throttle", "score": 0.9}
    return json.dumps(said | fields).encode()


POLICY = PACKAGED.read_text("utf-8")

FOUND = {
    "an alert without an end": ("alerts", _alert(ends_at=2**53)),
    "reports of no account": (
        "kin",
        msgspec.msgpack.encode(
            Sightings(v=1, accounts=[], owners=b"", links=b"", reported=bytes(4), rows=packed(blank(1)))
        ),
    ),
    "brackets in a policy": ("policy", "x = " + "[" * 5_000),
    "an int of 5,000 digits in a policy": ("policy", POLICY.replace("rpm = 20", "rpm = " + "9" * 5_000)),
    "no number in a policy": ("policy", POLICY.replace("rpm = 20", "rpm = 20, strength = nan")),
    "brackets in a stored campaign": ("campaigns", [("campaign:c1", b'{"shared":' + b"[" * 5_000)]),
}
"""What `make fuzz` has found."""


@pytest.mark.parametrize("name", FOUND)
def test_what_broke_once_breaks_no_more(name: str) -> None:
    target, value = FOUND[name]
    TARGETS[target].holds(value)


@pytest.mark.parametrize("fields", [{"score": 1e39}, {"score": -1}, {"campaign": ""}, {"action": ""}, {"at": -1}])
def test_a_standing_that_is_none_is_refused(fields: dict[str, object]) -> None:
    assert standing.decode(_standing())
    with pytest.raises(standing.UnreadableStandingError):
        standing.decode(_standing(**fields))


MINIMAL = '{"id":"1","at":1767225600000,"account":"ada","model":"m","input_tokens":1,"output_tokens":1,"x":%s}'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('"' + "x" * MAX_BYTES + '"', "too_large"),
        ("[" * 30_000, "not_json"),
        ("[" * 2_000 + "]" * 2_000, "not_json"),
        ("NaN", "not_json"),
        ("-Infinity", "not_json"),
    ],
)
def test_a_request_that_is_none_is_refused(value: str, reason: str) -> None:
    with pytest.raises(UnreadableError) as error:
        decode((MINIMAL % value).encode())
    assert error.value.reason == reason


@pytest.mark.parametrize("value", ["9" * 5_000, "1e999", "-0", r'"\ud800"', r'"\udfff\ud800"', "[" * 50 + "]" * 50])
def test_what_is_odd_in_a_field_that_nobody_reads_costs_nothing(value: str) -> None:
    assert decode((MINIMAL % value).encode()).account == "ada"


def test_a_flood_of_new_accounts_takes_no_more_memory_than_the_first_of_it() -> None:
    """However many accounts somebody makes up, a worker keeps as many as it may, here 2,000."""
    detector = Pipeline(Policy.load(), most_profiles=2_000)
    campaigns = Campaigns(Policy.load(), most_accounts=2_000)

    def flood(accounts: range) -> None:
        for first in accounts[::1_000]:
            outcome = detector.process([_stranger(number) for number in range(first, first + 1_000)])
            assert outcome.requests == 1_000
            assert outcome.sightings is not None
            campaigns.process([Raw(outcome.sightings)])
            for each in (detector, campaigns):
                each.sweep()
                each.snapshot_dirty()
                assert each.accounts <= 3_000

    flood(range(12_000))
    tracemalloc.start()
    flood(range(12_000, 20_000))
    before, _ = tracemalloc.get_traced_memory()
    flood(range(20_000, 28_000))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 64 bytes of each of the 8,000 would be 512,000.
    assert after - before < 300_000


def _stranger(number: int) -> Raw:
    fields = {
        "id": str(number), "at": T0 + number, "account": f"s{number}", "model": "m", "input_tokens": 1,
        "output_tokens": 1, "ip": f"10.0.{number & 7}.{number & 255}",
    }  # fmt: skip
    return Raw(json.dumps(fields).encode(), number, b"k", T0 + number)
