"""Two policies before one stream: what they say otherwise, and who fares otherwise."""

import json
from pathlib import Path

import msgspec
import pytest
from half_hour import half_hour
from test_cli import refused, run

from gateway.request import encode
from sinks.policy import PACKAGED, Policy
from streams.comparison import Change, Met, changes, counts, met, rules_changed

POLICY = Policy.load()
TEXT = PACKAGED.read_text("utf-8")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "day.jsonl"
    path.write_bytes(b"".join(encode(one) + b"\n" for one in half_hour()))
    return path


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    """A policy under which nothing is enforced."""
    path = tmp_path / "quiet.toml"
    path.write_text(TEXT.replace(POLICY.version, "quiet", 1).replace('mode = "enforce"', 'mode = "shadow"', 1), "utf-8")
    return path


def test_the_same_policy_changes_nothing(recording):
    result = run("policy", "diff", "packaged", "packaged", recording)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("0 rules differ\n")
    assert result.stdout.endswith("0 subjects fare otherwise\n")


def test_who_fares_otherwise_is_listed_with_both_fates(recording, quiet):
    shown = run("policy", "diff", "packaged", quiet, recording).stdout
    before, after = (met(recording.read_bytes().splitlines(), one) for one in (POLICY, Policy.load(quiet)))
    (one,) = changes(before, after)
    assert one.subject == "account:harvester"
    assert one.before is not None
    assert one.after == one.before._replace(shadow=True)
    assert "account:harvester" in shown
    assert f"under quiet: {one.before.action} (shadow) 1" in shown
    assert "1 subjects fare otherwise" in shown
    assert "2 rules differ" in shown


def test_without_a_recording_only_the_rules_are_compared(quiet):
    shown = run("policy", "diff", "packaged", quiet).stdout
    assert shown.rstrip().endswith("2 rules differ")


def test_rules_are_named_by_their_place_and_rungs_by_their_action():
    rungs = tuple(
        msgspec.structs.replace(rung, score=0.9) if rung.action == "throttle" else rung for rung in POLICY.rungs
    )
    other = msgspec.structs.replace(POLICY, rungs=rungs, brake=None)
    found = {path: (was, now) for path, was, now in rules_changed(POLICY, other)}
    assert found["rungs[throttle].score"] == ("0.85", "0.9")
    assert found["brake.least"] == ("100", "")
    assert len(found) == 5


def test_harsher_fates_come_first_and_what_is_enforced_counts_above_any_shadow():
    watch, shadow, throttle = Met("watch", False, 1, 1), Met("suspend", True, 2, 2), Met("throttle", False, 3, 3)
    before = {"a": watch, "b": throttle, "c": watch, "d": watch}
    after = {"a": throttle, "b": shadow, "c": watch}
    assert changes(before, after) == [
        Change("a", watch, throttle),
        Change("b", throttle, shadow),
        Change("d", watch, None),
    ]
    assert counts(after) == {"suspend (shadow)": 1, "throttle": 1, "watch": 1}


def test_a_stream_that_cannot_be_played_twice_or_a_policy_that_is_wrong_is_refused(tmp_path, recording):
    assert "standard input cannot be played twice" in refused("policy", "diff", "packaged", "packaged", "-")
    assert "No such file" in refused("policy", "diff", "packaged", tmp_path / "none.toml")
    assert "No such file" in refused("policy", "diff", "packaged", "packaged", tmp_path / "none.jsonl")


def test_show_prints_the_packaged_policy_as_it_can_be_copied():
    assert run("policy", "show").stdout == TEXT


def test_show_as_json_prints_what_a_file_leaves_out(tmp_path):
    short = tmp_path / "short.toml"
    short.write_text(TEXT.partition("[timing]")[0], "utf-8")
    shown = json.loads(run("policy", "show", short, "--json").stdout)
    assert shown["timing"]["growth"] == 1.0
    assert shown["brake"] is None
    assert "did you mean" in refused("policy", "show", _broken(tmp_path))


def _broken(folder: Path) -> Path:
    path = folder / "broken.toml"
    path.write_text(TEXT.replace("jitter =", "jiter ="), "utf-8")
    return path
