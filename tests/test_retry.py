"""Retry: until it is taken, or refused for good."""

import random
from collections.abc import Mapping

import pytest

from sinks.retry import retry


class Answers:
    """Somebody who answers as told; 0 is no answer."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.pauses: list[float] = []
        self.outcomes: list[str] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        status = self.statuses.pop(0)
        if not status:
            raise ConnectionRefusedError
        return status

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def tell(self) -> bool:
        return await retry(
            self.post, "http://x", b"{}", {}, sleep=self.sleep, dice=random.Random(1), tried=self.outcomes.append
        )


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_success_is_told_once(status):
    answers = Answers(status)
    assert await answers.tell()
    assert (answers.outcomes, answers.pauses) == (["taken"], [])


@pytest.mark.parametrize("status", [0, 301, 408, 425, 429, 500, 503])
async def test_what_may_pass_is_tried_again(status):
    answers = Answers(status, status, 200)
    assert await answers.tell()
    assert answers.outcomes == ["failed", "failed", "taken"]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
async def test_a_refusal_for_good_is_not_tried_again(status):
    answers = Answers(status)
    assert not await answers.tell()
    assert answers.outcomes == ["refused"]


async def test_pauses_double_up_to_a_minute_and_are_shortened_by_up_to_half():
    answers = Answers(*[0] * 9, 200)
    assert await answers.tell()
    for pause, whole in zip(answers.pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert whole / 2 <= pause <= whole
    assert len(set(answers.pauses)) == 9
