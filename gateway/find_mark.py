"""Find a mark: `python -m stillwatch_gateway.find_mark --secret-file F --subject campaign:c-17 texts.jsonl`.

Each line of the file is one text that a suspect wrote, as a JSON array of token ids of the marked model's tokenizer,
without its prompt. Prints a line for each subject: its p-value, corrected for how many were tried, and the counts.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from .countermeasures import mark_key
from .detect import Evidence, Mark, attribute
from .green import Green
from .tournament import Tournament

KINDS: Final[dict[str, type[Green] | type[Tournament]]] = {"green": Green, "tournament": Tournament}

_decoder: Final = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]])


class TextsError(ValueError):
    """A file of texts that cannot be used; the message names the file and the line."""


def texts_of(path: Path) -> list[list[int]]:
    """The texts of a file. Raises TextsError for a line that is no array of token ids, OSError without the file."""
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TextsError(f"{path}:{number}: not an array of token ids: {error}") from error
    return found


def told(subject: str, found: Evidence) -> str:
    """One line of the answer."""
    p = f"{found.p_value:.3g}" if found.log10_p > -300 else f"10^{found.log10_p:.0f}"
    return f"{subject}\tp {p}\t{found.successes:,} of {found.trials:,}, {found.trials * found.chance:,.0f} by chance\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer what is asked on the command line; 2 when it cannot be."""
    parser = argparse.ArgumentParser(prog="find_mark", description="Look for a watermark in many texts.")
    parser.add_argument("texts", type=Path, help="one JSON array of token ids a line")
    parser.add_argument("--secret-file", type=Path, required=True, help="as in STILLWATCH_SECRET_FILE")
    parser.add_argument("--subject", action="append", required=True, help="campaign:NAME or account:NAME; may repeat")
    parser.add_argument("--kind", choices=list(KINDS), default="green")
    parser.add_argument("--served", type=Path, help="texts served under the mark: only their contexts count")
    asked = parser.parse_args(arguments)
    try:
        secret = asked.secret_file.read_text("utf-8").rstrip("\r\n")
        texts = texts_of(asked.texts)
        served = texts_of(asked.served) if asked.served is not None else None
    except (OSError, UnicodeDecodeError, TextsError) as error:
        sys.stderr.write(f"find_mark: {error}\n")
        return 2
    marks: dict[str, Mark] = {each: KINDS[asked.kind](mark_key(secret, each)) for each in asked.subject}
    for subject, found in attribute(marks, texts, served).items():
        sys.stdout.write(told(subject, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
