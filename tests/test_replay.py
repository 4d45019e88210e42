"""Recorded requests through the pipeline: how they are cut, and that nothing stops it."""

import gzip
from pathlib import Path

import msgspec
import pytest
import zstandard
from aiokafka.partitioner import murmur2
from stories import T0, request

from gateway.request import encode
from sinks.policy import Policy
from streams.pipeline import Pipeline
from streams.replay import Recorded, Recording, RecordingError, account_of, replay

POLICY = Policy.load()


def line(number: int, at: int | None = None, account: str = "a") -> bytes:
    return encode(request(account, T0 + number if at is None else at, id=f"{account}-{number}"))


def steps(lines: list[bytes], partitions: int = 1):
    return list(replay(lines, [Pipeline(POLICY) for _ in range(partitions)]))


def sizes(lines: list[bytes]) -> list[int]:
    return [len(step.records) for step in steps(lines)]


def test_nothing_gives_nothing():
    assert steps([]) == []
    assert steps([b"\n", b"\r\n"]) == []


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (999, [999]), (1_000, [1_000]), (1_001, [1_000, 1])])
def test_a_batch_closes_at_a_thousand_records(count, expected):
    assert sizes([line(number) for number in range(count)]) == expected


def test_a_batch_closes_when_a_minute_has_passed():
    at = [0, 59_999, 60_000, 119_999, 120_000]
    assert sizes([line(number, T0 + ms) for number, ms in enumerate(at)]) == [2, 2, 1]


def test_a_late_line_does_not_close_a_batch():
    assert sizes([line(0), line(1, T0 - 3_600_000), line(2)]) == [3]


def test_every_readable_request_counts_once_in_any_order():
    lines = [line(number, T0 + number * 1_000, f"account-{number % 7}") for number in range(3_000)]
    for order in (lines, lines[::-1], lines[1::2] + lines[::2]):
        assert sum(step.outcome.requests for step in steps(order)) == 3_000


def test_lines_that_cannot_be_read_are_set_aside_and_stop_nothing():
    junk = [
        b"not json",
        b"\xff\xfe",
        b"{}",
        b"[" * 5_000,
        line(0).replace(b'"output_tokens":50', b'"output_tokens":-1'),
    ]
    done = steps([line(1), *junk, line(2)])
    assert sum(step.outcome.requests for step in done) == 2
    assert [aside.record.value for step in done for aside in step.outcome.unreadable] == junk


def test_nothing_but_junk_is_no_reason_to_stop():
    done = steps([b"junk"] * 2_500)
    assert [len(step.outcome.unreadable) for step in done] == [1_000, 1_000, 500]


def test_accounts_go_where_a_producer_would_send_them():
    lines = [line(number, account=f"account-{number % 50}") for number in range(500)]
    done = steps(lines, partitions=4)
    assert {step.partition for step in done} == {0, 1, 2, 3}
    for step in done:
        for record in step.records:
            account = account_of(record.value)
            assert (murmur2(account.encode()) & 0x7FFFFFFF) % 4 == step.partition


def test_offsets_rise_by_one_in_each_partition():
    done = steps([line(number, account=f"account-{number % 50}") for number in range(2_000)], partitions=3)
    for partition in range(3):
        offsets = [record.offset for step in done if step.partition == partition for record in step.records]
        assert offsets == list(range(len(offsets)))


@pytest.mark.parametrize(
    ("raw", "account"),
    [
        (b'{"account":"a"}', "a"),
        (b'{"account":"\\u00e9","at":"never"}', None),
        (b'{"account":"\\u00e9","meta":{"account":"b"}}', "\u00e9"),
        (b'{"account":7}', None),
        (b"junk", None),
        (b"", None),
    ],
)
def test_the_account_of_a_line_is_the_one_it_names_itself(raw, account):
    assert account_of(raw) == account


# --- files ---

LINES = [line(number) for number in range(100)]
PLAIN = b"".join(one + b"\n" for one in LINES)


def written(folder: Path, name: str) -> Path:
    path = folder / name
    half = len(PLAIN) // 2
    content = {
        ".jsonl": PLAIN,
        ".gz": gzip.compress(PLAIN[:half]) + gzip.compress(PLAIN[half:]),
        ".zst": zstandard.compress(PLAIN[:half]) + zstandard.compress(PLAIN[half:]),
    }[path.suffix]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.jsonl.zst"])
def test_compressed_or_not_the_lines_are_the_same(tmp_path, name):
    recording = Recording([written(tmp_path, name)])
    assert [one.rstrip(b"\n") for one in recording] == LINES
    assert recording.position == recording.total


def test_files_follow_each_other(tmp_path):
    paths = [written(tmp_path, "a.jsonl"), written(tmp_path, "b.gz")]
    assert len(list(Recording(paths))) == 200


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere\.jsonl: No such file"):
        Recording([tmp_path / "nowhere.jsonl"])


@pytest.mark.parametrize("name", ["r.gz", "r.zst"])
def test_a_file_cut_short_is_named_after_what_could_be_read(tmp_path, name):
    path = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-20])
    seen = []
    with pytest.raises(RecordingError, match=path.name):
        seen.extend(Recording([path]))


def test_a_file_that_is_not_compressed_at_all_is_named(tmp_path):
    for name in ("r.gz", "r.zst"):
        (tmp_path / name).write_bytes(PLAIN)
        with pytest.raises(RecordingError, match=name):
            list(Recording([tmp_path / name]))


def test_a_recorded_line_has_no_time_of_the_broker():
    assert msgspec.structs.astuple(Recorded(None, b"x", 3)) == (None, b"x", 3, -1)
