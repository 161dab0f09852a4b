"""What a step's effect acts upon: a file of lines, each synced before the effect returns, which is the truth after a kill.

``effect 12 KEY`` is one line. A target that takes keys does nothing when the key is there already, as a bank would.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Tally", "Target", "tally"]


class Target:
    """The file, opened by the program under test."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path = path

    def act(self, number: int, key: str = "") -> int:
        """Do effect `number`, unless `key` says that it was done; returns the number."""
        if not key or key not in {line.split()[1] for line in _lines(self._path) if " " in line}:
            os.write(self._file, f"{number} {key}\n".encode())
            os.fsync(self._file)
        return number

    def has(self, number: int) -> bool:
        """Tell whether effect `number` was done: what a person sees who looks."""
        return any(line.split()[0] == str(number) for line in _lines(self._path))


@dataclass(frozen=True, slots=True)
class Tally:
    """Effects of one run: how many were done, how many of them again, and how many never."""

    done: int
    repeated: int
    lost: int


def tally(path: Path, wanted: int) -> Tally:
    """Count what a run did that had to do effects 0 to `wanted` - 1 once each."""
    seen = Counter(int(line.split()[0]) for line in _lines(path))
    return Tally(seen.total(), seen.total() - len(seen), wanted - len(seen))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
