"""Strays: a producer with another partitioner is noticed."""

import pytest
from stories import MINUTE, T0

from streams.engine.strays import Strays, stray


@pytest.mark.parametrize(
    ("account", "murmur2"),
    # The hashes that Kafka's own tests hold its partitioner to (org.apache.kafka.common.utils.UtilsTest).
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-longer-string", -1486304829), ("abc", 479470107)],
)
def test_murmur2_says_where_an_account_belongs(account, murmur2):
    assert [number for number in range(12) if not stray(account, number, 12)] == [(murmur2 & 0x7FFFFFFF) % 12]


def test_ten_strays_are_said_once_in_ten_minutes():
    strays = Strays("requests", 2)
    said = [strays.look("ada", 0, T0 + n)[1] for n in range(30)]
    assert [n for n, one in enumerate(said) if one] == [9]
    assert said[9].kind == "strays"
    assert said[9].subject == "topic:requests"
    assert said[9].details == {"looked_at": 10, "strays": 10, "partitions": 2}
    again = [strays.look("ada", 0, T0 + 10 * MINUTE + n)[1] for n in range(30)]
    assert [n for n, one in enumerate(again) if one] == [9]


def test_where_accounts_belong_nothing_is_said_and_nine_by_hand_are_no_alert():
    strays = Strays("requests", 2)
    assert [strays.look("ada", 1, T0 + n) for n in range(100)] == [(False, None)] * 100
    assert [strays.look("ada", 0, T0 + n) for n in range(9)] == [(True, None)] * 9


def test_one_in_a_thousand_is_no_producer():
    strays = Strays("requests", 2)
    for n in range(20_000):
        assert strays.look("ada", 0 if n % 1000 == 999 else 1, T0 + n)[1] is None
