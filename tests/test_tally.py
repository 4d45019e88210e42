"""What was decided and for whom, counted."""

import msgspec
import pytest
from stories import request

from gateway.request import encode
from gateway.verdict import Exposure, Reason, Verdict
from sinks.policy import Decision
from streams.batch import SetAside
from streams.pipeline import Outcome
from streams.replay import Recorded, Step
from streams.simulate.accounts import Label
from streams.tally import LabelsError, Tally, groups_table, merged, read_labels, subjects_table


def verdict(account: str, action: str, *, served: float = 0, at: int = 1_000, mode: str = "enforce") -> Verdict:
    return Verdict(
        id=f"{account}-{at}",
        at=at,
        seq=1,
        scope="account",
        value=account,
        action=action,
        score=0.9,
        reasons=(Reason(signal="volume", weight=3.0, text="much [too] much"),),
        exposure=Exposure(requests=served, output_tokens=0, reasoning_tokens=0, cost=0, share_of_budget=0),
        expires_at=at + 60_000,
        mode=mode,
        policy="p",
        model="m",
    )


def step(*verdicts: Verdict, sent: tuple[str, ...] = (), junk: tuple[bytes, ...] = ()) -> Step:
    lines = [encode(request(account)) for account in sent]
    records = [Recorded(None, value, offset) for offset, value in enumerate([*lines, *junk])]
    return Step(
        0,
        records,
        Outcome(
            requests=len(sent),
            decisions=[Decision(one) for one in verdicts],
            unreadable=[SetAside(record, "not_json", "") for record in records[len(sent) :]],
        ),
    )


def truth(*rows: tuple[str, str, str]) -> dict[str, Label]:
    return {account: Label(account=account, label=label, kind=kind) for account, label, kind in rows}


def test_counts_of_a_replay_add_up():
    tally = Tally()
    tally.add(step(verdict("a", "watch"), sent=("a", "b"), junk=(b"x",)))
    tally.add(step(verdict("a", "allow"), verdict("b", "watch", mode="shadow"), sent=("a",)))
    report = tally.report()
    assert (report.requests, report.unreadable) == (3, {"not_json": 1})
    assert report.verdicts == {"enforce": {"watch": 1, "allow": 1}, "shadow": {"watch": 1}}
    assert report.groups is None


def test_a_subject_is_told_by_its_harshest_action_and_when_it_met_each():
    tally = Tally()
    tally.meet(verdict("a", "watch", served=10, at=1))
    tally.meet(verdict("a", "verify", served=50, at=2))
    tally.meet(verdict("a", "throttle", served=90, at=3))
    (subject,) = tally.report().subjects
    assert subject.action == "verify"
    # It was never throttled before it was asked to verify: from then on it was held at least as hard.
    assert {action: first.requests for action, first in subject.first.items()} == {
        "watch": 10,
        "throttle": 50,
        "verify": 50,
    }


def test_the_harshest_come_first_then_the_earliest():
    tally = Tally()
    for account, action, at in (("a", "watch", 1), ("b", "throttle", 9), ("c", "throttle", 5)):
        tally.meet(verdict(account, action, at=at))
    assert [subject.subject for subject in tally.report().subjects] == ["account:c", "account:b", "account:a"]


def test_an_action_from_the_future_counts_as_watch():
    tally = Tally()
    tally.meet(verdict("a", "banish"))
    assert tally.report().subjects[0].action == "watch"


def test_the_share_served_before_a_rung_is_of_all_that_the_group_sent():
    labels = truth(("a", "attack", "harvest"), ("b", "attack", "harvest"), ("c", "honest", "chat"))
    tally = Tally(labels)
    tally.add(step(sent=("a",) * 80 + ("b",) * 20 + ("c",) * 5, junk=(b'{"account":"c"}',)))
    tally.add(step(verdict("a", "throttle", served=30)))
    attack, honest = tally.report().groups
    assert (attack.label, attack.kind, attack.accounts, attack.requests) == ("attack", "harvest", 2, 100)
    assert attack.harshest == {"throttle": 1, "none": 1}
    # 30 of a's 80, and all 20 of b's; nobody was asked to verify.
    assert attack.served_before["watch"] == attack.served_before["throttle"] == pytest.approx(0.5)
    assert attack.served_before["verify"] == 1
    assert (honest.requests, honest.harshest) == (5, {"none": 1})


def test_an_account_without_a_label_is_not_lost():
    tally = Tally(truth(("a", "honest", "chat")))
    tally.add(step(sent=("a", "z")))
    assert [(group.label, group.accounts) for group in tally.report().groups] == [("honest", 1), ("unlabelled", 1)]


def test_a_label_sums_its_kinds():
    labels = truth(("a", "honest", "chat"), ("b", "honest", "batch"))
    tally = Tally(labels)
    tally.add(step(verdict("a", "watch", served=0), sent=("a",) * 30 + ("b",) * 10))
    (honest,) = merged(tally.report().groups)
    assert (honest.accounts, honest.requests, honest.harshest) == (2, 40, {"watch": 1, "none": 1})
    assert honest.served_before["watch"] == pytest.approx(0.25)


def test_tables_survive_markup_in_what_they_show():
    tally = Tally(truth(("[red]", "honest", "[/]")))
    tally.add(step(verdict("[red]", "throttle"), sent=("[red]",)))
    report = tally.report()
    assert subjects_table(report).row_count == 1
    assert groups_table(report.groups).row_count == 2


def test_labels_are_read_and_a_bad_line_is_named(tmp_path):
    path = tmp_path / "x.labels.jsonl"
    label = Label(account="a", label="attack", kind="harvest", scenario="harvest")
    path.write_bytes(msgspec.json.encode(label) + b"\n")
    assert read_labels(path) == {"a": label}
    path.write_bytes(msgspec.json.encode(label) + b'\n{"account":"b","label":"guilty","kind":"x"}\n')
    with pytest.raises(LabelsError, match="line 2: Invalid enum value 'guilty'"):
        read_labels(path)
    with pytest.raises(LabelsError, match="No such file"):
        read_labels(tmp_path / "none")
