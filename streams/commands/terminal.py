"""Terminal: how commands speak to the person in front of them, and how they end."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT: Final = 2
"""Exit status for what the caller can mend: a wrong option, file, policy or setting. Failures exit with 1."""


def fail(message: object, status: int = 1) -> NoReturn:
    """End with one sentence on standard error."""
    click.echo(f"stillwatch: {message}", err=True)
    sys.exit(status)


def console() -> "Console":
    """Where tables go."""
    from rich.console import Console

    # A pipe has no width; 80 columns would break every line.
    return Console(width=None if sys.stdout.isatty() else 160)


def opened(stack: ExitStack, path: Path | None) -> BinaryIO | None:
    """A file to write, closed with the stack; None where none is wanted. Ends the command when it cannot be opened."""
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("wb"))
    except OSError as error:
        fail(f"{path}: {error.strerror}", BAD_INPUT)


def instant(at: int) -> str:
    """An instant (ms UTC) for a person."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
