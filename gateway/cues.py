"""Cues: what a prompt asks for, by name, found by careful patterns."""

import re
import string
from typing import Final, NamedTuple

LOOKED_AT: Final = 2_000
"""So many characters from each end of a text are searched: what is asked stands there, the middle is material."""

GAP: Final = 60
"""Words of a chain stand at most so many characters apart."""


class Cue(NamedTuple):
    """One thing a prompt may ask for. It is weak evidence: honest people ask for all of it too.

    No expression in it may have a gap or a capturing group: then the cost is linear, whatever an attacker writes.
    """

    meaning: str
    words: str
    """Words of which one must occur before anything else is tried, which costs far more."""
    phrases: str = ""
    """A regular expression over lower-case text of collapsed white space."""
    chains: tuple[tuple[str, ...], ...] = ()
    """Expressions for words that follow each other in one sentence."""
    times: int = 1
    """So often `phrases` must be found."""
    abroad: tuple[str, ...] = ()
    """Texts in other scripts of which one suffices; looked for only outside of ASCII."""


_TELL: Final = "show|explain|describe|write|provide|give|include|output|reveal|share|detail|lay|spell|present"
_GRADE: Final = "rate|score|grade|evaluate|assess"
_MANY: Final = r"\d+|ten|twenty|fifty|hundred|diverse|multiple|several|more|new|similar|different"

CUES: Final[dict[str, Cue]] = {
    "answer_format": Cue(
        "asks for the final answer in a fixed form, as automatic graders need it",
        "boxed answer",
        r"\\boxed",
        (("end|finish|conclude|answer|put|write|give|state|format", "final answer|the answer is"),),
    ),
    "inline_tags": Cue(
        "asks for reasoning inside tags such as <think> or <reasoning>",
        "think thinking reasoning thought thoughts scratchpad analysis cot",
        "<(?:think|thinking|reasoning|thoughts?|scratchpad|analysis|cot)>",
    ),
    "json": Cue(
        "asks for the answer as JSON",
        "json",
        r"\b(?:in|as|valid|strict|only) json\b|\bjson (?:object|format|array|schema|list|output)\b",
        (("return|output|respond|produce|reply|answer", "json"),),
    ),
    "judge": Cue(
        "asks which of several answers is better",
        "better best preferred preferable winner worse",
        r"\b(?:better|best|preferred) (?:answer|response|completion)\b",
        (
            (
                "which|choose|pick|select|decide|judge|evaluate|compare|rank",
                "answers?|responses?|assistants?|completions?|candidates?",
                "better|best|preferred|preferable|winner|worse",
            ),
        ),
    ),
    "rationale": Cue(
        "asks for the reasoning behind an answer that already exists",
        "arrive arrived reached lead leads led behind came got justify justification",
        chains=(
            (
                "reasons?|reasoning|thought process|steps|thinking|rationale|how",
                "arrived? at|reached|leads? to|led to|behind|came to|got to",
                "answers?|solution|conclusion|results?|response|output",
            ),
            ("justify|justification", "answers?|solution|conclusion|results?"),
        ),
    ),
    "reasoning": Cue(
        "asks to write out the reasoning, step by step",
        "step steps reasoning thought thinking aloud loud show paso passo",
        r"\bstep[ -]by[ -]step\b|\bchain[ -]of[ -]thought\b|\bthink (?:aloud|out loud)\b"
        r"|\bshow (?:your|all|the) (?:work|steps|reasoning|thinking)\b|\bpass?o a pass?o\b",
        (
            (_TELL, "reasoning|thought process|thinking"),
            (f"{_TELL}|list", "all|every|each|intermediate", "steps?"),
        ),
        abroad=(
            *("étape par étape", "schritt für schritt", "шаг за шагом", "пошагово", "단계별로"),
            *("一步一步", "一步步", "逐步", "思考过程", "推理过程", "段階的に", "ステップバイステップ"),
        ),
    ),
    "rewrite": Cue(
        "asks to say a given text in other words",
        "rewrite rephrase paraphrase reword",
        r"\b(?:rewrite|rephrase|paraphrase|reword)\b",
    ),
    "rubric": Cue(
        "asks to grade something against a rubric or on a scale",
        "rubric rubrics scale grading grade score rate evaluate assess",
        r"\brubrics?\b|\bon a scale (?:of|from)\b|\bgrading (?:criteria|guidelines|scheme)\b",
        (
            (_GRADE, r"[01] ?(?:-|to) ?(?:5|10|100)|out of (?:5|10|100)"),
            (_GRADE, "according to|based on|against|using", "criteria"),
        ),
    ),
    "shots": Cue(
        "shows three or more worked examples before its question",
        "answer output response solution q",
        r"\b(?:answer|output|response|solution|a): ",
        times=3,
    ),
    "synthesis": Cue(
        "asks to write prompts, questions or examples: material for training",
        "prompts questions instructions problems examples samples dialogues synthetic",
        r"\bsynthetic (?:data|examples|dataset)\b",
        (
            (
                "generate|create|write|produce|come up with|synthesi[sz]e|compose",
                _MANY,
                "prompts|questions|instructions|problems|examples|samples|dialogues",
            ),
        ),
    ),
}
"""Every cue by name. To add one, add an entry here and an example to the tests."""


def cues_in(text: str) -> frozenset[str]:
    """The names of the cues in `text`, which is lower case with its white space collapsed."""
    if len(text) > 2 * LOOKED_AT:
        text = f"{text[:LOOKED_AT]}. {text[-LOOKED_AT:]}"
    words = set(text.translate(_SPACED).split())
    found = {name for name, anchors in _ANCHORS.items() if not anchors.isdisjoint(words) and _asked(name, text)}
    if not text.isascii():
        found |= {name for name, cue in CUES.items() if any(map(text.__contains__, cue.abroad))}
    return frozenset(found)


_ANCHORS: Final = {name: frozenset(cue.words.split()) for name, cue in CUES.items()}
_SPACED: Final = str.maketrans(dict.fromkeys(string.punctuation, " "))
_PHRASES: Final = {name: re.compile(cue.phrases) for name, cue in CUES.items() if cue.phrases}
_CHAINS: Final = {
    name: [
        (len(chain), re.compile(rf"\b(?:{'|'.join(f'({words})' for words in chain)})\b|([.?!])"))
        for chain in cue.chains
    ]
    for name, cue in CUES.items()
}


def _asked(name: str, text: str) -> bool:
    phrases, times = _PHRASES.get(name), CUES[name].times
    if phrases and (phrases.search(text) if times == 1 else len(phrases.findall(text)) >= times):
        return True
    return any(_follow(words, length, text) for length, words in _CHAINS[name])


def _follow(words: re.Pattern[str], length: int, text: str) -> bool:
    """Whether words of all kinds follow each other. Their pattern has one group a kind, and one for a stop."""
    unseen = -2 * GAP
    ends = [unseen] * length  # Where the newest chain of so many links ends.
    for word in words.finditer(text):
        kind = (word.lastindex or 0) - 1
        if kind == length:
            ends = [unseen] * length
        elif kind == 0:
            ends[0] = word.end()
        elif word.start() - ends[kind - 1] <= GAP:
            ends[kind] = word.end()
            if kind == length - 1:
                return True
    return False
