"""Process: what a command runs in, its settings and what suits a stream."""

import gc
import os
import sys
from typing import TYPE_CHECKING

from .terminal import BAD_INPUT, fail

if TYPE_CHECKING:
    from ..settings import Settings


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
