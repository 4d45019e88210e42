"""Lag: how far behind, in requests and in seconds."""

from stories import MINUTE, SECOND, T0

from streams.engine.lag import Lag


def test_a_partition_worked_off_has_no_lag_whatever_its_age():
    lag = Lag(T0)
    lag.position, lag.sent_at = 10, T0
    lag.look(10, T0 + 60 * MINUTE)
    assert (lag.records, lag.seconds(T0 + 60 * MINUTE)) == (0, 0.0)


def test_a_request_after_an_idle_hour_has_waited_since_we_last_knew_of_none():
    lag = Lag(T0)
    lag.position, lag.sent_at = 10, T0
    lag.look(10, T0 + 60 * MINUTE)
    lag.look(11, T0 + 60 * MINUTE + 5 * SECOND)
    assert lag.records == 1
    assert lag.seconds(T0 + 60 * MINUTE + 7 * SECOND) == 7.0


def test_a_backlog_is_as_old_as_the_last_request_that_was_processed():
    """Taken on at T0 with 100 requests of the last ten minutes; 40 of them are processed by now."""
    lag = Lag(T0)
    lag.look(100, T0)
    assert (lag.records, lag.seconds(T0 + 3 * SECOND)) == (100, 3.0)  # of their age nothing is known yet
    lag.position, lag.sent_at = 40, T0 - 6 * MINUTE
    assert (lag.records, lag.seconds(T0 + 3 * SECOND)) == (60, 363.0)


def test_what_is_committed_is_processed_even_by_another_worker():
    lag = Lag(T0)
    lag.committed = 90
    lag.look(100, T0)
    assert (lag.records, lag.uncommitted) == (10, 10)
    lag.position = 100
    assert (lag.records, lag.uncommitted) == (0, 10)


def test_an_end_never_goes_back_and_a_clock_ahead_of_ours_is_no_negative_lag():
    lag = Lag(T0)
    lag.look(10, T0)
    lag.look(5, T0)
    lag.position, lag.sent_at = 3, T0 + 60 * MINUTE
    assert (lag.records, lag.seconds(T0)) == (7, 0.0)
