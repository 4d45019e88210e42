"""Attack: a thief and an honest session before any front that speaks OpenAI's API, with the real `openai` client."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import openai
from serving import question

from gateway.settings import Settings

# The packaged ladder with lower floors and scores, and a throttle that lets 20 a second pass: so the attack climbs two
# rungs within a minute instead of hours. Everything else, the evidence above all, is as it is in operation.
LADDER = """
version = "end-to-end"
[budget]
requests = 17_000
output_tokens = 51_000_000
reasoning_tokens = 34_000_000
[prices]
input = 3.0
output = 15.0
[[rungs]]
action = "throttle"
score = 0.5
leave = 0.3
kinds = 3
requests = 200
seconds = 3_600
parameters = { rpm = 1_200 }
[[rungs]]
action = "verify"
score = 0.85
leave = 0.6
kinds = 3
requests = 1_000
seconds = 3_600
"""

DAY = 86_400
AT_ONCE = 16
LONGEST_SECONDS = 120.0


def settings(**more: str) -> Settings:
    given = {
        "STILLWATCH_SECRET": "sixteen letters!",
        "STILLWATCH_ACCOUNT_HEADER": "x-account",
        "STILLWATCH_OPENED_AT_HEADER": "x-opened",
        "STILLWATCH_ADDRESS_HEADER": "x-forwarded-for",
        "STILLWATCH_VERIFY_URL": "https://example.com/verify/{decision}",
    }
    return Settings.read(given | more)


def client(url: str, account: str, days_old: int, **more: Any) -> openai.AsyncOpenAI:
    headers = {"x-account": account, "x-opened": str(int(time.time()) - days_old * DAY)}
    return openai.AsyncOpenAI(base_url=url, api_key=f"sk-{account}", default_headers=headers, **more)


class Thief:
    """Works off a list through a pool of addresses, as fast as it can, until it is told to verify."""

    def __init__(self, url: str) -> None:
        self.client = client(url, "thief", days_old=1, max_retries=0)
        self.statuses: list[int] = []
        self.errors: dict[int, openai.APIStatusError] = {}
        self.dice = random.Random(1)

    async def run(self) -> None:
        await asyncio.gather(*[self._work() for _ in range(AT_ONCE)])

    async def _work(self) -> None:
        ends = time.monotonic() + LONGEST_SECONDS
        while 403 not in self.errors and time.monotonic() < ends:
            try:
                await self.client.chat.completions.create(
                    model="m",
                    messages=question(self.dice),
                    max_tokens=4_096,
                    logprobs=True,
                    top_logprobs=5,
                    extra_headers={"x-forwarded-for": f"198.51.{self.dice.randrange(40)}.{self.dice.randrange(250)}"},
                )
                self.statuses.append(200)
            except openai.APIConnectionError:
                continue  # a connection closed while it was idle
            except openai.APIStatusError as error:
                self.statuses.append(error.status_code)
                self.errors.setdefault(error.status_code, error)


async def chat(url: str, ended: asyncio.Event) -> Counter[str]:
    """An honest session next to it: one conversation that grows, every other answer streamed. What came of it."""
    ada = client(url, "ada", days_old=700)
    messages: list[Any] = [{"role": "system", "content": "You are a patient teacher."}]
    came: Counter[str] = Counter()
    while not ended.is_set() or came["answers"] < 4:
        messages.append({"role": "user", "content": f"Thank you. And what about question {len(messages)}?"})
        stream = await ada.chat.completions.create(model="m", messages=messages, max_tokens=60, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        messages.append({"role": "assistant", "content": text})
        whole = await ada.chat.completions.create(model="m", messages=messages, max_tokens=60, logprobs=True)
        assert whole.choices[0].logprobs is not None
        came["answers"] += (text == "It is 42.") + (whole.choices[0].message.content == "It is 42.")
        came["asked"] += 2
        await asyncio.sleep(0.2)  # a person reads
    return came


async def slowed_then_stopped(url: str, logs: Callable[[], str] = str) -> tuple[Thief, Counter[str]]:
    """An attack with a conversation next to it: the one is slowed, then asked to verify; the other sees nothing."""
    thief, ended = Thief(url), asyncio.Event()
    session = asyncio.create_task(chat(url, ended))
    await thief.run()
    ended.set()
    came = await session

    assert set(thief.statuses) == {200, 429, 403}, f"{Counter(thief.statuses)} {logs()}"
    assert thief.statuses.index(429) < thief.statuses.index(403), "slowed before it was stopped"
    slowed, stopped = thief.errors[429], thief.errors[403]
    assert isinstance(slowed, openai.RateLimitError)
    assert int(slowed.response.headers["retry-after"]) >= 1
    assert slowed.code == "rate_limit_exceeded"
    assert slowed.message.startswith("Error code: 429")
    assert "This account is limited to 1200 requests a minute until" in slowed.message
    assert isinstance(stopped, openai.PermissionDeniedError)
    assert stopped.code == "verification_required"
    decision = stopped.response.headers["x-stillwatch-decision"]
    assert f"https://example.com/verify/{decision}" in stopped.message
    assert came["answers"] == came["asked"]
    assert came["asked"] >= 4
    return thief, came
