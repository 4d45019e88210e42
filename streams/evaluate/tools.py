"""Tools: attacks that were recorded where somebody ran a tool for real, played among the arena's honest accounts.

A recording holds requests as a gateway emits them, one JSON message a line. Only its instants are moved: it begins when
the arena's attacks do.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.request import Request, UnreadableError, decode

from ..replay import Recording

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def recordings_in(folder: Path) -> list[Path]:
    """The recordings in a folder, by name. ValueError where there is none."""
    found = sorted(path for path in folder.glob("*.jsonl*") if path.name.endswith(SUFFIXES))
    if not found:
        raise ValueError(f"{folder}: no recording; they end in {', '.join(SUFFIXES)}")
    return found


def tool_name(path: Path) -> str:
    """What a recording is called in reports: its file's name up to `.jsonl`."""
    return path.name.partition(".jsonl")[0]


def moved(path: Path, begins_at: int, end_at: int) -> Iterator[Request]:
    """The requests of a recording in time order, the first at `begins_at`, none from `end_at` on (ms).

    Raises ValueError with file and line for what is no request, RecordingError for a file that cannot be read.
    """
    requests = []
    for number, line in enumerate(Recording([path]), 1):
        if line.strip():
            try:
                requests.append(decode(line))
            except UnreadableError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    requests.sort(key=lambda request: request.at)
    for request in requests:
        shift = begins_at - requests[0].at
        if request.at + shift >= end_at:
            return
        opened_at = None if request.opened_at is None else request.opened_at + shift
        yield msgspec.structs.replace(request, at=request.at + shift, opened_at=opened_at)
