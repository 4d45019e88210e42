"""The command: what it prints, what it writes, and how it refuses."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from aiokafka import AIOKafkaConsumer
from brokers import Broker
from click.testing import CliRunner, Result
from half_hour import LABELS, half_hour
from stories import T0, request

from gateway.request import decode as decode_request
from gateway.request import encode
from gateway.verdict import decode
from sinks.policy import PACKAGED
from streams import topics
from streams.cli import main
from streams.settings import Settings
from streams.simulate.output import write_labels


def run(*arguments: object, stdin: bytes = b"", **variables: str) -> Result:
    return CliRunner().invoke(main, [str(word) for word in arguments], input=stdin, env=variables)


def refused(*arguments: object, **variables: str) -> str:
    """Standard error of a command that the caller has to mend: one line, no traceback, status 2."""
    result = run(*arguments, **variables)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("stillwatch: ")
    return result.stderr.removeprefix("stillwatch: ").rstrip("\n")


def line(number: int) -> bytes:
    return encode(request(at=T0 + number)) + b"\n"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour as a file, its labels beside it."""
    path = tmp_path_factory.mktemp("recording") / "day.jsonl"
    path.write_bytes(b"".join(encode(one) + b"\n" for one in half_hour()))
    write_labels(LABELS, path)
    return path


# --- replay ---


def test_the_same_recording_gives_the_same_bytes(recording, tmp_path):
    outputs = []
    for turn in ("first", "second"):
        verdicts, report = tmp_path / f"{turn}.jsonl", tmp_path / f"{turn}.json"
        labels = recording.with_name("day.labels.jsonl")
        result = run("replay", recording, "--verdicts", verdicts, "--report", report, "--labels", labels)
        assert result.exit_code == 0, result.output
        outputs.append((verdicts.read_bytes(), report.read_bytes()))
    assert outputs[0] == outputs[1]
    verdicts, report = outputs[0]
    assert verdicts
    assert json.loads(report)["groups"]


def test_verdicts_are_written_in_event_time(recording, tmp_path):
    out = tmp_path / "verdicts.jsonl"
    run("replay", recording, "--verdicts", out)
    at = [json.loads(one)["at"] for one in recording.read_bytes().splitlines()]
    verdicts = [decode(one) for one in out.read_bytes().splitlines()]
    assert verdicts
    assert all(min(at) <= verdict.at <= max(at) for verdict in verdicts)


def test_in_shadow_mode_every_verdict_is_marked(recording, tmp_path):
    policy, out = tmp_path / "shadow.toml", tmp_path / "verdicts.jsonl"
    policy.write_text(PACKAGED.read_text("utf-8").replace('mode = "enforce"', 'mode = "shadow"'), "utf-8")
    result = run("replay", recording, "--policy", policy, "--verdicts", out)
    assert {decode(one).mode for one in out.read_bytes().splitlines()} == {"shadow"}
    assert "(shadow)" in result.stdout


def test_lines_that_cannot_be_read_are_counted_and_kept(tmp_path):
    junk = [b"not json", b'{"id": "x"}', b"\xff\x00\xfe"]
    kept = tmp_path / "unreadable"
    result = run("replay", "-", "--unreadable", kept, stdin=line(1) + b"\n".join(junk) + b"\n" + line(2))
    assert result.exit_code == 0
    assert kept.read_bytes() == b"\n".join(junk) + b"\n"
    assert "2 requests in" in result.stdout
    assert "3 lines could not be read (" in result.stdout


def test_nothing_but_junk_ends_well(tmp_path):
    result = run("replay", "-", stdin=b"junk\n" * 5_000)
    assert result.exit_code == 0
    assert "5,000 lines could not be read (not_json 5,000)" in result.stdout


def test_partitions_split_accounts_and_lose_none(recording):
    one, four = run("replay", recording), run("replay", recording, "--partitions", 4)
    assert one.stdout.splitlines()[-3].split()[0] == four.stdout.splitlines()[-3].split()[0]
    assert one.stdout.splitlines()[-2].split()[0] == four.stdout.splitlines()[-2].split()[0]


def test_a_recording_that_is_not_there_is_named(tmp_path):
    assert refused("replay", tmp_path / "none.jsonl") == f"{tmp_path}/none.jsonl: No such file or directory"


def test_a_recording_is_never_written_over(recording):
    before = recording.read_bytes()
    assert "is read and cannot be written" in refused("replay", recording, "--verdicts", recording)
    assert recording.read_bytes() == before


def test_a_recording_cut_short_fails_after_telling_how_far_it_came(tmp_path):
    path = tmp_path / "short.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00")
    result = run("replay", path)
    assert result.exit_code == 1
    assert "short.gz" in result.stderr
    assert "after 0 requests" in result.stderr


def test_an_output_that_cannot_be_written_is_named(recording, tmp_path):
    assert "No such file" in refused("replay", recording, "--report", tmp_path / "none" / "report.json")


def test_a_wrong_policy_is_refused_before_anything_runs(recording, tmp_path):
    (tmp_path / "policy.toml").write_text(PACKAGED.read_text("utf-8").replace("leave =", "leaves ="), "utf-8")
    message = refused("replay", recording, "--policy", tmp_path / "policy.toml")
    assert message == 'policy.toml: unknown field "leaves" in rungs[0]; did you mean "leave"?'


def test_wrong_labels_are_refused(recording, tmp_path):
    (tmp_path / "labels").write_bytes(b"junk\n")
    assert "line 1" in refused("replay", recording, "--labels", tmp_path / "labels")


# --- simulate ---


def test_a_simulated_stream_has_its_labels_beside_it(tmp_path):
    out = tmp_path / "s.jsonl.gz"
    result = run("simulate", "--out", out, "--accounts", 5, "--days", 0.1, "--scenario", "none")
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "s.labels.jsonl").read_bytes().splitlines()) == 5
    assert run("replay", out).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "either --out FILE or --rate"),
        (("--out", "x", "--rate", "1"), "either --out FILE or --rate"),
        (("--out", "x", "--minutes", "1"), "--minutes needs --rate"),
        (("--rate", "9", "--minutes", "1", "--days", "2"), "--days does not go with --minutes"),
        (("--out", "x", "--scenario", "harvst"), "unknown scenario harvst; known: harvest"),
        (("--out", "x", "--traces", ".", "--accounts", "3"), "--accounts does not go with --traces"),
        (("--out", "/nonexistent/x", "--accounts", "1", "--days", "0.01"), "No such file"),
        (("--out", "x", "--traces", "/nonexistent"), "No such file"),
    ],
)
def test_simulate_says_what_it_needs(arguments, complaint):
    with CliRunner().isolated_filesystem():
        assert complaint in refused("simulate", *arguments)


async def test_a_simulated_day_may_end_now(embedded: Broker) -> None:
    """Three seconds in which a whole day passes, up to now."""
    environment = embedded.environment()
    settings = Settings.read(environment)
    await topics.create(settings)
    began = time.time()
    result = await asyncio.to_thread(
        lambda: run("simulate", "--rate", 600, "--minutes", 0.05, "--scenario", "none", **environment)
    )
    assert result.exit_code == 0, result.output
    count = int(result.stdout.split()[0].replace(",", ""))
    topic = topics.REQUESTS.name(settings)
    found = []
    async with AIOKafkaConsumer(topic, **settings.connection(), auto_offset_reset="earliest") as consumer:
        while len(found) < count:
            found.append(decode_request((await consumer.getone()).value).at / 1_000)
    assert began - 86_400 <= min(found) < began - 43_200
    assert began - 3_600 < max(found) <= time.time()


# --- the small ones ---


@pytest.mark.parametrize("part", ["request", "verdict", "feedback", "asyncapi"])
def test_schema_prints_json(part):
    assert json.loads(run("schema", part).stdout)


def test_the_schema_printed_fits_a_request():
    schema = json.loads(run("schema", "request").stdout)
    jsonschema.validate(json.loads(line(1)), schema)


def test_the_packaged_policy_is_sound():
    result = run("policy", "check")
    assert result.exit_code == 0
    assert "throttle" in result.stdout


def test_a_policy_is_refused_with_its_place(tmp_path):
    (tmp_path / "p.toml").write_text(PACKAGED.read_text("utf-8").replace("score = 0.93", "score = 1.4"), "utf-8")
    assert refused("policy", "check", tmp_path / "p.toml") == "p.toml: rungs[2].score: 1.4 is not between 0 and 1"


def test_settings_are_printed_with_secrets_masked():
    result = run(
        "settings",
        STILLWATCH_SECURITY="SASL_SSL",
        STILLWATCH_SASL_USER="watcher",
        STILLWATCH_SASL_PASSWORD="hunter2",
    )
    assert result.exit_code == 0
    assert "watcher" in result.stdout
    assert "hunter2" not in result.stdout


@pytest.mark.parametrize("command", [("settings",), ("worker",), ("topics", "check"), ("topics", "create")])
def test_an_unknown_setting_is_refused_by_all_that_read_settings(command):
    assert "did you mean STILLWATCH_BROKERS?" in refused(*command, STILLWATCH_BROKER="x")


@pytest.mark.parametrize("command", [("worker",), ("topics", "check"), ("topics", "create")])
def test_a_kafka_that_does_not_answer_is_named(command):
    # Port 9 (discard) is closed on every machine that tests run on.
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *command],
        env={"STILLWATCH_BROKERS": "127.0.0.1:9"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert b"127.0.0.1:9" in done.stderr
    assert b"Traceback" not in done.stderr


def test_help_is_quick_and_loads_nothing_heavy():
    check = "import sys, streams.cli; assert not {'numpy', 'faust', 'aiokafka', 'msgspec', 'rich'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_version_and_help_answer():
    assert run("--version").stdout.startswith("stillwatch ")
    assert "replay" in run("--help").stdout
