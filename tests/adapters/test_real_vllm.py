"""vLLM: a real server with our middleware and our watermark, and transformers with the same mark.

The model is a small one of random weights, whose words are "w0" to "w1999": what it says is read back as token ids.
"""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from announced import announce, refused, reported
from brokers import Broker, free_port
from fleet import Fleet
from installed import environment
from programs import started
from test_guard import verdict

from gateway.countermeasures import mark_key
from gateway.find_mark import KINDS
from gateway.gate import wall
from gateway.marking import FIELD, spelled

pytestmark = pytest.mark.vllm

WORDS = 2_000
SECRET = "sixteen letters!"
START_SECONDS = 600.0
"""Loading torch twice takes half a minute, and minutes on a busy machine."""

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": WORDS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "dtype": "float32",
    "bos_token_id": None,
    "eos_token_id": None,
}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {f"w{number}": number for number in range(WORDS)}, "unk_token": "w0"},
}
TOKENS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "w0",
    "chat_template": "{% for message in messages %}{{ message['content'] }} {% endfor %}",
}


@asynccontextmanager
async def served(folder: Path, where: dict[str, str]) -> AsyncIterator[str]:
    """The model behind vLLM; gives the URL for a client."""
    model, port = folder / "model", free_port()
    model.mkdir()
    for name, content in (("config", CONFIG), ("tokenizer", TOKENIZER), ("tokenizer_config", TOKENS)):
        (model / f"{name}.json").write_text(json.dumps(content))
    command = [
        *(str(environment("STILLWATCH_VLLM") / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", "m", "--load-format", "dummy", "--dtype", "float32"),
        *("--max-model-len", "512", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port)),
        *("--middleware", "stillwatch_gateway.asgi.Middleware", "--logits-processors"),
        *("stillwatch_gateway.vllm_marks:GreenMarks", "stillwatch_gateway.vllm_marks:TournamentMarks"),
    ]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STILLWATCH_")},
        **where,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    opened = started(command, port, folder / "vllm.log", variables, seconds=START_SECONDS)
    await asyncio.to_thread(opened.__enter__)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


def ids(text: str) -> list[int]:
    """The tokens of an answer; the pieces of a streamed one have no spaces between them."""
    return [int(number) for number in re.findall(r"w(\d+)", text)]


def evidence(folder: Path, texts: list[str], kind: str, *subjects: str) -> dict[str, float]:
    """The p-value of each subject's mark, as the command of the wheel finds it in what was said."""
    lines = [json.dumps(ids(text)) for text in texts]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    (folder / "secret").write_text(SECRET)
    named = [part for subject in subjects for part in ("--subject", subject)]
    found = subprocess.run(
        [
            *(str(environment("STILLWATCH_VLLM") / "bin" / "python"), "-m", "stillwatch_gateway.find_mark"),
            *("--secret-file", str(folder / "secret"), "--kind", kind, *named, str(folder / "texts.jsonl")),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    told = [line.split("\t") for line in found.stdout.splitlines()]
    return {subject: float(p.removeprefix("p ")) for subject, p, _ in told}


async def test_answers_under_a_degrade_verdict_carry_the_mark_of_their_account(
    embedded: Broker, tmp_path: Path
) -> None:
    """Ada gets what she asks for. Cai gets no probabilities, and his answers tell whose they are, streamed or not.

    Bob stands for a server whose mark is of the other kind: he says so in his request, as the middleware would.
    """
    fleet = await Fleet.assemble(embedded, tmp_path)
    lasting: dict[str, Any] = {"at": wall(), "expires_at": wall() + 3_600_000, "parameters": {"strength": 1.0}}
    await announce(fleet.settings, [verdict("cai", "degrade", **lasting), verdict("eve", "suspend", **lasting)])
    where = {
        "STILLWATCH_SECRET": SECRET,
        "STILLWATCH_BROKERS": fleet.broker.address,
        "STILLWATCH_TOPIC_PREFIX": fleet.settings.topic_prefix,
        "STILLWATCH_ACCOUNT_HEADER": "x-account",
        "STILLWATCH_WATERMARK": "green",
    }
    asked: dict[str, Any] = {"model": "m", "max_tokens": 120, "temperature": 1.0}
    said: dict[str, list[str]] = {"ada": [], "bob": [], "cai": []}
    spelt = spelled("tournament", mark_key(SECRET, "account:bob"))
    more = {"bob": {"vllm_xargs": {FIELD: spelt}}}
    async with served(tmp_path, where) as url:
        clients = {
            name: openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, default_headers={"x-account": name})
            for name in (*said, "eve")
        }
        eve = [{"role": "user", "content": "w1"}]
        assert (await refused(clients["eve"], {**asked, "messages": eve})).code == "account_suspended"
        for name, texts in said.items():
            for number in range(3):
                question: Any = [{"role": "user", "content": f"w{number} w7 w8"}]
                whole = await clients[name].chat.completions.create(
                    messages=question, logprobs=True, top_logprobs=3, extra_body=more.get(name), **asked
                )
                texts.append(whole.choices[0].message.content or "")
                assert (whole.choices[0].logprobs is None) == (name == "cai")
                stream = await clients[name].chat.completions.create(
                    messages=question, stream=True, extra_body=more.get(name), **asked
                )
                texts.append("".join([each.choices[0].delta.content or "" async for each in stream if each.choices]))
        found = await reported(fleet, 6 * len(said) + 1)

    assert min(len(ids(text)) for texts in said.values() for text in texts) > 110, "w0 is never shown"
    everybody = [f"account:{name}" for name in said]
    marked = {kind: {name: evidence(tmp_path, said[name], kind, *everybody) for name in said} for kind in KINDS}
    assert marked["green"]["cai"].pop("account:cai") < 1e-12
    assert marked["tournament"]["bob"].pop("account:bob") < 1e-12
    assert min(p for kind in marked.values() for found in kind.values() for p in found.values()) > 1e-4
    for name in said:
        whole = [each.output_tokens for each in found[name] if not each.stream]
        streamed = [each.output_tokens for each in found[name] if each.stream]
        assert whole == [120] * 3
        assert min(streamed) > 60, "nobody asked for usage, so it is guessed"
        assert max(streamed) < 240


TRANSFORMERS = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from stillwatch_gateway.detect import attribute
from stillwatch_gateway.green import Green
from stillwatch_gateway.marking import Transformers
from stillwatch_gateway.tournament import Tournament

torch.manual_seed(1)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=2_000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    bos_token_id=None, eos_token_id=None,
)).eval()
prompts = torch.randint(0, 2_000, (4, 5))
for name, kind, more in (("green", Green, {}), ("tournament", Tournament, {"temperature": 0.7})):
    texts = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=0.7, top_k=0, max_new_tokens=120,
        pad_token_id=0, logits_processor=[Transformers(kind(b"k" * 32, **more))],
    )[:, 5:].tolist()
    found = attribute({"ours": kind(b"k" * 32), "another": kind(b"z" * 32)}, texts)
    print(name, found["ours"].p_value < 1e-12, found["another"].p_value > 1e-4)
"""


def test_what_transformers_generates_carries_the_mark(tmp_path: Path) -> None:
    python = str(environment("STILLWATCH_VLLM") / "bin" / "python")
    done = subprocess.run(
        [python, "-c", TRANSFORMERS], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout == "green True True\ntournament True True\n", done.stderr[-3000:]
