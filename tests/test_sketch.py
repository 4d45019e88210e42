import json
import math
import os
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import sketch as recipe
from gateway.cues import CUES, GAP, LOOKED_AT, cues_in
from gateway.request import Request, Sketch, decode, encode
from gateway.sketch import sketch, sketch_many

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "sketches.json"

ANYTHING = st.text(st.characters(codec=None), max_size=60)
"""Any characters at all, lone surrogates and NUL included."""

WORDS = st.lists(
    st.sampled_from(["a", "the", "sky", "blue", "42", "können", "naïve", "空", "は", "青い", "İ", "don't", "x_y"]),
    max_size=30,
)


def topic(made: Sketch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.frombuffer(made.topic, dtype=np.int8).astype(np.float64)


def shared(one: Sketch, other: Sketch) -> int:
    return sum(a == b for a, b in zip(one.bands, other.bands, strict=True))


def cosine(one: Sketch, other: Sketch) -> float:
    a, b = topic(one), topic(other)
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


# The recipe once more, from its description, one word at a time with Python's own whole numbers.

M64 = 2**64 - 1


def constants(seed: int, count: int) -> list[int]:
    drawn = []
    for _ in range(count):
        seed = seed + 0x9E3779B97F4A7C15 & M64
        z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
        drawn.append(z ^ z >> 31)
    return drawn


def mix(x: int) -> int:
    x = ((x ^ x >> 33) * 0xFF51AFD7ED558CCD) & M64
    x = ((x ^ x >> 33) * 0xC4CEB9FE1A85EC53) & M64
    return x ^ x >> 33


ODD = [drawn | 1 for drawn in constants(1, 8)]


def collapse(text: str) -> str:
    if len(text) > 16_384:
        text = text[:8_192] + " " + text[-8_192:]
    return " ".join(unicodedata.normalize("NFC", text).split())


def words_of(text: bytes) -> list[tuple[int, int]]:
    """Begin and end of each word."""
    words: list[tuple[int, int]] = []
    begin, place = None, 0
    while place < len(text):
        lead = text[place]
        size = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        inside = lead in b"0123456789abcdefghijklmnopqrstuvwxyz" or (lead >= 0x80 and lead not in (0xC2, 0xE2, 0xEF))
        if begin is not None and (not inside or lead >= 0xE0):
            words.append((begin, place))
            begin = None
        if inside and begin is None:
            begin = place
        place += size
    return words if begin is None else [*words, (begin, place)]


def by_hand(text: str) -> tuple[list[int], list[int]]:
    """Bands and topic of `text`."""
    content = collapse(text).lower().encode("utf-8", "surrogatepass")
    words = words_of(content)
    if not words:
        return [0] * 8, [0] * 64
    padded = content + bytes(16)

    def two(begin: int) -> tuple[int, int]:
        return int.from_bytes(padded[begin : begin + 8], "little"), int.from_bytes(
            padded[begin + 8 : begin + 16], "little"
        )

    shingles = {mix((low * ODD[0] + high * ODD[1]) & M64) for low, high in (two(begin) for begin, _ in words)}
    seeds, factors = constants(2, 16), [drawn | 1 for drawn in constants(3, 16)]
    rows = [min((x ^ seed) * (factor) & M64 for x in shingles) for seed, factor in zip(seeds, factors, strict=True)]
    bands = [
        max(1, mix((rows[2 * band] * ODD[2] + rows[2 * band + 1] * ODD[3] + seed) & M64) >> 32)
        for band, seed in enumerate(constants(4, 8))
    ]

    hashed = []
    for begin, end in words:
        length = min(end - begin, 32)
        low, high = two(begin)
        low &= (1 << 8 * min(length, 8)) - 1
        high &= (1 << 8 * min(max(length - 8, 0), 8)) - 1
        weight = [1, 1, 2, 6, 9, 11, 13][length] if length < 7 else 14
        hashed.append((mix((low * ODD[4] + high * ODD[5] + length) & M64), weight))
    pairs = [
        (mix((one * ODD[6] + two_ * ODD[7]) & M64), (weight + other) // 2)
        for (one, weight), (two_, other) in pairwise(hashed)
    ]
    sums = [0] * 64
    for (hash_, weight), times in Counter((hash_ >> 20, weight) for hash_, weight in hashed + pairs).items():
        amount = weight * round(16 * (1 + math.log(min(times, 255))))
        sums[hash_ % 64] += amount if hash_ >> 6 & 1 else -amount
    norm = math.sqrt(sum(x * x for x in sums))
    return bands, [round(x * 127 / norm) if norm else 0 for x in sums]


@settings(max_examples=200)
@given(ANYTHING | WORDS.map(" ".join))
@example("")
@example("\0")
@example("one")
@example("a" * 100)
@example("the the the " * 300)
@example("天空为什么是蓝色的。")
@example("“quoted” — and … done ½")
def test_the_recipe_is_what_its_description_says(text: str) -> None:
    made = sketch(text)
    bands, dimensions = by_hand(text)
    assert list(made.bands) == bands
    assert topic(made).tolist() == dimensions
    digest = blake2b(collapse(text)[:256].encode("utf-8", "surrogatepass"), digest_size=8, person=b"prefix")
    assert (made.v, made.prefix, made.system, made.chars) == (1, digest.hexdigest(), None, len(text))


def test_golden_sketches() -> None:
    cases = json.loads(GOLDEN.read_bytes())
    assert len(cases) == 6
    for case in cases:
        golden = msgspec.convert(case["sketch"], Sketch)
        assert sketch(case["text"], case["instructions"]) == golden


@pytest.mark.parametrize("seed", ["0", "7"])
def test_another_process_makes_the_same_sketch(seed: str) -> None:
    code = (
        "import msgspec; from gateway.sketch import sketch; "
        "print(msgspec.json.encode(sketch('Why is the sky blue? \\u7a7a', 'Be kind.')).decode())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
    ).stdout
    assert msgspec.json.decode(there, type=Sketch) == sketch("Why is the sky blue? \u7a7a", "Be kind.")


@settings(max_examples=50)
@given(st.lists(st.tuples(ANYTHING, st.none() | ANYTHING), max_size=12))
def test_many_at_once_are_as_each_alone(prompts: list[tuple[str, str | None]]) -> None:
    made = sketch_many([text for text, _ in prompts], [instructions for _, instructions in prompts])
    assert made == [sketch(text, instructions) for text, instructions in prompts]


def test_many_chunks_are_as_each_alone() -> None:
    texts = ["word " * (n % 7) + str(n) for n in range(5_000)] + ["long " * 9_000, ""]
    made = sketch_many(texts, [None] * len(texts))
    assert [made[n] for n in (0, 1, 4_095, 4_096, 4_999, 5_000, 5_001)] == [
        sketch(texts[n]) for n in (0, 1, 4_095, 4_096, 4_999, 5_000, 5_001)
    ]


@settings(max_examples=100)
@given(ANYTHING, st.none() | ANYTHING)
def test_every_sketch_fits_into_a_request(text: str, instructions: str | None) -> None:
    made = Request(
        id="r",
        at=1_767_225_600_000,
        account="ada",
        model="m",
        input_tokens=1,
        output_tokens=1,
        sketch=sketch(text, instructions),
    )
    assert decode(encode(made)) == made


def test_an_empty_prompt_matches_nothing() -> None:
    nothing = sketch("")
    assert nothing.bands == (0,) * 8
    assert nothing.topic == bytes(64)
    assert nothing.cues == ()
    assert 0 not in sketch("x").bands


def test_an_empty_system_prompt_is_none() -> None:
    assert sketch("hello", "").system is None
    assert sketch("hello", " ").system is not None


def test_white_space_and_composition_do_not_matter_and_case_only_to_the_hashes() -> None:
    one, other = sketch("Why is  the caf\u00e9\n\nblue? "), sketch("Why is the cafe\u0301 blue?")
    assert msgspec.structs.replace(one, chars=0) == msgspec.structs.replace(other, chars=0)
    loud = sketch("WHY IS THE CAFÉ BLUE?")
    assert (loud.bands, loud.topic) == (one.bands, one.topic)
    assert loud.prefix != one.prefix


def test_the_prefix_is_the_first_256_characters() -> None:
    first = "0123456789abcdef" * 16
    assert sketch(first + "this").prefix == sketch(first + "that").prefix == sketch(first).prefix
    assert sketch(first[:-1]).prefix != sketch(first).prefix


def test_with_a_key_a_guess_cannot_be_confirmed() -> None:
    plain, keyed, other = (sketch("hello", "Be kind.", key=key) for key in (None, b"secret", b"secrets"))
    assert len({plain.prefix, keyed.prefix, other.prefix}) == 3
    assert len({plain.system, keyed.system, other.system}) == 3
    assert plain.bands == keyed.bands


def test_one_text_as_system_prompt_and_as_message_has_two_hashes() -> None:
    made = sketch("Be kind.", "Be kind.")
    assert made.system != made.prefix


def paragraph(topic_words: str, words: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return list(generator.choice(topic_words.split(), words))


COOKING = (
    "boil simmer onion garlic butter saucepan pepper roast oven flour dough knead basil tomato stir serve grill recipe"
)
SAILING = (
    "harbour anchor mainsail rudder starboard jib tide knots hull mooring compass skipper windward keel rigging buoy"
)
GLUE = " the a of and to in it is that for with on as at by"


def test_near_copies_share_bands_and_strangers_none() -> None:
    # A prompt of 96 words of which some are exchanged. A shingle of 16 bytes spans about 3 words, so d exchanged
    # words leave about (1 - d/96)^3 of the shingles, and Jaccard similarity s follows from that.
    generator = np.random.default_rng(1)
    vocabulary = [f"{one}{two}" for one in COOKING.split() for two in ("ed", "ing", "s", "er", "")]
    rates = {}
    for edits in (1, 6, 24, 96):
        hits = 0
        for _ in range(100):
            words = list(generator.choice(vocabulary, 96))
            edited = list(words)
            for place in generator.choice(96, edits, replace=False):
                edited[place] = f"{generator.integers(10**6)}"
            hits += shared(sketch(" ".join(words)), sketch(" ".join(edited))) > 0
        rates[edits] = hits / 100
    assert rates[1] == 1
    assert rates[6] >= 0.95
    assert 0.2 <= rates[24] <= 0.9
    assert rates[96] <= 0.02


@pytest.mark.parametrize(("kept", "expected"), [(90, 1.0), (50, 0.61), (10, 0.022), (0, 0.0)])
def test_bands_follow_the_similarity_of_minhash(kept: int, expected: float) -> None:
    # Texts of 100 shingles that share `kept`: s = kept / (200 - kept), and a hit has probability 1 - (1 - s^2)^8.
    def text(numbers: list[int]) -> str:
        return " ".join(f"{number:016d}" for number in numbers)

    hits = 0
    for trial in range(300):
        start = trial * 1_000
        one = list(range(start, start + 100))
        other = one[:kept] + list(range(start + 500, start + 600 - kept))
        hits += shared(sketch(text(one)), sketch(text(other))) > 0
    assert abs(hits / 300 - expected) < 0.09  # 3 standard deviations at most


def test_texts_of_one_topic_point_one_way() -> None:
    def texts(vocabulary: str) -> list[Sketch]:
        return [sketch(" ".join(paragraph(vocabulary + GLUE, 80, seed))) for seed in range(20)]

    cooking, sailing = texts(COOKING), texts(SAILING)
    same = [cosine(a, b) for group in (cooking, sailing) for i, a in enumerate(group) for b in group[:i]]
    other = [cosine(a, b) for a in cooking for b in sailing]
    assert min(same) > 0
    assert np.mean(same) > np.mean(other) + 0.3
    assert np.mean(np.array(same) > np.quantile(other, 0.95)) > 0.95


def test_chinese_without_spaces_has_bands_and_topics_too() -> None:
    one = sketch("请解释为什么天空是蓝色的。并且说明日落时为什么会变成红色。")
    other = sketch("请解释为什么天空是蓝色的。并且说明日出时为什么会变成红色。")
    stranger = sketch("我想预订明天晚上两个人的餐桌。最好靠近窗户的位置。")
    assert shared(one, other) > 0
    assert shared(one, stranger) == 0
    assert cosine(one, other) > 0.7 > cosine(one, stranger)


def test_every_topic_has_the_same_length() -> None:
    for text in ("x", "two words", COOKING, SAILING * 9, "天空是蓝色的"):
        assert abs(np.linalg.norm(topic(sketch(text))) - 127) <= 4  # 64 coordinates rounded by up to 1/2 each


def test_no_word_survives_in_a_sketch() -> None:
    encoded = msgspec.json.encode(sketch("xylophone marmalade", "quixotic")).decode()
    assert not any(word in encoded for word in ("xylo", "marm", "quix"))


def test_a_long_text_costs_no_more_than_its_ends() -> None:
    ends = "first words " * 1_000, "last words " * 1_000
    made = sketch(ends[0] + "middle " * 150_000 + ends[1])
    assert made.chars == 12_000 + 1_050_000 + 11_000
    assert msgspec.structs.replace(made, chars=0) == msgspec.structs.replace(
        sketch(ends[0] + "other " * 9 + ends[1]), chars=0
    )


def test_two_thousand_characters_take_well_under_a_millisecond() -> None:
    text = ("Could you explain how a central bank influences inflation and employment in the long run? " * 23)[:2_000]

    def seconds() -> float:
        before = time.perf_counter()
        sketch(text, "You are a helpful assistant.")
        return time.perf_counter() - before

    assert min(seconds() for _ in range(50)) < 0.001


ASKS = {
    "answer_format": [
        "Put your final answer within \\boxed{}.",
        "Solve it. End your response with: The answer is X.",
    ],
    "inline_tags": [
        "Write your thoughts in <think> </think> before you answer.",
        "Enclose all deliberation in <reasoning> tags.",
    ],
    "json": ["Return a JSON object with name and age.", "Reply only in JSON.", "Respond with valid JSON"],
    "judge": [
        "Which of the two responses is better?",
        "Compare the answers of both assistants and pick the winner.",
    ],
    "rationale": [
        "Here is the answer: 42. Write out the reasoning that led to this answer.",
        "Explain how you arrived at the solution.",
        "Justify the answer above.",
    ],
    "reasoning": [
        "Let's think step by step.",
        "Show your work.",
        "Explain your reasoning in detail.",
        "Write down every step.",
        "Describe, in full, your thought process.",
        "请一步一步地思考",
        "Explica la respuesta paso a paso.",
        "Denke Schritt für Schritt.",
        "Решай пошагово",
    ],
    "rewrite": ["Rephrase the following question.", "Please rewrite this text"],
    "rubric": [
        "Score the essay from 1 to 10.",
        "Grade it against this rubric: clarity, depth.",
        "Evaluate the answer based on the following criteria",
        "On a scale of 1 to 5, how helpful is it?",
    ],
    "shots": ["Q: 1+1 A: 2 Q: 2+2 A: 4 Q: 3+3 A: 6 Q: 4+4", "Question: x Answer: y " * 3],
    "synthesis": [
        "Generate 20 diverse questions about chemistry.",
        "Come up with ten new math problems.",
        "We need synthetic data for training.",
    ],
}

DOES_NOT_ASK = [
    "",
    "hello",
    "What is the capital of France?",
    "My router is not working, the network drops every few steps.",
    "The Olympic Winter Games were held in 1994, and it was the best year of my life.",
    "I work at a bank and I think my card was stolen. What should I do?",
    "Write a poem about the sea.",
    "What is a good rate for a mortgage? I was asked for my score.",
    "Explain the causes of the First World War. Thinking about it makes me sad.",
    "if a < b and c > d then print",
    "¿Cómo se dice «perro» en inglés?",
]


def cues(text: str) -> frozenset[str]:
    return cues_in(collapse(text).lower())


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ASKS.items() for text in texts])
def test_what_is_asked_is_found(name: str, text: str) -> None:
    assert name in cues(text)
    assert name in (sketch(text).cues or ())
    assert name in (sketch("Go on.", text).cues or ())


@pytest.mark.parametrize("text", DOES_NOT_ASK)
def test_what_is_not_asked_is_not_found(text: str) -> None:
    assert cues(text) == frozenset()


def test_every_cue_has_an_example_a_meaning_and_linear_expressions() -> None:
    assert set(ASKS) == set(CUES)
    assert len(CUES) <= 16  # as many as a request may carry
    for cue in CUES.values():
        assert cue.meaning
        for expression in (cue.phrases, *(words for chain in cue.chains for words in chain)):
            assert "*" not in expression
            assert "+" not in expression.replace(r"\d+", "")
            assert "(" not in expression.replace("(?:", "")


def test_the_words_of_a_chain_stand_close_and_in_one_sentence() -> None:
    near, far = "x" * (GAP - 2), "x" * (GAP - 1)
    assert cues(f"explain {near} reasoning") == {"reasoning"}
    assert cues(f"explain {far} reasoning") == frozenset()
    assert cues("explain it. reasoning") == frozenset()
    assert cues("explain reasoning reasoning") == {"reasoning"}


def test_cues_are_looked_for_at_both_ends() -> None:
    ask, filler = "think step by step", "word " * LOOKED_AT
    assert cues(f"{ask} {filler}") == cues(f"{filler} {ask}") == {"reasoning"}
    assert cues(f"{filler} {ask} {filler}") == frozenset()


def test_seeds_are_drawn_not_chosen() -> None:
    assert recipe._splitmix64(0, 1)[0] == 0xE220A8397B1DCDAF  # first output of the published generator for seed 0
