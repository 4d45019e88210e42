"""Cues: what a prompt asks for, by name, found by careful patterns."""

import re
from typing import Final, NamedTuple


class Cue(NamedTuple):
    """One thing a prompt may ask for. It is weak evidence: honest people ask for all of it too."""

    meaning: str
    anchors: tuple[str, ...]
    """Lower-case texts of which one must occur before the pattern is tried, which costs far more."""
    pattern: str
    """A regular expression over lower-case text of collapsed white space; its gaps are bounded."""
    times: int = 1
    """So often the pattern must be found."""
    abroad: tuple[str, ...] = ()
    """Texts in other languages of which one suffices; looked for only outside of ASCII."""


CUES: Final[dict[str, Cue]] = {
    "answer_format": Cue(
        "asks for the final answer in a fixed form, as automatic graders need it",
        ("boxed", "final answer", "answer is"),
        r"\\boxed|\b(?:end|finish|conclude|answer|put|write|give|state|format)\b[^.?!]{0,60}"
        r"\b(?:final answer\b|the answer is\b)",
    ),
    "inline_tags": Cue(
        "asks for reasoning inside tags such as <think> or <reasoning>",
        ("<",),
        r"<(?:think|thinking|reasoning|thoughts?|scratchpad|analysis|cot)>",
    ),
    "json": Cue(
        "asks for the answer as JSON",
        ("json",),
        r"\b(?:in|as|valid|return|output|respond|only|produce|strict)\b[^.?!]{0,25}\bjson\b"
        r"|\bjson (?:object|format|array|schema|list|output)\b",
    ),
    "judge": Cue(
        "asks which of several answers is better",
        ("better", "best", "prefer", "winner", "worse"),
        r"\b(?:which|choose|pick|select|decide|judge|evaluate|compare|rank)\b[^.?!]{0,60}"
        r"\b(?:answers?|responses?|assistants?|completions?|candidates?)\b[^.?!]{0,60}"
        r"\b(?:better|best|preferred|preferable|winner|worse)\b"
        r"|\b(?:better|best|preferred) (?:answer|response|completion)\b",
    ),
    "rationale": Cue(
        "asks for the reasoning behind an answer that already exists",
        ("arrive", "reached", "led to", "leads to", "behind th", "came to", "got to", "justif"),
        r"\b(?:reasons?|reasoning|thought process|steps|thinking|rationale|how)\b[^.?!]{0,60}"
        r"\b(?:arrived? at|reached|leads? to|led to|behind|came to|got to)\b[^.?!]{0,40}"
        r"\b(?:answers?|solution|conclusion|results?|response|output)\b"
        r"|\bjustif(?:y|ication)\b[^.?!]{0,40}\b(?:answers?|solution|conclusion|results?)\b",
    ),
    "reasoning": Cue(
        "asks to write out the reasoning, step by step",
        ("step", "reasoning", "of thought", "of-thought", "thought process", "think", "work"),
        r"\bstep[ -]by[ -]step\b|\bchain[ -]of[ -]thought\b|\bthink (?:aloud|out loud)\b"
        r"|\bshow (?:your|all|the) (?:work|steps|reasoning|thinking)\b"
        r"|\b(?:show|write|explain|list|with)\b[^.?!]{0,20}"
        r"\b(?:all|every|each|intermediate) (?:\w+ )?steps?\b"
        r"|\b(?:show|explain|describe|write|provide|give|include|output|reveal|share|detail|lay|spell|present)\b"
        r"[^.?!]{0,60}\b(?:reasoning|thought process|thinking)\b",
        abroad=(
            *("paso a paso", "étape par étape", "schritt für schritt", "passo a passo", "шаг за шагом"),
            *("пошагово", "一步一步", "一步步", "逐步", "思考过程", "推理过程", "段階的に", "단계별로"),
            "ステップバイステップ",
        ),
    ),
    "rewrite": Cue(
        "asks to say a given text in other words",
        ("rewrite", "rephrase", "paraphrase", "reword"),
        r"\b(?:rewrite|rephrase|paraphrase|reword)\b",
    ),
    "rubric": Cue(
        "asks to grade something against a rubric or on a scale",
        ("rubric", "on a scale", "grad", "score", "criteria", "rate the", "rate this", "rate each"),
        r"\brubrics?\b|\bon a scale (?:of|from)\b|\bgrading (?:criteria|guidelines|scheme)\b"
        r"|\b(?:rate|score|grade|evaluate|assess)\b[^.?!]{0,80}"
        r"(?:\b[01] ?(?:-|to) ?(?:5|10|100)\b|\bout of (?:5|10|100)\b|/10\b)"
        r"|\b(?:grade|score|evaluate|assess)\b[^.?!]{0,60}"
        r"\b(?:according to|based on|against|using)\b[^.?!]{0,40}\bcriteria\b",
    ),
    "shots": Cue(
        "shows three or more worked examples before its question",
        ("answer:", "output:", "response:", "solution:", " a: "),
        r"\b(?:answer|output|response|solution|a): ",
        times=3,
    ),
    "synthesis": Cue(
        "asks to write prompts, questions or examples: material for training",
        ("prompts", "questions", "instructions", "problems", "examples", "samples", "dialogues", "synthetic"),
        r"\b(?:generate|create|write|produce|come up with|synthesi[sz]e|compose)\b[^.?!]{0,40}"
        r"\b(?:\d+|ten|twenty|fifty|hundred|diverse|multiple|several|more|new|similar|different)\b[^.?!]{0,30}"
        r"\b(?:prompts|questions|instructions|problems|examples|samples|dialogues)\b"
        r"|\bsynthetic (?:data|examples|dataset)\b",
    ),
}
"""Every cue by name. To add one, add an entry here and an example to the tests."""

_PATTERNS: Final = {name: re.compile(cue.pattern) for name, cue in CUES.items()}


def cues_in(text: str) -> frozenset[str]:
    """The names of the cues in `text`, which is lower case with its white space collapsed."""
    found = {name for name, cue in CUES.items() if any(map(text.__contains__, cue.anchors)) and _found(name, text)}
    if not text.isascii():
        found |= {name for name, cue in CUES.items() if any(map(text.__contains__, cue.abroad))}
    return frozenset(found)


def _found(name: str, text: str) -> bool:
    times = CUES[name].times
    if times == 1:
        return _PATTERNS[name].search(text) is not None
    return len(_PATTERNS[name].findall(text)) >= times
