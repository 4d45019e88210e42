"""An OpenAI-compatible server that answers at once and writes each request down as a gateway would emit it.

    python -m tests.tools.server --out distilabel.jsonl --speed 400

Tools are run for real and their requests are what they send; only the model is not there. It says that it took as long
as a model takes for as many tokens, and does: `speed` times faster, and the recording's clock runs as much faster. So
what a tool does for three days can be recorded in ten minutes.
"""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
import numpy as np
import uvicorn

from gateway.request import Request, encode
from gateway.sketch import sketch_many

TOKEN_SECONDS = 0.02
FIRST_TOKEN_SECONDS = 0.4
CHARS_A_TOKEN = 4


class Answering:
    """An ASGI application: any path takes a chat completion. One account an API key."""

    def __init__(self, out: BinaryIO, speed: float, *, output: float, sigma: float) -> None:
        self._out = out
        self._speed = speed
        self._dice = np.random.default_rng(1)
        self._output, self._sigma = output, sigma
        self._began = time.time()
        self._count = 0

    def _now(self) -> int:
        return int((self._began + (time.time() - self._began) * self._speed) * 1_000)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        if scope["method"] != "POST":
            await _reply(send, {"object": "list", "data": [{"id": "model", "object": "model"}]})
            return
        asked = msgspec.json.decode(body)
        if not asked["messages"]:
            # curator looks for a provider's limits this way. It gets none and keeps to its own.
            await _reply(send, {"error": {"message": "messages: empty", "type": "invalid_request_error"}}, status=400)
            return
        await _reply(send, await self._answer(asked, headers, scope["client"]))

    async def _answer(self, asked: dict[str, Any], headers: dict[str, str], client: tuple[str, int]) -> dict[str, Any]:
        at = self._now()
        self._count += 1
        messages = asked["messages"]
        words = [_text(message["content"]) for message in messages]
        last = next((w for m, w in zip(messages[::-1], words[::-1], strict=True) if m["role"] == "user"), "")
        system = next((w for m, w in zip(messages, words, strict=True) if m["role"] == "system"), None)
        cap = asked.get("max_completion_tokens") or asked.get("max_tokens")
        wanted = int(self._output * np.exp(self._sigma * self._dice.standard_normal()))
        output = max(1, min(wanted, cap or wanted))
        took = FIRST_TOKEN_SECONDS + TOKEN_SECONDS * output
        sketch = sketch_many([last], [system])[0]
        choices = asked.get("n") or 1
        request = Request(
            id=f"tool-{self._count}",
            at=at,
            account="tool-" + hashlib.sha256(headers.get("authorization", "").encode()).hexdigest()[:10],
            model="large-2",
            input_tokens=sum(map(len, words)) // CHARS_A_TOKEN + 3 * len(words),
            output_tokens=output * choices,
            operation="chat",
            turns=sum(message["role"] == "user" for message in messages),
            tools=len(asked.get("tools") or ()),
            stream=bool(asked.get("stream")),
            max_tokens=cap,
            temperature=asked.get("temperature"),
            top_p=asked.get("top_p"),
            choices=choices,
            top_logprobs=asked.get("top_logprobs"),
            status=200,
            finish="length" if cap and wanted >= cap else "stop",
            latency_ms=int(took * 1_000),
            ip=client[0],
            client=hashlib.sha256(headers.get("user-agent", "").encode()).hexdigest()[:16],
            sketch=sketch,
        )
        self._out.write(encode(request) + b"\n")
        await asyncio.sleep(took / self._speed)
        reply = {"role": "assistant", "content": _shaped(asked, f"Answer {self._count}: " + last[:400])}
        total = request.input_tokens + output
        usage = {"prompt_tokens": request.input_tokens, "completion_tokens": output, "total_tokens": total}
        return {
            "id": request.id,
            "object": "chat.completion",
            "created": at // 1_000,
            "model": asked.get("model", "model"),
            "choices": [{"index": i, "message": reply, "finish_reason": request.finish} for i in range(choices)],
            "usage": usage,
        }


def _text(content: Any) -> str:
    """The words of a message's content, which may come in parts."""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content or ())


def _shaped(asked: dict[str, Any], text: str) -> str:
    """An answer in the shape that was asked for: a flat JSON schema of words and whole numbers, or none."""
    schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
    if schema is None:
        return text
    fields = schema["properties"].items()
    return msgspec.json.encode({name: 1 if field["type"] == "integer" else text for name, field in fields}).decode()


async def _reply(send: Any, body: dict[str, Any], status: int = 200) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the recording goes.")
@click.option("--port", default=8_123, show_default=True, type=int)
@click.option("--speed", default=400.0, show_default=True, type=float, help="How much faster time runs.")
@click.option("--output", default=600.0, show_default=True, type=float, help="Median tokens of an answer.")
@click.option("--sigma", default=0.6, show_default=True, type=float, help="Its spread: a log-normal's sigma.")
def main(out: Path, port: int, speed: float, output: float, sigma: float) -> None:
    with out.open("wb") as file:
        app = Answering(file, speed, output=output, sigma=sigma)
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
