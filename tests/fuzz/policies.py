"""Policies: a file is refused with its place and what is wrong, or it decides whatever it is asked."""

import re
import warnings
from typing import Final

import numpy as np
from hypothesis import strategies as st

from gateway import verdict
from gateway.verdict import ACTIONS
from sinks.policy import PACKAGED, Policy, PolicyError
from tests.stories import T0

from .odd import WORDS, clear

TEXT: Final = PACKAGED.read_text("utf-8")

_VALUES: Final = st.one_of(
    st.sampled_from(
        (
            *("nan", "inf", "-inf", "0", "-1", "1", "0.5", "1e308", "1e-308", "-0.0", "true", '""', "[]", "{}", "''"),
            *(str(2**63), str(2**63 - 1), "9" * 5_000, "1_000", "0x10", "2026-01-01", "07:32:00"),
            *('"throttle"', '"suspend"', '"shadow"', '"allow"', "2026-01-01T00:00:00Z"),
            *("[" * 2_000, "[" * 500 + "]" * 500, '"' + "x" * 9_999 + '"'),
            *(f"{{ rpm = 20, {more} }}" for more in ("strength = nan", "x = inf", "'' = 1", "x = ''", "rpm = 1")),
            *("0001-01-01T00:00:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", '"\\u0000"'),
        )
    ),
    st.integers().map(str),
    st.floats().map(str),
    WORDS.map(lambda text: f"'{text}'"),
)  # fmt: skip
_LINE: Final = re.compile(r"^(\s*[A-Za-z_\".]+\s*=\s*)(\S.*)$")


@st.composite
def written(draw: st.DrawFn) -> str:
    """The packaged policy with a few lines changed, dropped, moved or made up."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("value", "value", "value", "drop", "double", "new", "swap"))):
            case "value":
                found = _LINE.match(lines[place])
                lines[place] = f"{found[1] if found else 'x = '}{draw(_VALUES)}"
            case "drop":
                lines[place] = ""
            case "double":
                lines.insert(place, lines[place])
            case "new":
                lines.insert(place, draw(st.sampled_from(_TABLES) | WORDS))
            case _:
                other = draw(st.integers(0, len(lines) - 1))
                lines[place], lines[other] = lines[other], lines[place]
    return "\n".join(lines)


_TABLES: Final = (
    "[[rungs]]", "[brake]", "[feedback.verified]", "[[exempt]]", "[exposure.crowd]", "[prices.models.'']", "[rungs]",
    "[[exempt]]\nscope = 'account'\nvalue = 'ada'\nuntil = 0001-01-01T00:00:00",
    "[[exempt]]\nscope = 'account'\nvalue = 'ada'\nuntil = 9999-12-31T23:59:59-23:59",
)  # fmt: skip
# A file is UTF-8, or refused before it is parsed: half a character never comes so far.
FILES: Final = (written() | st.text(max_size=200)).map(lambda text: text.encode("utf-8", "replace").decode())

_ODD: Final = np.array([np.nan, -np.inf, np.inf, -1.0, 0.0, 1e-300, 0.5, 1.0, 2.0, 1e300])


def policies(text: str) -> None:
    """A policy file, and what its policy makes of numbers that no detector gives."""
    try:
        policy = Policy.parse(text, "policy.toml")
    except PolicyError as error:
        clear(error, "policy.toml: ")
        return
    assert len(policy.rulings) == len(ACTIONS)
    for ruling in policy.rulings:
        said = verdict.Verdict(
            id="1", at=T0, seq=1, scope="account", value="ada", action=ruling.action, score=0.5, mode=ruling.mode,
            expires_at=T0 + ruling.seconds * 1_000, parameters=ruling.parameters, policy=policy.version, model="m",
        )  # fmt: skip
        assert verdict.decode(verdict.encode(said)) == said
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        yes = np.ones(len(_ODD), bool)
        for who in (yes, ~yes):
            rungs = policy.rungs_for(
                _ODD, np.abs(_ODD), _ODD, _ODD, np.zeros(len(_ODD), np.int8), who, ~who, np.clip(_ODD, 0, 1)
            )
            assert ((rungs >= 0) & (rungs < len(ACTIONS))).all()
            assert rungs[0] == 0, "no number, no rung"
            seconds = policy.seconds_for(rungs, np.abs(np.nan_to_num(_ODD)), np.full(len(_ODD), 0.5))
            assert (np.isfinite(seconds) & (seconds >= 0)).all()
            policy.budgeted(_ODD, _ODD, who, ~who)
            policy.counted(np.clip(np.nan_to_num(_ODD), 0, 1), who, ~who, 1e300)
        policy.strikes_left(np.arange(3.0), np.array([-1, 0, 2**53]))
        assert policy.exempts("account", "ada", T0) in (True, False)
        policy.prices.per_token(["", "x"])
