"""A batch reads what can be read, and sets the rest aside without a cost to its neighbours."""

import numpy as np
import pytest
from stories import HOUR, MINUTE, T0, Raw, records, request, sketch

from gateway.request import MAX_BYTES, encode
from streams.batch import read


def test_readable_requests_become_columns_in_the_order_they_came() -> None:
    batch, aside = read(records([request("ada", turns=3), request("bob", at=T0 + 5, output_tokens=7)], first_offset=40))
    assert aside == []
    assert batch is not None
    assert batch.accounts == ("ada", "bob")
    assert batch.offsets.tolist() == [40, 41]
    assert batch.at.tolist() == [T0, T0 + 5]
    assert batch.output_tokens.tolist() == [50, 7]
    assert batch.turns[0] == 3
    assert np.isnan(batch.turns[1])


def test_what_is_absent_is_marked_absent() -> None:
    batch, _ = read(records([request(ip="1.2.3.4", asn=64512, temperature=0.0), request()]))
    assert batch is not None
    for column in (batch.address, batch.network, batch.settings):
        assert (column != 0).tolist() == [True, False]
    assert not batch.prefix.any()
    assert len(batch.sketched) == 0
    assert batch.topic.shape == (0, 64)
    assert batch.cues.shape == (0, 4)


def test_equal_things_hash_alike_and_different_ones_apart() -> None:
    batch, _ = read(
        records(
            [
                request(ip="1.2.3.4", max_tokens=9),
                request(ip="1.2.3.4", max_tokens=9),
                request(ip="1.2.3.5", max_tokens=8),
            ]
        )
    )
    assert batch is not None
    for column in (batch.address, batch.settings):
        assert column[0] == column[1] != column[2]


def test_sketches_fill_their_columns() -> None:
    told = [request(), request(sketch=sketch(prompt=5, system=6, axis=2, cues=["rubric", "poetry"]))]
    batch, _ = read(records(told))
    assert batch is not None
    assert batch.sketched.tolist() == [1]
    assert batch.topic[0].tolist() == [0, 0, 127] + [0] * 61
    assert batch.cues.tolist() == [[False, False, False, True]]
    for column in (batch.prefix, batch.system, batch.band):
        assert (column != 0).tolist() == [False, True]


def test_raw_text_is_sketched_at_the_edge_and_dropped() -> None:
    batch, _ = read(records([request(text="Count the sheep, step by step.", instructions="Be brief."), request()]))
    assert batch is not None
    assert batch.sketched.tolist() == [0]
    assert (batch.system != 0).tolist() == [True, False]
    assert not any("sheep" in repr(getattr(batch, name)) for name in batch.__slots__)


GOOD = encode(request("ada"))
BAD = {
    b"": "not_json",
    b"hello": "not_json",
    b"\xff\xfe": "not_json",
    GOOD + b"," + GOOD: "not_json",
    b"[" + GOOD + b"]": "wrong_type",
    GOOD.replace(b'"account":"ada",', b""): "missing_field",
    GOOD.replace(b'"input_tokens":100', b'"input_tokens":"100"'): "wrong_type",
    GOOD.replace(b'"input_tokens":100', b'"input_tokens":-1'): "out_of_range",
    GOOD.replace(b'"input_tokens":100', b'"input_tokens":' + b"9" * 5_000): "out_of_range",
    GOOD.replace(b'"input_tokens":100', b'"input_tokens":NaN'): "not_json",
    GOOD.replace(str(T0).encode(), b"1000"): "too_old",
    GOOD.replace(b"}", b',"text":"' + b"x" * MAX_BYTES + b'"}'): "too_large",
    encode(request(sketch=sketch(5))).replace(b"0000000000000005", b"000000000000000G"): "out_of_range",
    b'{"x":' * 5_000 + b"1" + b"}" * 5_000: "not_json",
}


@pytest.mark.parametrize(("value", "reason"), BAD.items(), ids=range(len(BAD)))
def test_an_unreadable_record_costs_its_neighbours_nothing(value: bytes, reason: str) -> None:
    neighbours = records([request("ada"), request("bob")])
    broken = Raw(value, offset=9)
    batch, aside = read([neighbours[0], broken, neighbours[1]])
    assert batch is not None
    assert batch.accounts == ("ada", "bob")
    assert [one.record for one in aside] == [broken]
    assert aside[0].reason == reason


def test_records_that_only_together_are_json_are_refused_each() -> None:
    # Joined by commas these would be three good requests; each record must stand on its own.
    head, tail = GOOD[:20], GOOD[20:]
    batch, aside = read([Raw(head), Raw(tail), Raw(GOOD)])
    assert batch is not None
    assert len(batch) == 1
    assert len(aside) == 2


def test_the_future_is_refused_against_the_brokers_time() -> None:
    early = request(at=T0 + 11 * MINUTE)
    late = request(at=T0 + 9 * MINUTE)
    by_broker = [Raw(encode(early), timestamp=T0), Raw(encode(late), timestamp=T0)]
    batch, aside = read(by_broker)
    assert batch is not None
    assert batch.at.tolist() == [T0 + 9 * MINUTE]
    assert [one.reason for one in aside] == ["in_future"]
    assert "660 s ahead" in aside[0].text


def test_without_a_brokers_time_no_instant_is_the_future() -> None:
    batch, aside = read([Raw(encode(request(at=T0 + 1_000 * HOUR)))])
    assert batch is not None
    assert aside == []


def test_tombstones_are_skipped() -> None:
    assert read([Raw(None)]) == (None, [])


def test_a_batch_of_garbage_is_all_set_aside() -> None:
    batch, aside = read([Raw(b"garbage", offset) for offset in range(1_000)])
    assert batch is None
    assert [one.record.offset for one in aside] == list(range(1_000))
