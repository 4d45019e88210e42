"""Watermarks: what is marked is found, what is not is not, and a p-value means what it says."""

import math
import subprocess
import sys
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway import find_mark
from gateway.detect import Mark, attribute, evidence, log10_tail
from gateway.dice import derived
from gateway.green import Green
from gateway.marking import FIELD, read, spelled
from gateway.marks import pairs
from gateway.tournament import Tournament

ROOT = Path(__file__).parents[1]
WORDS = 200
KINDS: dict[str, Callable[..., Mark]] = {"green": Green, "tournament": Tournament}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def key(subject: str) -> bytes:
    return derived("sixteen letters!", b"watermark", subject)


def logits_after(text: list[int]) -> NDArray[np.float64]:
    """A little language model: after each two tokens some of 200 words are likelier, about 5 bits a word."""
    dice = np.random.default_rng([WORDS, *text[-2:]])
    return dice.normal(0, 2, WORDS)


def written(mark: Mark | None, length: int, seed: int) -> list[int]:
    dice, text = np.random.default_rng(seed), [seed % WORDS, 1]
    while len(text) < length:
        logits = logits_after(text) if mark is None else mark.process(text, logits_after(text))
        text.append(int(np.argmax(logits + dice.gumbel(size=WORDS))))
    return text


@kinds
def test_a_marked_text_is_found_with_its_key_and_no_other(kind: Callable[..., Mark]) -> None:
    texts = [written(kind(key("campaign:c-1")), 150, seed) for seed in range(3)]
    found = attribute({name: kind(key(f"campaign:{name}")) for name in ("c-0", "c-1", "c-2")}, texts)
    assert found["c-1"].p_value < 1e-9
    assert min(found["c-0"].p_value, found["c-2"].p_value) > 1e-3


@kinds
def test_of_unmarked_texts_one_in_ten_has_a_p_value_below_a_tenth(kind: Callable[..., Mark]) -> None:
    text = [written(None, 200, 7)]
    values = [evidence(kind(key(f"campaign:{n}")), text).p_value for n in range(400)]
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert min(values) > 1e-5


@kinds
def test_what_is_repeated_counts_once(kind: Callable[..., Mark]) -> None:
    text = written(kind(key("x")), 100, 1)
    assert evidence(kind(key("x")), [text] * 50) == evidence(kind(key("x")), [text])


def test_pairs_are_the_different_runs_of_all_texts() -> None:
    assert pairs([[1, 2, 3, 1, 2, 3], [9], [], [1, 2, 4]], 2).tolist() == [[1, 2, 3], [1, 2, 4], [2, 3, 1], [3, 1, 2]]
    assert pairs([[1], []], 2).shape == (0, 3)


def test_known_contexts_alone_count_where_they_are_given() -> None:
    mark = Green(key("x"))
    assert evidence(mark, [[1, 2, 3, 4]], known=[[2, 3, 9]]).trials == 1
    assert evidence(mark, [[1, 2, 3, 4]], known=[[7, 8, 9]]) == (0, 0, 0.5, 0.0)


def test_a_green_mark_moves_logits_by_delta_or_not_at_all() -> None:
    moved = Green(key("x"), delta=1.5).process([1, 2, 3], np.zeros(10_000))
    assert set(moved) == {0.0, 1.5}
    assert (moved > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert (Green(key("x"), gamma=0.25).process([1, 2, 3], np.zeros(10_000)) > 0).mean() == pytest.approx(
        0.25, abs=0.02
    )


def test_a_tournament_changes_no_probability_over_all_keys() -> None:
    """Averaged over 4,000 keys each token keeps its probability, and with one key it does not."""
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    marked = np.array([np.exp(Tournament(key(str(n))).process([5, 6], logits)) for n in range(4_000)])
    assert np.allclose(marked.sum(axis=1), 1)
    assert marked.mean(axis=0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert np.abs(marked[0] - np.exp(logits)).max() > 0.1


def test_a_tournament_leaves_a_context_alone_that_comes_again() -> None:
    mark, logits = Tournament(key("x")), np.zeros(10)
    assert not np.allclose(mark.process([1, 2, 3, 4], logits), logits)
    assert (mark.process([3, 4, 1, 2, 3, 4], logits) == logits).all()


def test_a_tournament_foresees_the_temperature_of_whoever_samples() -> None:
    logits = np.array([2.0, 1.0, 0.0, -np.inf])
    cold = Tournament(key("x"), temperature=0.5).process([1, 2], logits) / 0.5
    assert cold == pytest.approx(Tournament(key("x")).process([1, 2], logits / 0.5))
    assert cold[3] == -np.inf


def test_of_a_large_vocabulary_the_likeliest_take_part_and_the_rest_stays() -> None:
    logits = np.linspace(0, 10, 5_000)
    marked = Tournament(key("x")).process([1, 2], logits)
    assert (marked[:3_900] == logits[:3_900]).all()
    assert np.exp(marked).sum() == pytest.approx(np.exp(logits).sum())


@kinds
def test_a_text_too_short_for_a_context_is_left_alone(kind: Callable[..., Mark]) -> None:
    logits = np.zeros(10, np.float32)
    assert kind(key("x")).process([1], logits) is logits
    assert kind(key("x")).process([1, 2], logits).dtype == np.float32
    assert evidence(kind(key("x")), [[1, 2], [3]]).log10_p == 0


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([Fraction(1, 2), Fraction(1, 4), Fraction(9, 10)]))
def test_the_p_value_is_exact(successes: int, more: int, chance: Fraction) -> None:
    trials = successes + more
    tail = sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes, trials + 1))
    assert log10_tail(successes, trials, float(chance)) == pytest.approx(math.log10(tail), abs=1e-9)


def test_p_values_below_what_a_float_holds_have_a_logarithm() -> None:
    assert log10_tail(100_000, 100_000, 0.5) == pytest.approx(100_000 * math.log10(0.5))
    assert log10_tail(500_500, 1_000_000, 0.5) == pytest.approx(math.log10(0.1588), abs=2e-3)  # z = 1


@pytest.mark.parametrize(("successes", "trials", "chance"), [(1, 0, 0.5), (-1, 5, 0.5), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_counts_are_refused(successes: int, trials: int, chance: float) -> None:
    with pytest.raises(ValueError, match="is not"):
        log10_tail(successes, trials, chance)


def test_a_mark_travels_as_text() -> None:
    logits = np.zeros(50)
    for kind, mark in (("green", Green(key("x"), delta=1.0)), ("tournament", Tournament(key("x")))):
        again = read(spelled(kind, key("x"), 0.5))
        assert (again.process([1, 2], logits) == mark.process([1, 2], logits)).all()


@pytest.mark.parametrize(
    "text", ["", "green", "green:zz:2", "green:00:2", f"green:{'0' * 64}:nan", f"red:{'0' * 64}:2"]
)
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=FIELD):
        read(text)


def test_the_command_names_the_campaign_whose_mark_texts_carry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, secret = tmp_path / "texts.jsonl", tmp_path / "secret"
    texts.write_text("".join(f"{written(Green(key('campaign:c-1')), 150, seed)}\n" for seed in range(3)))
    secret.write_text("sixteen letters!\n")
    command = [str(texts), "--secret-file", str(secret), "--subject", "campaign:c-0", "--subject", "campaign:c-1"]
    assert find_mark.main(command) == 0
    other, ours = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert (other[0], ours[0]) == ("campaign:c-0", "campaign:c-1")
    assert float(ours[1].removeprefix("p ")) < 1e-9 < 1e-3 < float(other[1].removeprefix("p "))
    assert find_mark.main([*command, "--served", str(texts), "--kind", "tournament"]) == 0


@pytest.mark.parametrize("line", ["[1, 2", '["a"]', "[-1]", "{}", "[1.5]"])
def test_a_line_that_is_no_text_is_refused_by_its_number(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text(f"[1, 2]\n\n{line}\n")
    (tmp_path / "secret").write_text("sixteen letters!")
    command = [str(tmp_path / "texts"), "--secret-file", str(tmp_path / "secret"), "--subject", "campaign:c"]
    assert find_mark.main(command) == 2
    assert "texts:3: not an array of token ids" in capsys.readouterr().err


TORCH = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from gateway.green import Green
from gateway.marking import Transformers
from gateway.tournament import Tournament
ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
for kind in (Green, Tournament):
    for dtype in (torch.float32, torch.bfloat16):
        scores = torch.zeros((2, 50), dtype=dtype)
        scores[0, 7] = float("-inf")
        told = Transformers(kind(b"k" * 32))(ids, scores)
        assert told.shape == (2, 50) and told.dtype == dtype and told[0, 7] == float("-inf")
        for row in (0, 1):
            expected = kind(b"k" * 32).process(ids[row].tolist(), scores[row].float().numpy())
            assert np.allclose(told[row].float().numpy(), expected, atol=0.02)
print("well")
"""


def test_it_works_on_torch_tensors() -> None:
    python = next((each for each in (sys.executable, "/usr/bin/python3") if _has_torch(each)), None)
    if python is None:
        pytest.skip("no torch: apt-get install python3-torch")
    done = subprocess.run([python, "-c", TORCH, str(ROOT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def _has_torch(python: str) -> bool:
    look = "import importlib.util as i, sys; sys.exit(not (i.find_spec('torch') and i.find_spec('numpy')))"
    return Path(python).exists() and subprocess.run([python, "-c", look], check=False).returncode == 0


class Tensor:
    """As much of torch's tensor as the marks use."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values

    def detach(self) -> "Tensor":
        return self

    float = cpu = detach

    def numpy(self) -> NDArray[np.float64]:
        return self.values

    def new_tensor(self, values: NDArray[np.float64]) -> "Tensor":
        return Tensor(values)


def test_vllm_finds_the_mark_of_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM takes 6 GB to install, so its adapter class is a stand-in here; `make vllm` has the real one."""
    interface = types.ModuleType("vllm.v1.sample.logits_processor")
    interface.AdapterLogitsProcessor = object  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.v1", "vllm.v1.sample"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    from gateway.vllm_marks import GreenMarks, TournamentMarks

    def params(text: object) -> Any:
        return types.SimpleNamespace(extra_args={FIELD: text})

    logits = np.arange(20.0)
    for kind, ours, theirs in (("green", GreenMarks, TournamentMarks), ("tournament", TournamentMarks, GreenMarks)):
        process = ours().new_req_logits_processor(params(spelled(kind, key("x"))))
        assert process is not None
        assert theirs().new_req_logits_processor(params(spelled(kind, key("x")))) is None
        told = process([8, 1], [2, 3], Tensor(logits)).values
        assert (told == read(spelled(kind, key("x"))).process([1, 2, 3], logits)).all()
        assert ours().new_req_logits_processor(types.SimpleNamespace(extra_args=None)) is None
        for wrong in ("green:zz", 3):
            with pytest.raises(ValueError, match=FIELD):
                ours.validate_params(params(wrong))
    assert (GreenMarks().is_argmax_invariant(), TournamentMarks().is_argmax_invariant()) == (False, True)
    monkeypatch.delitem(sys.modules, "gateway.vllm_marks")
