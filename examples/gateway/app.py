"""A server of the OpenAI chat API behind Stillwatch's gate. Its model is a mock: it says the same to everybody.

The two lines that matter are the import of `Middleware` and `add_middleware`. Everything else is what you have already.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from stillwatch_gateway.asgi import Middleware

ANSWER = "I am a mock, so my answer is always the same: forty-two. "
TOKEN_SECONDS = 0.002

app = FastAPI(title="A mock model behind Stillwatch")
app.add_middleware(Middleware)


class Question(BaseModel):
    """What the chat API is asked; fields that a mock has no use for are let by."""

    model: str = "mock"
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int = Field(default=64, ge=1, le=4_096)
    stream: bool = False


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the server runs; the gate looks at the chat API alone."""
    return {"status": "ok"}


@app.post("/v1/chat/completions", response_model=None)
async def chat(question: Question) -> JSONResponse | StreamingResponse:
    """Answer, streamed or not."""
    words = (ANSWER.split() * question.max_tokens)[: question.max_tokens]
    usage = {
        "prompt_tokens": sum(len(str(message.get("content", "")).split()) for message in question.messages),
        "completion_tokens": len(words),
    }
    usage["total_tokens"] = sum(usage.values())
    if question.stream:
        return StreamingResponse(_events(question.model, words, usage), media_type="text/event-stream")
    await asyncio.sleep(len(words) * TOKEN_SECONDS)
    message = {"role": "assistant", "content": " ".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse(_body("chat.completion", question.model, choices=[choice], usage=usage))


async def _events(model: str, words: list[str], usage: dict[str, int]) -> AsyncIterator[str]:
    chunk = "chat.completion.chunk"
    for word in words:
        await asyncio.sleep(TOKEN_SECONDS)
        yield _event(_body(chunk, model, choices=[{"index": 0, "delta": {"content": f"{word} "}}]))
    yield _event(_body(chunk, model, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=usage))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {JSONResponse(body).body.decode()}\n\n"


def _body(kind: str, model: str, **fields: object) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        **fields,
    }
