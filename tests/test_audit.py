"""The record of decisions, and what happens when somebody touches it."""

import msgspec
import pytest

from gateway.verdict import Verdict
from sinks.audit import Chain, verify
from sinks.policy import Decision


def decision(number: int, account: str = "a", action: str = "watch") -> Decision:
    return Decision(
        Verdict(
            id=f"{account}-{number}",
            at=number,
            seq=number,
            scope="account",
            value=account,
            action=action,
            score=0.5,
            expires_at=number + 60,
            policy="p",
            model="m",
        )
    )


def chain(length: int, writer: str = "requests-0") -> list[bytes]:
    writes = Chain(writer)
    return [writes.append(decision(number)) for number in range(1, length + 1)]


def test_an_untouched_chain_holds():
    assert verify([]) is None
    assert verify(chain(1)) is None
    assert verify(chain(5)) is None


def test_a_record_is_json_that_carries_the_whole_verdict():
    writes = Chain("requests-0")
    record = msgspec.json.decode(writes.append(decision(1)))
    assert record["hash"] == writes.hash
    assert record["number"] == 1
    assert msgspec.convert(record["verdict"], Verdict, strict=False) == decision(1).verdict


def test_a_changed_record_is_found():
    records = chain(5)
    records[2] = records[2].replace(b'"score":0.5', b'"score":0.4')
    assert verify(records) == 2


def test_a_record_sealed_anew_breaks_the_one_after_it():
    records = chain(5)
    forger = Chain("requests-0")
    forged = [forger.append(decision(number)) for number in (1, 2)] + [forger.append(decision(99))]
    assert verify([*records[:2], forged[2], *records[3:]]) == 3


@pytest.mark.parametrize("index", [0, 1, 3])
def test_a_record_taken_out_is_missed(index):
    records = chain(5)
    del records[index]
    assert verify(records) == index


def test_a_record_repeated_or_moved_is_found():
    one, two, three = chain(3)
    assert verify([one, two, two, three]) == 2
    assert verify([one, three, two]) == 1


@pytest.mark.parametrize("junk", [b"", b"{}", b"not json", b'{"writer":1,"hash":"' + b"0" * 64 + b'"}', b"\xff\xfe"])
def test_what_is_no_record_is_found(junk):
    assert verify([*chain(2), junk]) == 2


def test_chains_of_several_writers_may_be_interleaved():
    left, right = chain(3, "requests-0"), chain(3, "requests-1")
    together = [left[0], right[0], right[1], left[1], left[2], right[2]]
    assert verify(together) is None
    del together[2]
    assert verify(together) == 4


def test_a_topic_whose_oldest_records_aged_out_can_still_be_verified():
    assert verify(chain(5)[2:]) == 0
    assert verify(chain(5)[2:], from_start=False) is None


def test_the_end_of_a_verdict_is_on_record():
    lifted = msgspec.json.decode(Chain("w").append(decision(1, action="allow")))
    assert lifted["verdict"]["action"] == "allow"
