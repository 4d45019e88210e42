"""Metrics: what is declared, its reference page, and histograms fed by columns."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from sinks.catalogue import Catalogue
from sinks.metrics import Metrics
from streams.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"


def test_the_reference_page_is_that_of_the_code():
    assert CliRunner().invoke(main, ["metrics"]).stdout == PAGE.read_text(), "run: stillwatch metrics > docs/metrics.md"


def test_names_are_ours_and_end_in_their_unit():
    entries = Metrics(CollectorRegistry()).entries
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.name.startswith("stillwatch_"), entry
        assert entry.unit not in ("seconds", "bytes") or entry.name.endswith("_" + entry.unit), entry
        assert entry.meaning.endswith("."), entry


def test_what_is_exposed_is_what_was_declared():
    """Every sample is of the catalogue or of the process, every label value is declared and there from the start."""
    metrics = Metrics(CollectorRegistry())
    declared = {name: entry.labels for entry in metrics.entries for name in entry.samples}
    seen: dict[str, set[tuple[str, ...]]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name.startswith("process_") or sample.name.endswith("_created"):
                continue
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            assert set(labels) == set(declared[sample.name]), sample
            assert all(value in declared[sample.name][name] for name, value in labels.items()), sample
            seen.setdefault(sample.name, set()).add(tuple(labels.values()))
    assert set(seen) == set(declared)
    assert len(seen["stillwatch_verdicts_total"]) == 6 * 2


def test_no_label_names_a_subject():
    labels = {label for entry in Metrics(CollectorRegistry()).entries for label in entry.labels}
    assert not labels & {"account", "org", "key", "subject", "campaign", "value", "ip", "session"}


def test_a_column_counts_like_its_values_one_by_one():
    """0.1 lies on a bound and belongs below it, 7 is above all bounds, NaN is no value."""
    columns, one_by_one = CollectorRegistry(), CollectorRegistry()
    spread = Catalogue(columns).spread("tries", "tries", "Tries.", (0.1, 0.5, 1))
    histogram = Histogram("stillwatch_tries", "Tries.", buckets=(0.1, 0.5, 1), registry=one_by_one)
    for column in ([0.1, 0.2, 7.0], [], [0.0, 1.0]):
        spread.observe(np.array([*column, np.nan]))
        for value in column:
            histogram.observe(value)
    lines = [line for line in generate_latest(one_by_one).decode().splitlines() if "_created" not in line]
    assert generate_latest(columns).decode().splitlines() == lines
    assert columns.get_sample_value("stillwatch_tries_bucket", {"le": "0.1"}) == 2
    assert columns.get_sample_value("stillwatch_tries_count") == 5


def test_two_registries_share_nothing():
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.rebalances.inc(5)
    assert other.registry.get_sample_value("stillwatch_rebalances_total") == 0
