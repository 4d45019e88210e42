"""A profile remembers the same, whatever the order and the split in which its requests came."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from stories import DAY, HOUR, SECOND, T0, records, request, sketch

from gateway.request import Request
from streams.batch import read
from streams.features import features
from streams.profiles import DISTINCT, LAYOUT, PROFILE, Profiles, observe
from streams.windows import Groups


def observed(*batches: Sequence[Request], profiles: Profiles | None = None) -> Profiles:
    """The profiles after some batches; every request costs a dollar."""
    profiles, offset = profiles or Profiles(), 0
    for requests in batches:
        batch, aside = read(records(requests, offset))
        assert not aside
        offset += len(requests)
        if batch is not None:
            groups = Groups.by(profiles.rows(batch.accounts))
            block = profiles.table[groups.rows]
            observe(block, batch, np.ones(len(batch)), groups)
            profiles.put(groups.rows, block)
    return profiles


def feature(profiles: Profiles, name: str, account: str = "ada") -> float:
    return float(features(profiles.table[profiles.rows([account])])[name][0])


def test_exposure_counts_every_request_exactly() -> None:
    profiles = observed([request(output_tokens=7), request("bob")], [request(at=T0 + DAY, reasoning_tokens=5)])
    # requests, input, output, reasoning, cost
    assert profiles.table["totals"][profiles.rows(["ada"])[0]].tolist() == [2, 200, 57, 5, 2]
    assert profiles.table["totals"][profiles.rows(["bob"])[0]].tolist() == [1, 100, 50, 0, 1]


def test_shares_are_of_all_requests() -> None:
    profiles = observed([request(finish="length"), request(top_logprobs=5, turns=1), request(choices=4), request()])
    for name in ("capped_share", "logprobs_share", "single_turn_share", "many_choices_share"):
        assert feature(profiles, name) == pytest.approx(0.25)


def test_an_answer_that_fills_max_tokens_is_capped() -> None:
    assert feature(observed([request(output_tokens=50, max_tokens=50)]), "capped_share") == 1
    assert feature(observed([request(output_tokens=50, max_tokens=51)]), "capped_share") == 0


def test_offering_tools_is_no_single_turn() -> None:
    assert feature(observed([request(turns=1, tools=3)]), "single_turn_share") == 0


def test_distinct_things_are_counted_and_absent_ones_unknown() -> None:
    profiles = observed([request(ip=f"10.0.0.{host % 12}", at=T0 + host) for host in range(100)])
    assert feature(profiles, "addresses") == pytest.approx(12, rel=0.25)
    assert np.isnan(feature(profiles, "networks"))


def test_what_is_not_seen_again_is_forgotten_after_two_weeks() -> None:
    early = [request(ip=f"10.0.0.{host}", at=T0 + host) for host in range(50)]
    assert feature(observed(early, [request(ip="10.1.1.1", at=T0 + 15 * DAY)]), "addresses") == pytest.approx(
        1, abs=0.1
    )


def test_a_day_awake_and_a_night_asleep() -> None:
    def seen(hours: Sequence[int]) -> Profiles:
        return observed([request(at=T0 + day * DAY + hour * HOUR) for day in range(7) for hour in hours])

    assert feature(seen(range(24)), "waking_share") == pytest.approx(1.0)
    assert feature(seen(range(8, 20)), "waking_share") == pytest.approx(7 * 12 / (6 * 24 + 12))


def test_topic_spread_tells_one_topic_from_many() -> None:
    one = [request(at=T0 + n, sketch=sketch(n, axis=3)) for n in range(40)]
    many = [request(at=T0 + n, sketch=sketch(n, axis=n)) for n in range(40)]
    assert feature(observed(one), "topic_spread") == pytest.approx(0, abs=1e-6)
    assert feature(observed(many), "topic_spread") == pytest.approx(1, abs=1e-6)
    assert np.isnan(feature(observed(one[:5]), "topic_spread"))


def test_four_repeats_of_each_prompt_show() -> None:
    repeated = [request(at=T0 + n, sketch=structs.replace(sketch(n // 4), chars=n // 4)) for n in range(160)]
    assert feature(observed(repeated), "text_repeats") == pytest.approx(4, rel=0.15)


def test_one_template_shows_as_many_texts_behind_one_prefix() -> None:
    # The first 256 characters stay; a slot behind them changes the topic a little.
    filled = [
        request(at=T0 + n, sketch=structs.replace(sketch(1), topic=bytes([127, n]) + bytes(62))) for n in range(60)
    ]
    assert feature(observed(filled), "texts") == pytest.approx(60, rel=0.15)
    assert feature(observed(filled), "template_share") > 0.95
    assert feature(observed(filled * 4), "text_repeats") == pytest.approx(4, rel=0.15)
    assert feature(observed([request(sketch=sketch(n)) for n in range(60)]), "template_share") < 0.3


def test_busy_hours_are_those_of_the_last_day_with_a_request_a_minute() -> None:
    busy = [request(at=T0 + hour * HOUR + n * SECOND) for hour in (0, 2, 3) for n in range(60)]
    calm = [request(at=T0 + hour * HOUR + n * SECOND) for hour in (1, 4) for n in range(59)]
    assert feature(observed(busy, calm), "busy_hours") == 3
    assert feature(observed(busy, calm, [request(at=T0 + 25 * HOUR)]), "busy_hours") == 2


def used(*models: tuple[float, float, str], daily: int = 240) -> float:
    """The pivot of an account that used each of some models at an even pace: (from day, to day, model)."""
    return feature(
        observed(
            *(
                [
                    request(at=T0 + int((start + n / daily) * DAY), model=model)
                    for n in range(round((end - start) * daily))
                ]
                for start, end, model in models
            )
        ),
        "pivot",
    )


@pytest.mark.parametrize("days", [2.0, 20.0])
def test_a_day_on_another_model_is_a_pivot_however_old_the_account_is(days: float) -> None:
    assert used((0, days, "old")) == 0
    # A day later the new model has 1 - 1/e of a decayed day.
    assert used((0, days, "old"), (days, days + 1, "the other")) == pytest.approx(0.65, abs=0.06)
    # Half of what it asks, as a campaign of 2026 did.
    half = (0, days + 1, "old"), (days, days + 1, "the other")
    assert used(*half) == pytest.approx(0.4, abs=0.1)


def test_models_used_side_by_side_from_the_first_day_or_for_long_are_no_pivot() -> None:
    assert used((0, 0.8, "old"), (0.4, 1.2, "the other")) == 0
    assert used((0, 9, "old"), (0, 9, "the other")) == 0
    assert used((0, 9, "old"), (3, 9, "the other")) == 0
    assert used((0, 9, "old"), (8.99, 9, "the other")) == 0, "two requests"


def test_the_plan_is_that_of_the_newest_request_which_names_one() -> None:
    def plan(*requests: Request) -> int:
        return int(observed(*([one] for one in requests)).table["plan"][0])

    free, pro = plan(request(plan="free")), plan(request(plan="pro"))
    assert 0 != free != pro != 0
    assert plan(request(plan="free"), request(at=T0 + 1, plan="pro"), request(at=T0 + 2)) == pro
    assert plan(request(at=T0 + 1, plan="pro"), request(plan="free")) == pro
    assert plan(request()) == 0


def test_what_is_asked_with_other_settings_is_kept_apart() -> None:
    bulk = [request(id=f"b{n}", max_tokens=16_384, input_tokens=60, output_tokens=2_000) for n in range(3)]
    chat = [request(id=f"c{n}", max_tokens=1_000, input_tokens=900, output_tokens=200) for n in range(9)]
    profiles = observed([*bulk, *chat, request(id="unset", output_tokens=5)])
    strands = profiles.table["strands"][0]
    assert sorted(strands[strands[:, 0] > 0].tolist()) == [[3, 180, 6_000], [9, 8_100, 1_800]]


def test_short_questions_with_long_answers_are_kept_apart() -> None:
    bare = [request(id=f"b{n}", input_tokens=60, output_tokens=2_000) for n in range(3)]
    others = [
        request(id="long", input_tokens=257, output_tokens=9_000),
        request(id="short", input_tokens=60, output_tokens=479),
        request(id="failed", input_tokens=0, output_tokens=0),
    ]
    assert observed([*bare, *others]).table["bare"][0].tolist() == [3, 180, 6_000]


def test_age_counts_from_the_oldest_known_opening() -> None:
    profiles = observed([request(opened_at=T0 - 3 * DAY)], [request(), request(opened_at=T0 - 2 * DAY)])
    assert feature(profiles, "age_days") == pytest.approx(3)
    assert np.isnan(feature(observed([request()]), "age_days"))


moments = st.integers(0, 30 * 24 * 60).map(lambda minutes: T0 + minutes * 60 * SECOND)
told = st.builds(
    lambda account, at, number, cues: request(
        account, at, output_tokens=number, model=f"m{number % 7}",
        ip=f"10.0.{number % 40}.1", client=f"c{number % 3}", turns=number % 4,
        opened_at=T0 - number, max_tokens=100 + number % 3 if number % 4 else None,
        sketch=sketch(number % 50, number % 2, number, cues) if number % 5 else None,
    ),
    st.sampled_from(["ada", "bob", "cyd"]), moments, st.integers(0, 500), st.sampled_from([(), ("reasoning",)]),
)  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(told, min_size=1, max_size=40),
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 40), max_size=3),
)
def test_any_order_and_any_split_give_the_same_profile(requests: list[Request], dice, cuts: list[int]) -> None:
    whole = observed(requests)
    shuffled = list(requests)
    dice.shuffle(shuffled)
    cuts = sorted(cut for cut in cuts if cut <= len(shuffled))
    split = observed(*(shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)))
    accounts = sorted({one.account for one in requests})
    ours, theirs = whole.table[whole.rows(accounts)], split.table[split.rows(accounts)]
    exact = ("at", "first_at", "opened_at", "minutes", "hours", *(f"{kind}_seen" for kind in DISTINCT))
    for name in exact:
        np.testing.assert_array_equal(ours[name], theirs[name], name)
    for name in ("volumes", "totals", "topic_weights"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for name in ("traits", "models", "strands", "bare"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)
    allowed = 1e-4 * ours["topic_weights"][:, :1] + 1e-12
    assert (np.abs(ours["topic"] - theirs["topic"]) <= allowed).all()


def test_a_stored_profile_comes_back_to_the_byte() -> None:
    profiles = observed([request(account, ip="1.1.1.1", sketch=sketch(3)) for account in ("ada", "bob", "cyd")])
    stored = profiles.changed()
    assert [account for account, _ in stored] == ["ada", "bob", "cyd"]
    assert profiles.changed() == []
    again = Profiles()
    again.restore(stored)
    assert again.table[again.rows(["cyd", "ada"])].tobytes() == profiles.table[profiles.rows(["cyd", "ada"])].tobytes()


def test_the_newest_of_two_stored_rows_wins() -> None:
    first = observed([request()]).changed()
    second = observed([request()], [request()]).changed()
    again = Profiles()
    again.restore([*first, *second])
    assert again.table["totals"][0, 0] == 2
    assert len(again) == 1


def test_a_row_of_another_layout_is_refused_never_misread() -> None:
    stored = observed([request("ada"), request("bob")]).changed()
    (account, row) = stored[1]
    assert row is not None
    with pytest.raises(ValueError, match=rf"account 'bob': layout {LAYOUT + 1}, which this release does not know"):
        Profiles().restore([stored[0], (account, bytes([LAYOUT + 1]) + row[1:])])
    with pytest.raises(ValueError, match=r"account 'bob': \d+ bytes"):
        Profiles().restore([stored[0], (account, row[:-1])])


def test_a_profile_fits_two_kibibytes_with_its_name() -> None:
    assert PROFILE.itemsize + 300 < 2_048


def test_the_table_grows_and_keeps_what_it_holds() -> None:
    profiles = observed([request(f"account-{n}") for n in range(2_000)])
    assert len(profiles) == 2_000
    assert (profiles.table["totals"][:2_000, 0] == 1).all()
    assert (profiles.table["offset"][2_000:] == -1).all()


def test_room_made_at_once_is_blank_and_what_is_there_stays() -> None:
    profiles = Profiles()
    profiles.reserve(1_000)
    assert len(profiles.table) == 1_000
    assert (profiles.table["offset"] == -1).all()

    again = observed([request("ada")])
    again.reserve(1_000)
    assert len(again.table) >= 1_000
    assert again.table["offset"][:2].tolist() == [0, -1]
    assert [account for account, _ in again.changed()] == ["ada"]


def test_an_account_silent_for_five_weeks_is_forgotten_with_a_tombstone() -> None:
    profiles = observed([request("ada"), request("bob", at=T0 + 20 * DAY)])
    profiles.changed()
    assert profiles.sweep(T0 + 36 * DAY) == 1
    assert "ada" not in profiles
    assert profiles.changed() == [("ada", None)]


def test_an_account_with_a_verdict_in_force_is_kept() -> None:
    profiles = observed([request("ada")])
    profiles.table["rung"][0] = 1
    assert profiles.sweep(T0 + 36 * DAY) == 0


def test_of_too_many_those_silent_for_longest_go_first() -> None:
    profiles = observed([request(f"account-{n}", at=T0 + n) for n in range(100)])
    profiles.most = 64
    assert profiles.sweep(T0 + DAY) == 40
    assert len(profiles) == 60
    assert "account-39" not in profiles
    assert "account-40" in profiles


def test_a_forgotten_account_that_returns_starts_anew_in_a_free_row() -> None:
    profiles = observed([request("ada"), request("bob", at=T0 + 20 * DAY)])
    profiles.sweep(T0 + 36 * DAY)
    row = profiles.rows(["ada"])
    assert profiles.height == 2
    assert profiles.table["totals"][row, 0].tolist() == [0]
    assert ("ada", None) not in profiles.changed()


def test_a_tombstone_removes_what_was_stored_before_it() -> None:
    stored = observed([request("ada"), request("bob")]).changed()
    again = Profiles()
    again.restore([*stored, ("ada", None)])
    assert "ada" not in again
    assert "bob" in again


def test_a_flood_of_strangers_washes_nobody_away_who_is_known() -> None:
    """Old hands are silent for longer than any of the strangers, and stay; memory is bounded all the while."""
    profiles = observed([request("old-hand", at=T0 + n, id=str(n)) for n in range(16)])
    profiles.most = 1_024
    for flood in range(50):
        observed([request(f"stranger-{flood}-{n}", at=T0 + DAY + flood) for n in range(500)], profiles=profiles)
        profiles.sweep(T0 + DAY + flood)
        assert len(profiles) <= 1_024
    assert "old-hand" in profiles
    assert profiles.height < 2_048
    assert len(profiles.table) < 8_192
