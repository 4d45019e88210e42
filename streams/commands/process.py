"""Process: what a command runs in, its settings and what suits a stream."""

import gc
import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar

from .terminal import BAD_INPUT, fail

if TYPE_CHECKING:
    from ..settings import Settings

T = TypeVar("T")


def settle() -> None:
    """Fit this process to a stream, before numpy is loaded."""
    # The models' matrices are 18 by 18: threads cost more than they bring.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A micro-batch makes thousands of objects and no cycles; looking for some took a third of the time.
    gc.set_threshold(100_000, 50, 50)
    # The thread that fetches must not wait 5 ms for each of its many short turns.
    sys.setswitchinterval(0.0002)


def settings_in_force() -> "Settings":
    """What the environment says. Ends the command when it says something unknown or impossible."""
    from ..settings import Settings, SettingsError

    try:
        return Settings.read(os.environ)
    except SettingsError as error:
        fail(error, BAD_INPUT)


def asked(where: "Settings", work: Coroutine[None, None, T]) -> T:
    """What comes of work on the brokers of `where`. Ends the command when they, or the topics there, fail it."""
    import asyncio

    from aiokafka.errors import KafkaError

    from ..topics import TopicsError

    try:
        return asyncio.run(work)
    except TopicsError as error:
        fail(error)
    except (KafkaError, OSError) as error:
        fail(f"{where.brokers}: {error}")
