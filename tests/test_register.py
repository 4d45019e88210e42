"""Register: who stands where, whoever wrote it and whenever."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.engine.register import Register, Standings


class Message(NamedTuple):
    """As much of a record of the standings topic as a register looks at."""

    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def said(account: str, standing: bytes | None, term: int) -> Message:
    return Message(account.encode(), standing, [("term", b"%d" % term)])


class Listener:
    """What a register tells whoever holds partitions."""

    def __init__(self, register: Register) -> None:
        self.news: dict[int, list[tuple[str, bytes | None]]] = {}
        self.corrected: list[tuple[str, bytes | None]] = []
        register.pass_on, register.correct = self.pass_on, self.correct

    async def pass_on(self, news: Mapping[int, Standings]) -> None:
        for partition, standings in news.items():
            self.news.setdefault(partition, []).extend(standings)

    async def correct(self, standings: Standings) -> None:
        self.corrected += standings


async def hear(register: Register, *messages: Message) -> None:
    await register.hear(0, messages)  # type: ignore[arg-type]


async def test_standings_go_where_murmur2_puts_the_account_and_ended_ones_are_remembered() -> None:
    register = Register(partitions=2)
    listener = Listener(register)

    await hear(register, said("ada", b"in", 5), said("cyd", b"in", 5), said("ada", None, 5))

    # murmur2 puts both on partition 1 of 2.
    assert listener.news == {1: [("ada", b"in"), ("cyd", b"in"), ("ada", None)]}
    assert register.of(1) == [("ada", None), ("cyd", b"in")]
    assert register.of(0) == []
    assert (len(register), register.term) == (1, 5)


async def test_whose_term_is_over_is_not_heard_and_what_holds_is_said_again() -> None:
    register = Register(partitions=1)
    listener = Listener(register)
    await hear(register, said("ada", b"now", 7), said("bob", None, 7))

    await hear(register, said("ada", b"long ago", 6), said("bob", b"long ago", 6), said("eve", b"long ago", 6))

    assert dict(register.of(0)) == {"ada": b"now", "bob": None, "eve": b"long ago"}
    assert listener.corrected == [("ada", b"now"), ("bob", None)]
    assert listener.news[0] == [("ada", b"now"), ("bob", None), ("eve", b"long ago")]


async def test_a_message_without_a_readable_term_is_the_oldest() -> None:
    register = Register(partitions=1)
    Listener(register)
    await hear(register, Message(b"ada", b"x", [("term", b"soon")]), Message(b"ada", b"y", []))
    assert register.of(0) == [("ada", b"y")]
    await hear(register, said("ada", b"z", 1))
    assert register.of(0) == [("ada", b"z")]


async def test_what_is_missing_for_exactly_these_to_be_in_force() -> None:
    register = Register(partitions=1)
    Listener(register)
    await hear(register, said("ada", b"1", 1), said("bob", b"1", 1), said("cyd", b"1", 1), said("dan", None, 1))

    missing = register.missing([("ada", b"1"), ("bob", b"2"), ("dan", b"1"), ("eve", None)])

    assert sorted(missing) == [("bob", b"2"), ("cyd", None), ("dan", b"1")]
