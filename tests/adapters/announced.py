"""Announced: verdicts as a detector writes them, and what a gateway said of requests."""

import asyncio
from collections.abc import Iterable
from typing import Any

import openai
from aiokafka import AIOKafkaProducer
from fleet import Fleet

from gateway.request import Request, decode
from gateway.verdict import Verdict, encode
from streams.settings import Settings as Worker
from streams.topics import ENFORCEMENT, REQUESTS


async def announce(worker: Worker, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts to the topic of enforcement."""
    producer: AIOKafkaProducer
    async with worker.producer() as producer:
        for each in verdicts:
            await producer.send_and_wait(ENFORCEMENT.name(worker), encode(each), each.subject.encode())


async def reported(fleet: Fleet, count: int) -> dict[str, list[Request]]:
    """What came to the topic of requests, by account."""
    found: dict[str, list[Request]] = {}
    for record in await fleet.heard(REQUESTS, count):
        request = decode(record.value or b"")
        found.setdefault(request.account, []).append(request)
    return found


async def refused(someone: openai.AsyncOpenAI, asked: dict[str, Any]) -> openai.PermissionDeniedError:
    """Why somebody is refused, as soon as the gateway has read the topic."""
    async with asyncio.timeout(60):
        while True:
            try:
                await someone.chat.completions.create(**asked)
            except openai.PermissionDeniedError as error:
                return error
            await asyncio.sleep(0.2)
