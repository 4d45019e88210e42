"""Operators at their terminal: explain, verdicts, feedback; on files, and on a broker with a pipeline behind it."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from brokers import Broker
from stories import DAY, HOUR, MINUTE, T0
from test_cli import refused, run
from test_hearing import caught, hear, said
from test_ladder import taken
from test_pipeline import harvest

from gateway.feedback import decode as decode_feedback
from gateway.verdict import decode
from sinks.audit import Chain
from sinks.enforcement import announcement
from sinks.policy import Decision, Policy
from streams import compacted, spoken, topics, trail
from streams.pipeline import Pipeline
from streams.settings import Settings

POLICY = Policy.load()


def decided() -> list[Decision]:
    """What was decided on the harvester eve until an operator lifted it."""
    pipeline = Pipeline(POLICY)
    decisions, _ = taken(pipeline, harvest())
    return decisions


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of it as a file, with a line of garbage in it."""
    chain = Chain("w")
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    lines = [chain.append(one) for one in decided()]
    path.write_bytes(b"\n".join([*lines, b"junk", b""]))
    return path


# --- explain ---


def test_explain_tells_why_what_is_typical_and_what_would_have_kept_it_away(audit):
    result = run("explain", "account:eve", "--audit", audit)
    assert result.exit_code == 0, result.output
    newest = decided()[-1].verdict
    lines = result.stdout.splitlines()
    assert lines[0].startswith("account:eve ")
    assert f"score {newest.score:.3f}, looks like chain-of-thought extraction; policy {POLICY.version}" in lines[1]
    assert lines[2].startswith(f"served so far: {newest.exposure.requests:,.0f} requests, ")
    for reason in newest.reasons:
        assert reason.text in result.stdout
        assert f"{reason.weight:+.2f}" in result.stdout
    assert "it would not stand there with any one of these:" in lines
    assert "before that:" in lines
    assert any("watch, score" in line for line in lines)


def test_a_customer_is_shown_words_and_neither_scores_nor_thresholds(audit):
    shown = run("explain", "eve", "--audit", audit, "--customer").stdout
    newest = decided()[-1].verdict
    assert shown.startswith("Account eve ")
    assert all(f"- {reason.text}" in shown for reason in newest.reasons)
    for secret in ("score", "weigh", POLICY.version, "begins at", f"{newest.score:.2f}"):
        assert secret not in shown


def test_explain_says_who_decided_when_people_did(tmp_path):
    pipeline, chain = caught(), Chain("w")
    lines = [chain.append(one) for one in hear(pipeline, said("confirmed"), said("lift", at=T0 + 2 * HOUR)).decisions]
    (tmp_path / "audit").write_bytes(b"\n".join(lines[:1]))
    shown = run("explain", "eve", "--audit", tmp_path / "audit").stdout
    assert "said by noor, 2026-01-01 01:00:00 UTC: confirmed, looked at it" in shown
    assert "a person decided so: only they, or its end, takes it back" in shown
    (tmp_path / "audit").write_bytes(b"\n".join(lines))
    shown = run("explain", "eve", "--audit", tmp_path / "audit").stdout
    assert shown.startswith("account:eve is free: allow since 2026-01-01 02:00:00 UTC\n")
    assert "degrade, score" in shown
    assert "confirmed by noor: looked at it" in shown


def test_explain_reads_another_policy_off_only_with_a_warning(audit, tmp_path):
    from sinks.policy import PACKAGED

    other = tmp_path / "other.toml"
    other.write_text(PACKAGED.read_text("utf-8").replace(POLICY.version, "other", 1), "utf-8")
    assert (
        f"policy {POLICY.version} decided, what follows is read off other"
        in run("explain", "eve", "--audit", audit, "--policy", other).stdout
    )


def test_who_is_not_in_the_audit_is_named(audit):
    result = run("explain", "mallory", "--audit", audit)
    assert result.exit_code == 1
    assert result.stderr == "stillwatch: the audit knows nothing of account:mallory\n"
    assert "No such file" in refused("explain", "eve", "--audit", "/nonexistent")
    assert "is no subject" in refused("explain", "account:", "--audit", audit)


# --- what can be said ---


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("feedback", "licensed", "ada"), "until: missing; licensed needs it"),
        (("feedback", "licensed", "ada", "--for", "3 days"), "--for 3 days: write a number and m, h or d"),
        (("feedback", "licensed", "ada", "--for", "0d"), "--for 0d: write a number"),
        (("feedback", "licensed", "ada", "--until", "soon"), "--until soon: write an instant such as"),
        (("feedback", "licensed", "ada", "--until", "2030-01-01"), "--until 2030-01-01: no time zone"),
        (("feedback", "licensed", "ada", "--until", "2001-01-01T00:00:00Z"), "is not after at"),
        (("feedback", "licensed", "ada", "--for", "1d", "--until", "2030-01-01"), "say either --until or --for"),
        (("feedback", "false_alarm", "ada", "--for", "1d"), "until: false_alarm takes none"),
        (
            ("feedback", "verified", "campaign:c-1"),
            "verified is said of accounts; of a campaign only false_alarm or lift",
        ),
        (("verdicts", "add", "ada", "suspend"), "until: missing; add needs it"),
        (("verdicts", "lift", "account:"), "is no subject"),
        (("verdicts", "lift", "a" * 600), "value"),
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(arguments, complaint):
    assert complaint in refused(*arguments, "--by", "noor", "--reason", "because", STILLWATCH_BROKERS="127.0.0.1:1")


@pytest.mark.parametrize(
    "command", [("feedback", "appeal", "a"), ("verdicts", "lift", "a"), ("verdicts", "add", "a", "watch")]
)
@pytest.mark.parametrize("given", ["--by", "--reason"])
def test_nothing_is_said_without_a_name_and_a_reason(command, given):
    result = run(*command, given, "x")
    assert result.exit_code == 2
    assert "Missing option" in result.stderr


def test_spans_and_instants_are_read():
    assert [spoken.end(None, span, T0) for span in ("30m", "6h", "90d")] == [
        T0 + 30 * MINUTE,
        T0 + 6 * HOUR,
        T0 + 90 * DAY,
    ]
    assert spoken.end("2026-01-01T01:00:00+01:00", None, 0) == T0
    assert spoken.end(None, None, T0) is None


def test_an_account_whose_name_has_a_colon_is_still_an_account():
    assert spoken.subject("org:12:ada") == ("account", "org:12:ada")
    assert spoken.subject("account:campaign:x") == ("account", "campaign:x")


# --- on a broker ---


async def _prepared(settings: Settings) -> None:
    """Topics with what was decided, as a worker leaves them."""
    await topics.create(settings)
    chain = Chain("w")
    async with settings.producer() as producer:
        for one in decided():
            key, value = announcement(one)
            await producer.send_and_wait(topics.AUDIT.name(settings), chain.append(one), key)
            # In the time of a test that runs years later a verdict of 2026 has expired.
            if value is not None:
                lasting = msgspec.structs.replace(decode(value), expires_at=2**45)
                await producer.send_and_wait(topics.ENFORCEMENT.name(settings), msgspec.json.encode(lasting), key)
        await producer.send_and_wait(topics.ENFORCEMENT.name(settings), b"junk", b"account:junk")
        await producer.send_and_wait(topics.ENFORCEMENT.name(settings), None, b"account:gone")


def test_what_an_operator_says_is_heard_and_what_is_in_force_is_seen(broker: Broker) -> None:
    environment = broker.environment()
    settings = Settings.read(environment)
    asyncio.run(_prepared(settings))

    listed = run("verdicts", "list", **environment)
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.rstrip().endswith("1 verdicts in force")
    (line,) = run("verdicts", "list", "--json", **environment).stdout.splitlines()
    assert decode(line.encode()).subject == "account:eve"
    assert run("verdicts", "list", "--action", "suspend", **environment).stdout == "0 verdicts in force\n"

    told = run("verdicts", "lift", "eve", "--by", "noor", "--reason", "their evaluation run", **environment)
    assert told.exit_code == 0, told.output
    assert told.stdout.endswith("what came of it: stillwatch explain account:eve\n")
    licence = ("feedback", "licensed", "account:eve", "--for", "90d", "--by", "noor", "--reason", "contract")
    assert run(*licence, **environment).exit_code == 0

    number = int(told.stdout.partition("partition ")[2].partition(",")[0])
    messages = asyncio.run(_all(settings, number))
    lifted, licensed = map(decode_feedback, messages)
    assert (lifted.kind, lifted.by, lifted.reason) == ("lift", "noor", "their evaluation run")
    assert licensed.until is not None
    assert licensed.until - licensed.at == 90 * DAY
    assert number == trail.partition_of(b"eve", settings.partitions)

    explained = run("explain", "eve", "--days", "400", **environment)
    assert explained.exit_code == 0, explained.output
    assert explained.stdout.startswith("account:eve ")


async def _all(settings: Settings, partition: int) -> list[bytes]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    name = topics.FEEDBACK.name(settings)
    tp = TopicPartition(name, partition)
    _, after = await compacted.ends(settings, name, settings.partitions)
    async with AIOKafkaConsumer(**settings.connection(), enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, 0)
        found: list[bytes] = []
        while len(found) < after[partition]:
            for records in (await consumer.getmany(tp, timeout_ms=1_000)).values():
                found += [record.value for record in records]
    return found


def test_without_topics_each_command_says_what_is_missing(broker: Broker) -> None:
    environment = broker.environment()
    for command in (("verdicts", "list"), ("verdicts", "lift", "a", "--by", "b", "--reason", "c"), ("explain", "a")):
        result = run(*command, **environment)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert environment["STILLWATCH_TOPIC_PREFIX"] in result.stderr
