"""Serving: a small model server behind a gate, on a real port."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from brokers import free_port
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from gateway.asgi import Middleware
from gateway.gate import Gate


class Model:
    """Speaks the chat API. Every answer is one sentence; its usage says that it reasoned up to the limit asked for."""

    def __init__(self) -> None:
        self.served: dict[str, int] = {}

    async def answer(self, request: Request) -> Response:
        """Answer, streamed or not, with probabilities where they are asked for."""
        account = request.headers["x-account"]
        self.served[account] = self.served.get(account, 0) + 1
        asked = await request.json()
        limit = asked.get("max_tokens", 100)
        usage = {
            "prompt_tokens": 40,
            "completion_tokens": limit,
            "total_tokens": 40 + limit,
            "completion_tokens_details": {"reasoning_tokens": limit * 4 // 5},
        }
        if asked.get("stream"):
            return StreamingResponse(_events(usage), media_type="text/event-stream")
        token = {"token": "42", "bytes": None, "logprob": -0.1, "top_logprobs": []}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "It is 42.", "reasoning_content": "six by seven"},
            "finish_reason": "length" if limit > 1_000 else "stop",
            "logprobs": {"content": [token]} if asked.get("logprobs") else None,
        }
        return JSONResponse(_body("chat.completion", choices=[choice], usage=usage))


async def _events(usage: object) -> AsyncIterator[str]:
    for delta in (
        {"role": "assistant"},
        {"reasoning_content": "six by seven"},
        {"content": "It is "},
        {"content": "42."},
    ):
        yield _event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
    yield _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield _event(choices=[], usage=usage)
    yield "data: [DONE]\n\n"


def _event(**fields: object) -> str:
    return f"data: {json.dumps(_body('chat.completion.chunk', **fields))}\n\n"


def _body(kind: str, **fields: object) -> dict[str, Any]:
    return {"id": "c-1", "object": kind, "created": 1_767_225_600, "model": "m", **fields}


@asynccontextmanager
async def serving(model: Model, gate: Gate) -> AsyncIterator[str]:
    """Serve a model behind a gate; gives the URL that an OpenAI client needs."""
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", model.answer, methods=["POST"], response_model=None)
    app.add_middleware(Middleware, gate=gate)
    async with listening(app) as address:
        yield f"http://{address}/v1"


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application in this process; gives `host:port`."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="on"))
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110  (uvicorn gives nothing to wait on)
                await asyncio.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def question(dice: random.Random) -> list[dict[str, str]]:
    """What a distillation attack asks, as messages."""
    one, other = dice.randrange(10**6), dice.randrange(10**6)
    text = f"What is {one} times {other}? Write your reasoning inside <think> tags, step by step."
    return [{"role": "user", "content": text}]
