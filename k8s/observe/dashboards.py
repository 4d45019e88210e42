"""Dashboards: the two pages of Grafana, as code.

`is it healthy?` is for whoever was woken, `what is it doing?` for whoever wants to know whether it does its job.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

WIDTH: Final = 24
"""Columns of Grafana's grid."""

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

BY: Final = 'namespace=~"$namespace"'
"""What every query is narrowed to."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture: queries with their legends, a unit of Grafana's, and a sentence for whoever does not know it."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"
    warn: float | None = None
    """From here on yellow."""
    alarm: float | None = None
    """From here on red."""
    width: int = 8
    height: int = 7
    stacked: bool = False

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel as Grafana stores it."""
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        steps += [{"color": "yellow", "value": self.warn}] * (self.warn is not None)
        steps += [{"color": "red", "value": self.alarm}] * (self.alarm is not None)
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
        options: dict[str, Any] = {}
        if self.kind == "timeseries":
            limits = "dashed" if len(steps) > 1 else "off"
            stacking = {"mode": "normal" if self.stacked else "none", "group": "A"}
            fill = 30 if self.stacked else 5
            defaults["custom"] = {
                "fillOpacity": fill, "lineWidth": 1, "stacking": stacking, "thresholdsStyle": {"mode": limits}
            }  # fmt: skip
            options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        elif self.kind == "stat":
            options = {"colorMode": "background", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
        elif self.kind == "heatmap":
            options = {
                "calculate": False,
                "yAxis": {"unit": self.unit},
                "color": {"scheme": "Oranges", "mode": "scheme"},
            }
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.text,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": options,
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "datasource": SOURCE,
                    "expr": expression,
                    "legendFormat": legend,
                    "format": "heatmap" if self.kind == "heatmap" else "time_series",
                }
                for place, (expression, legend) in enumerate(self.queries)
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A page: rows of panels, each row with a title."""

    uid: str
    title: str
    text: str
    rows: dict[str, list[Panel]] = field(default_factory=dict)

    @property
    def queries(self) -> Iterator[str]:
        """Every query of the page."""
        for panels in self.rows.values():
            for panel in panels:
                yield from (expression for expression, _ in panel.queries)

    def json(self) -> dict[str, Any]:
        """The page as Grafana imports it."""
        panels: list[dict[str, Any]] = []
        y = 0
        for title, row in self.rows.items():
            place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
            panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
            x, y = 0, y + 1
            for panel in row:
                if x + panel.width > WIDTH:
                    x, y = 0, y + panel.height
                panels.append(panel.json(len(panels) + 1, x, y))
                x += panel.width
            y += row[-1].height
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.text,
            "tags": ["stillwatch"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": [_SOURCE_CHOICE, _NAMESPACE_CHOICE]},
            "links": [{"type": "dashboards", "title": "Stillwatch", "tags": ["stillwatch"], "asDropdown": False}],
            "annotations": {"list": [_ALERTS]},
            "panels": panels,
        }


_SOURCE_CHOICE: Final = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}

_NAMESPACE_CHOICE: Final = {
    "name": "namespace",
    "label": "Namespace",
    "type": "query",
    "datasource": SOURCE,
    "query": {"query": "label_values(stillwatch_partitions, namespace)", "refId": "namespace"},
    "includeAll": True,
    # Also where nothing has a namespace.
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
    "refresh": 2,
}

_ALERTS: Final = {
    "name": "Alerts",
    "datasource": SOURCE,
    "enable": True,
    "iconColor": "red",
    "expr": 'ALERTS{alertname=~"Stillwatch.*",alertstate="firing"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{instance}}",
}


def _rate(metric: str, more: str = "", by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{BY}{more}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str = "") -> str:
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, {_rate(metric + '_bucket', by=grouped)})"


def _most(metric: str, by: str = "", more: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"max{grouped} ({metric}{{{BY}{more}}})"


def _sum(metric: str, by: str = "", more: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} ({metric}{{{BY}{more}}})"


_LATE: Final = (
    f'1 - sum (rate(stillwatch_request_delay_seconds_bucket{{{BY},le="1.0"}}[$__rate_interval]))'
    f" / sum (rate(stillwatch_request_delay_seconds_count{{{BY}}}[$__rate_interval]))"
)

_OURS: Final = f"and on (instance) stillwatch_memory_limit_bytes{{{BY}}}"
"""Of what every process has, only the workers'."""

HEALTH: Final = Dashboard(
    uid="stillwatch-health",
    title="Stillwatch: is it healthy?",
    text="Whether requests are judged, in time, and nothing is at risk. Every number is in docs/metrics.md.",
    rows={
        "At a glance": [
            Panel(title="Requests/s", kind="stat", width=3, height=4,
                  queries=[(_rate("stillwatch_requests_total"), "")]),
            Panel(title="Judged later than 1 s", queries=[(_LATE, "")], unit="percentunit", kind="stat",
                  warn=0.01, alarm=0.144, width=3, height=4, text="The promise is 1 % of a month."),
            Panel(title="Behind", queries=[(_most("stillwatch_lag_seconds"), "")], unit="s", kind="stat",
                  warn=30, alarm=300, width=3, height=4, text="How long the oldest request not processed waits."),
            Panel(title="Unreadable", unit="percentunit", kind="stat", warn=0.01, alarm=0.25, width=3, height=4,
                  queries=[(_rate("stillwatch_requests_total", ',outcome="unreadable"') + " / "
                            + _rate("stillwatch_requests_total"), "")]),
            Panel(title="Kafka silent for", queries=[(_most("stillwatch_kafka_silence_seconds"), "")], unit="s",
                  kind="stat", warn=30, alarm=60, width=3, height=4, text="Asked every five seconds."),
            Panel(title="Oldest not committed", queries=[(_most("stillwatch_checkpoint_age_seconds"), "")], unit="s",
                  kind="stat", warn=30, alarm=60, width=3, height=4, text="What a crash now would read again."),
            Panel(title="Partitions watched", queries=[(_sum("stillwatch_partitions", more=',state="restored"'), "")],
                  kind="stat", width=3, height=4, text="Must be all partitions of requests."),
            Panel(title="Alerts firing", kind="stat", alarm=1, width=3, height=4,
                  queries=[('count (ALERTS{alertname=~"Stillwatch.*",alertstate="firing"}) or vector(0)', "")]),
        ],
        "What arrives": [
            Panel(title="Requests by outcome", unit="reqps", stacked=True,
                  queries=[(_rate("stillwatch_requests_total", by="outcome"), "{{outcome}}")],
                  text="counted in a profile; repeated, held or blocked and so not counted; unreadable."),
            Panel(title="Unreadable by reason", unit="reqps", stacked=True,
                  queries=[(_rate("stillwatch_unreadable_requests_total", by="reason"), "{{reason}}")]),
            Panel(title="On a wrong partition", unit="percentunit", alarm=0.01,
                  queries=[(_rate("stillwatch_placed_requests_total", ',place="stray"') + " / "
                            + _rate("stillwatch_placed_requests_total"), "of those looked at")],
                  text="A producer uses another partitioner than murmur2: an account then has several profiles."),
        ],
        "Is it in time?": [
            Panel(title="From sent to judged", unit="s", warn=1,
                  queries=[(_quantile(0.5, "stillwatch_request_delay_seconds"), "half"),
                           (_quantile(0.99, "stillwatch_request_delay_seconds"), "99 of 100")]),
            Panel(title="From sent to verdict in Kafka", unit="s", warn=1,
                  queries=[(_quantile(0.5, "stillwatch_verdict_delay_seconds"), "half"),
                           (_quantile(0.99, "stillwatch_verdict_delay_seconds"), "99 of 100")]),
            Panel(title="Share judged later than 1 s", unit="percentunit", warn=0.06, alarm=0.144,
                  queries=[(f"stillwatch:late_requests:ratio_rate{span}{{{BY}}}", span)
                           for span in ("5m", "30m", "1h", "6h")],
                  text="At 14.4 % a month's allowance of 1 % is gone in two days, at 6 % in five."),
            Panel(title="How long the oldest waits", unit="s", warn=30, alarm=300,
                  queries=[(_most("stillwatch_lag_seconds", by="instance"), "{{instance}}")]),
            Panel(title="Requests that wait", unit="short", stacked=True,
                  queries=[(_most("stillwatch_lag_requests", by="instance"), "{{instance}}")],
                  text="Not processed. What is processed and not committed is not in it."),
            Panel(title="Newest request behind the clock", unit="s",
                  queries=[(f"min (stillwatch_event_lag_seconds{{{BY}}} > 0)", "by event time")],
                  text="From the gateway's receiving it. Includes the time that the answer took."),
        ],
        "Work": [
            Panel(title="Time of a micro-batch", unit="s",
                  queries=[(_quantile(0.99, "stillwatch_batch_seconds", by="instance"), "{{instance}} 99 of 100")]),
            Panel(title="Cores used", unit="short", alarm=1,
                  queries=[(f"rate(process_cpu_seconds_total[$__rate_interval]) {_OURS}", "{{instance}}")],
                  text="A worker uses little more than one."),
            Panel(title="Memory of what is allowed", unit="percentunit", warn=0.8, alarm=0.9,
                  queries=[(f"process_resident_memory_bytes / (stillwatch_memory_limit_bytes{{{BY}}} > 0)",
                            "{{instance}}")]),
            Panel(title="Records in a micro-batch", queries=[
                (_rate("stillwatch_batch_requests_sum") + " / " + _rate("stillwatch_batch_requests_count"), "mean")]),
            Panel(title="Accounts remembered", queries=[(_most("stillwatch_profiles", by="instance"), "{{instance}}")],
                  stacked=True),
            Panel(title="Starts in an hour", alarm=3, queries=[
                (f"changes(process_start_time_seconds[1h]) {_OURS}", "{{instance}}")]),
        ],
        "What is safe": [
            Panel(title="Oldest not committed", unit="s", alarm=60,
                  queries=[(_most("stillwatch_checkpoint_age_seconds", by="instance"), "{{instance}}")]),
            Panel(title="Time of a checkpoint", unit="s",
                  queries=[(_quantile(0.99, "stillwatch_checkpoint_seconds", "instance"), "{{instance}} 99 of 100")]),
            Panel(title="Waiting for Kafka to acknowledge", unit="s", alarm=20,
                  queries=[(_most("stillwatch_undelivered_seconds", by="topic"), "{{topic}}")]),
            Panel(title="Not taken by Kafka", unit="short", alarm=1, queries=[
                (f"sum by (topic) (increase(stillwatch_failed_deliveries_total{{{BY}}}[5m]))", "{{topic}}")]),
            Panel(title="Profiles stored", unit="short",
                  queries=[(_rate("stillwatch_stored_profiles_total", by="instance"), "{{instance}}")]),
            Panel(title="Requests not committed",
                  queries=[(_most("stillwatch_uncommitted_requests", by="instance"), "{{instance}}")], stacked=True),
        ],
        "Partitions": [
            Panel(title="Partitions", stacked=True,
                  queries=[(_sum("stillwatch_partitions", by="instance, state"), "{{instance}} {{state}}")]),
            Panel(title="Moved in a quarter of an hour", alarm=6,
                  queries=[(f"max (increase(stillwatch_rebalances_total{{{BY}}}[15m]))", "times")],
                  text="Each time all workers stop, drain and start again."),
            Panel(title="Restoring for", unit="s", alarm=180,
                  queries=[(_most("stillwatch_restoring_seconds", by="instance"), "{{instance}}")]),
            Panel(title="Time to restore a partition", unit="s",
                  queries=[(_quantile(0.99, "stillwatch_restore_seconds"), "99 of 100")]),
            Panel(title="Profiles restored", unit="short",
                  queries=[(_rate("stillwatch_restored_profiles_total", by="instance"), "{{instance}}")]),
        ],
    },
)  # fmt: skip

WORK: Final = Dashboard(
    uid="stillwatch-work",
    title="Stillwatch: what is it doing?",
    text="What it watches, what it thinks of it and what it decides. Every number is in docs/metrics.md.",
    rows={
        "At a glance": [
            Panel(title="Campaigns in force", kind="stat", width=3, height=4,
                  queries=[(_sum("stillwatch_campaigns"), "")]),
            Panel(title="Accounts remembered", kind="stat", width=3, height=4,
                  queries=[(_sum("stillwatch_profiles"), "")]),
            Panel(title="Verdicts in force", queries=[(_sum("stillwatch_live_verdicts"), "")], kind="stat", width=3,
                  height=4, text="watch included, which nobody feels."),
            Panel(title="Throttled or worse in an hour", kind="stat", width=3, height=4,
                  queries=[(f'sum (increase(stillwatch_verdicts_total{{{BY},mode="enforce",'
                            'action=~"throttle|verify|degrade|suspend"}[1h]))', "")]),
            Panel(title="In shadow in an hour", kind="stat", width=3, height=4,
                  queries=[(f'sum (increase(stillwatch_verdicts_total{{{BY},mode="shadow"}}[1h]))', "")],
                  text="What would have been decided."),
            Panel(title="Brakes pulled", kind="stat", alarm=1, width=3, height=4,
                  queries=[(_sum("stillwatch_braked_partitions"), "")],
                  text="Partitions on which too many would have been stopped at once: verdicts are only shadows."),
            Panel(title="Kept from being served", unit="reqps", kind="stat", width=3, height=4,
                  queries=[(_rate("stillwatch_requests_total", ',outcome="blocked"'), "")],
                  text="Requests that the serving tier refused because of a verdict."),
            Panel(title="Watched", unit="reqps", kind="stat", width=3, height=4,
                  queries=[(_rate("stillwatch_requests_total", ',outcome="counted"'), "")]),
        ],
        "What it decides": [
            Panel(title="Verdicts in five minutes, enforced", stacked=True, width=12, queries=[
                (f'sum by (action) (increase(stillwatch_verdicts_total{{{BY},mode="enforce"}}[5m]))', "{{action}}")],
                  text="New, renewed and lifted (allow) ones."),
            Panel(title="Verdicts in five minutes, in shadow", stacked=True, width=12, queries=[
                (f'sum by (action) (increase(stillwatch_verdicts_total{{{BY},mode="shadow"}}[5m]))', "{{action}}")]),
            Panel(title="Verdicts in force", width=12, stacked=True,
                  queries=[(_most("stillwatch_live_verdicts", by="instance"), "{{instance}}")]),
            Panel(title="Refused because of a verdict", unit="reqps", width=12,
                  queries=[(_rate("stillwatch_requests_total", ',outcome="blocked"'), "requests")]),
        ],
        "How strange it is": [
            Panel(title="Scores", kind="heatmap", unit="percentunit", width=12, height=8,
                  queries=[(f"sum by (le) (increase(stillwatch_scores_bucket{{{BY}}}[$__rate_interval]))", "{{le}}")],
                  text="Of the accounts that micro-batches touched. If all of it moves at once, look at drift."),
            Panel(title="Share of scores above", unit="percentunit", width=12, height=8,
                  queries=[(f'1 - sum (rate(stillwatch_scores_bucket{{{BY},le="{bound}"}}[$__rate_interval])) / '
                            f"sum (rate(stillwatch_scores_count{{{BY}}}[$__rate_interval]))", bound)
                           for bound in ("0.3", "0.7", "0.85", "0.93")],
                  text="The packaged policy throttles from 0.85 and asks to verify from 0.93."),
        ],
        "Campaigns": [
            Panel(title="Campaigns in force", queries=[(_sum("stillwatch_campaigns"), "campaigns")]),
            Panel(title="Accounts that belong to one", queries=[(_most("stillwatch_standings"), "accounts")]),
            Panel(title="Alerts in an hour", stacked=True, queries=[
                (f"sum by (kind) (increase(stillwatch_alerts_total{{{BY}}}[1h]))", "{{kind}}")]),
            Panel(title="Links taken in", queries=[(_rate("stillwatch_links_total"), "links/s"),
                                                   (_rate("stillwatch_reports_total"), "reports/s")],
                  text="Between accounts and what they share; accounts' profiles reported beside them."),
            Panel(title="How long the oldest link waits", unit="s", alarm=300,
                  queries=[(_most("stillwatch_lag_links_seconds"), "links")]),
            Panel(title="Accounts whose traits are known", queries=[(_sum("stillwatch_acquaintances"), "accounts")]),
        ],
        "What the unknown were served": [
            Panel(title="Requests and tokens", unit="short", queries=[
                (_rate("stillwatch_unverified_served_total", by="of"), "{{of}}/s")],
                  text="Accounts that nobody vouches for: neither verified nor licensed."),
            Panel(title="Budgets of an extraction within a day", queries=[
                (_most("stillwatch_unverified_budgets"), "budgets")],
                  text="What all of them together were served, in units of what a viable extraction would need."),
            Panel(title="List price in an hour", unit="currencyUSD", queries=[
                (f'sum (increase(stillwatch_unverified_served_total{{{BY},of="cost"}}[1h]))', "dollars")]),
        ],
        "What people say": [
            Panel(title="Feedback heard in an hour", stacked=True, width=12, queries=[
                (f"sum by (outcome) (increase(stillwatch_feedback_total{{{BY}}}[1h]))", "{{outcome}}")]),
            Panel(title="Policy read anew in an hour", stacked=True, width=12, queries=[
                (f"sum by (outcome) (increase(stillwatch_policy_reads_total{{{BY}}}[1h]))", "{{outcome}}")]),
        ],
        "Whom it watches": [
            Panel(title="Accounts remembered", queries=[(_sum("stillwatch_profiles"), "accounts")]),
            Panel(title="Forgotten in an hour", queries=[
                (f"sum (increase(stillwatch_forgotten_profiles_total{{{BY}}}[1h]))", "accounts")],
                  text="Silent for five weeks, or too many."),
            Panel(title="New accounts on a wrong partition in an hour", alarm=10, queries=[
                (f"sum (increase(stillwatch_stray_accounts_total{{{BY}}}[1h]))", "accounts")]),
        ],
    },
)  # fmt: skip

DASHBOARDS: Final = (HEALTH, WORK)
