"""Campaigns: accounts that behave as one are found, told to whoever watches them, and let go when they are cleared."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest
from brokers import Broker
from click.testing import CliRunner
from crowds import BEGINS, MEMBERS, POLICY, World, campaign, hydra, settled
from msgspec.structs import replace
from stories import DAY, HOUR, MINUTE, T0, Raw, request

from gateway.request import Request
from models.rarity import NAMES
from streams import compacted, topics
from streams.acquaintances import Acquaintances
from streams.campaigns import Campaigns
from streams.cli import main
from streams.links import LINK, REPORTS, UnreadableSightingsError, decode
from streams.settings import Settings
from streams.standing import decode as decode_standing


@pytest.fixture(scope="module")
def caught() -> World:
    return World().run([*settled(), *campaign()])


def test_a_campaign_and_its_members_are_met_and_nobody_else(caught: World) -> None:
    subjects = {one.verdict.subject for one in caught.decisions}
    accounts = {subject for subject in subjects if subject.startswith("account:")}
    assert accounts == {f"account:{name}" for name in MEMBERS}
    (found,) = subjects - accounts
    assert "throttle" in caught.actions(found)
    assert all("throttle" in caught.actions(subject) for subject in accounts)


def test_a_member_hears_which_campaign_and_what_it_shares(caught: World) -> None:
    verdict = next(
        one.verdict for one in caught.decisions if one.verdict.value == "eve3" and one.verdict.action == "throttle"
    )
    assert verdict.campaign in caught.campaigns.found
    assert "its accounts share rare traits" in " ".join(reason.text for reason in verdict.reasons)


def test_members_are_met_long_before_their_own_use_would_say_anything(caught: World) -> None:
    first = next(one.verdict for one in caught.decisions if one.verdict.value == "eve0")
    assert first.at < BEGINS + 2 * HOUR


def test_nine_tenths_of_cover_do_not_hide_what_the_shared_setup_takes() -> None:
    world = World().run([*settled(), *hydra()])
    (found,) = {one.verdict.value for one in world.decisions if one.verdict.scope == "campaign"}
    assert "throttle" in world.actions(f"campaign:{found}")
    assert world.members() <= {f"hal{number}" for number in range(40)}
    assert len(world.members()) >= 36
    reasons = {reason.signal: reason for reason in world.campaigns.found[found].reasons}
    assert reasons["harvest"].observed == pytest.approx(40, rel=0.2)  # of the extraction alone: 2,400 for 60


def test_who_shows_nothing_but_what_it_asks_for_is_told_by_the_manner_of_a_campaign() -> None:
    """Ten accounts leave out settings, prompts, place, card and organisation; so does a guest that asks
    otherwise. A job that asks like them tells its settings."""
    left_out = ("org", "payment", "ip", "opened_at", "client", "turns", "max_tokens", "temperature", "sketch")
    nothing = dict.fromkeys(left_out)
    hidden = [replace(one, account=f"hid{one.account}", id=f"x{one.id}", **nothing) for one in hydra(range(10), 12, 0)]
    guest = [
        replace(one, account="guest", id=f"g{one.id}", input_tokens=200, output_tokens=1_700)
        for one in hidden if one.account == "hidhal0"
    ]  # fmt: skip
    job = [
        replace(one, account="job", id=f"j{one.id}", max_tokens=3_000, temperature=None)
        for one in hidden if one.account == "hidhal1"
    ]  # fmt: skip
    world = World().run([*settled(), *hydra(range(40), 12, 0), *hidden, *guest, *job])
    assert {f"hidhal{number}" for number in range(10)} <= world.members()
    assert world.members() & {"guest", "job", *(f"ada{n}" for n in range(70))} == set()


def test_what_a_cleared_account_asked_before_ties_it_to_nobody() -> None:
    """Not by its manner, not by its topics: the others go on, and all are looked at again."""
    world = World().run([*settled(), *hydra(range(40), 12, 0)])
    world.say("false_alarm", "account", "hal3")
    rest = [one for one in hydra(range(40), 12, 0) if one.account != "hal3" and one.at < BEGINS + HOUR]
    later = world.campaigns.event_at - BEGINS + 2 * MINUTE
    world.run((replace(one, id=f"again-{one.id}", at=one.at + later) for one in rest), size=20)
    assert {"hal2", "hal4"} <= world.members()
    assert "hal3" not in world.members()


def test_accounts_that_are_left_and_replaced_once_they_are_held_back_do_not_make_it_look_harmless() -> None:
    """Forty accounts at one rate are held back; from then on each is left after some hours and replaced."""
    left = [
        hydra(range(40 * n + k, 40 * n + 40, 12), 1 + k, 0, BEGINS + n * 12 * HOUR, hourly=6)
        for n in range(1, 6) for k in range(12)
    ]  # fmt: skip
    world = World().run(
        [*settled(days=7.5), *hydra(range(40), 12, 0, hourly=6), *(one for some in left for one in some)]
    )
    (found,) = world.campaigns.found.values()
    assert "evenness" in {reason.signal for reason in found.reasons}
    actions = world.actions(f"campaign:{found.id}")
    assert set(actions[actions.index("throttle") :]) <= {"throttle", "verify", "degrade"}


def test_an_alert_tells_size_and_traits(caught: World) -> None:
    alert = next(alert for outcome in caught.said for alert in outcome.alerts)
    assert alert.kind == "campaign_found"
    assert alert.details["members"] == 12
    assert any("payment" in trait for trait in alert.details["traits"])  # type: ignore[union-attr]


def test_what_is_heard_twice_changes_nothing(caught: World) -> None:
    again = Campaigns(POLICY)
    for sighting in caught.sightings:
        again.process([sighting, sighting])
    assert again.known.table["trait"][: again.known.height].tolist() == (
        caught.campaigns.known.table["trait"][: again.known.height].tolist()
    )
    assert {account for account, _ in again.standings()} == set(MEMBERS)


def test_a_restored_agent_goes_on_where_the_other_was() -> None:
    world = World().run([*settled(), *campaign(hours=6)])
    other = Campaigns(POLICY)
    other.restore(world.campaigns.snapshot_dirty())
    other.restore_models(world.campaigns.snapshot_models())
    assert other.standings() == world.campaigns.standings()
    assert other.live() == world.campaigns.live()
    assert world.campaigns.snapshot_dirty() == []


@pytest.mark.parametrize(("layout", "hours", "requests"), [(1, 12, 116), (2, 6, 57)])
def test_what_an_earlier_release_stored_of_an_account_is_brought_up_to_date(
    layout: int, hours: float, requests: int
) -> None:
    """Layout 1 had fewer slots for settings, and profiles without strands; layout 2 knew of no bare questions."""
    stored = (Path(__file__).parent / "golden" / f"acquaintance.layout{layout}").read_bytes()
    known = Acquaintances(100)
    known.restore([("eve0", stored)])
    row = known.table[[known.find("eve0")]]
    assert row["campaign"] == 67_436_151_732_617
    assert row["profile"]["totals"][0, :3].tolist() == [requests, 60 * requests, 2_400 * requests]
    ties = known.ties(int(row["at"][0]), T0)
    fresh = World().run([*settled(), *campaign(hours=hours)]).campaigns.known
    again = fresh.ties(fresh.table["at"].max(), T0)
    own = again.account == fresh.find("eve0")
    kept = {"payment", "place", "settings", "signup", "debut"}
    assert kept <= {NAMES[kind] for kind in ties.kind}
    assert set(ties.trait.tolist()) <= set(again.trait[own].tolist())


def test_a_stored_account_of_no_known_layout_is_refused_by_name() -> None:
    known = Acquaintances(100)
    with pytest.raises(ValueError, match="'eve0': layout 99, which this release does not know"):
        known.restore([("eve0", (99).to_bytes(8, "little") + b"?" * 100)])


def test_a_newcomer_that_shares_with_a_live_campaign_is_met_at_its_first_requests() -> None:
    world = World().run([*settled(days=4.5), *campaign()])
    world.run([replace_at(one, one.at + 12 * HOUR) for one in campaign(["mallory", *MEMBERS[:2]], hours=0.6)], size=4)
    first = next(one.verdict for one in world.decisions if one.verdict.value == "mallory")
    assert first.action in {"throttle", "verify"}
    assert first.exposure is not None
    assert first.exposure.requests <= 3


def replace_at(one: Request, at: int) -> Request:
    return request(one.account, at, **{
        name: getattr(one, name) for name in one.__struct_fields__
        if name not in ("account", "at", "id", "sketch") and getattr(one, name) is not None
    } | {"id": f"{one.id}-late", "sketch": one.sketch})  # fmt: skip


def test_whom_somebody_clears_leaves_with_all_it_shared() -> None:
    world = World().run([*settled(), *campaign(hours=6)])
    world.say("lift", "account", "eve3")
    assert world.members() == set(MEMBERS) - {"eve3"}
    (name,) = world.campaigns.found
    world.say("lift", "campaign", name)
    assert world.members() == set()
    assert world.actions(f"campaign:{name}")[-1] == "allow"


def test_one_organisation_is_no_campaign() -> None:
    world = World().run([*settled(), *of_one_org(campaign(hours=6))])
    assert world.campaigns.found == {}


def of_one_org(requests: list[Request]) -> list[Request]:
    return [
        request(one.account, one.at, **{
            name: getattr(one, name) for name in one.__struct_fields__
            if name not in ("account", "at", "org") and getattr(one, name) is not None
        } | {"org": "acme"})
        for one in requests
    ]  # fmt: skip


def test_absent_fields_tie_nobody() -> None:
    world = World().run([*settled(), *campaign(hours=6, payment=None, ip=None, max_tokens=None)])
    kinds = {shared.kind for found in world.campaigns.found.values() for shared in found.shared}
    assert not kinds & {"payment", "place", "settings"}


def test_verdicts_end_with_their_time() -> None:
    world = World().run([*settled(), *campaign(hours=6)])
    later = world.campaigns.expire(BEGINS + 30 * DAY)
    assert [one.verdict.action for one in later.decisions] == ["allow"]
    assert {account for account, said in later.standings if said is None} == set(MEMBERS)
    assert world.campaigns.live() == []


def test_a_message_that_cannot_be_read_is_set_aside_and_costs_its_neighbours_nothing(caught: World) -> None:
    campaigns = Campaigns(POLICY)
    outcome = campaigns.process([Raw(b"\xffgarbage"), caught.sightings[0], Raw(None)])
    assert [(aside.reason, aside.record.value) for aside in outcome.unreadable] == [("not_sightings", b"\xffgarbage")]
    assert outcome.links > 0


@pytest.mark.parametrize("raw", [b"", b"\x91\x01", b"\x96\x02\x90\xc4\x00\xc4\x00\xc4\x00\xc4\x00"])
def test_what_is_no_message_says_why(raw: bytes) -> None:
    with pytest.raises(UnreadableSightingsError):
        decode(raw)


def test_a_link_is_told_once_a_day_and_a_prompt_sent_once_mostly_not_at_all() -> None:
    """Ninety requests, each with a prompt of its own; what stays the same is told once."""
    world = World().run(campaign(["eve"], hours=9), size=10)
    told = [decode(raw.value or b"") for raw in world.sightings]
    links = sum(len(one.links) for one in told)
    assert LINK.itemsize == 21
    assert links < 30
    assert sum(len(one.reported) for one in told) < 15  # at 10, 20, 30, 50, 80 requests or so


def test_of_many_accounts_in_one_batch_all_are_reported_whoever_sends_next() -> None:
    names = [f"eve{number:03}" for number in range(2 * REPORTS + 40)]
    world = World().run(campaign(names, hours=0.1), size=len(names))
    world.run([request("ada", BEGINS + n * HOUR, id=f"a{n}") for n in range(1, 4)], size=1)
    told = [decode(raw.value or b"") for raw in world.sightings]
    assert [len(one.reported) for one in told] == [REPORTS, REPORTS, 41, 1]
    assert {one.accounts[row] for one in told for row in one.reported.tolist()} == {*names, "ada"}


def test_a_standing_tells_what_the_campaign_earned(caught: World) -> None:
    standings = dict(caught.campaigns.standings())
    said = decode_standing(standings["eve0"] or b"")
    (found,) = (one for one in caught.campaigns.found.values() if one.rung)
    assert said.campaign == found.id
    assert said.until == found.until
    assert said.score <= found.score


async def test_campaigns_are_listed_shown_and_drawn_as_they_are_stored(embedded: Broker, tmp_path: Path) -> None:
    environment = embedded.environment()
    settings = Settings.read(environment)
    await topics.create(settings)
    world = World().run([*settled(), *campaign(hours=6)])
    rows = [(key.encode(), compacted.Kept(value, [])) for key, value in world.campaigns.snapshot_dirty()]
    async with settings.producer() as producer:
        await compacted.write(producer, topics.CAMPAIGNS.name(settings), 0, rows)

    def told(*arguments: str) -> str:
        result = CliRunner(env={**environment, "COLUMNS": "200"}).invoke(main, ["campaigns", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    (name,) = (one.id for one in world.campaigns.found.values() if one.rung)
    assert name in await asyncio.to_thread(told, "list")
    shown = await asyncio.to_thread(told, "show", name)
    assert "its accounts share rare traits" in shown
    assert "payment" in shown
    assert all(member in shown for member in MEMBERS)
    held = world.campaigns.shown_by(world.campaigns.found[name])
    assert set(held) == set(MEMBERS)
    # One card and one server: every member showed the same of each.
    assert len(set.intersection(*held.values())) >= 2
    if find_spec("matplotlib"):
        assert "drawn: " in await asyncio.to_thread(told, "show", name, "--picture", str(tmp_path / "c.svg"))
        assert "eve0" in (tmp_path / "c.svg").read_text() or "12 accounts" in (tmp_path / "c.svg").read_text()
    unknown = CliRunner(env=environment).invoke
    result = await asyncio.to_thread(lambda: unknown(main, ["campaigns", "show", "c0"]))
    assert result.exit_code == 2
    assert "no campaign 'c0'" in result.output
