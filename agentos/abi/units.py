"""Units that people write: ``30m`` is seconds, ``1GiB`` is bytes. One table for manifests, capabilities and the command line."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from agentos.abi.limits import GIB, KIB, MIB

__all__ = ["parse_duration_s", "parse_size_bytes"]

_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES: Final = {
    "B": 1,
    "KB": KIB,
    "KiB": KIB,
    "MB": MIB,
    "MiB": MIB,
    "GB": GIB,
    "GiB": GIB,
    "TB": 1024 * GIB,
    "TiB": 1024 * GIB,
}
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]{1,3})")


def parse_duration_s(text: str) -> float:
    """Return the seconds that ``30s``, ``4h`` or ``1h30m`` mean. Units: ms, s, m, h, d, w, each at most once, largest first.

    Raises:
        ValueError: not a duration.
    """
    parts = [(match.group(1), match.group(2)) for match in _PART.finditer(text)]
    sizes = [_DURATIONS[unit] for _, unit in parts]
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"`{text}` is not a duration such as `30s`, `10m`, `4h` or `1h30m`")
    if any(left <= right for left, right in pairwise(sizes)):
        raise ValueError(f"`{text}` names its units out of order or twice")
    return sum(float(number) * _DURATIONS[unit] for number, unit in parts)


def parse_size_bytes(text: str) -> int:
    """Return the bytes that ``512KiB``, ``1.5MB`` or ``1GiB`` mean. Units are powers of 1024 with and without the ``i``.

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match.group(2) not in _SIZES:
        raise ValueError(f"`{text}` is not a size such as `64KB`, `512MiB` or `1GiB`")
    return int(float(match.group(1)) * _SIZES[match.group(2)])
