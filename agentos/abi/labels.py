"""Labels carried by values: confidentiality and integrity, packed in an int so that join is one bitwise or.

    bit 0  at least internal        bit 2  untrusted
    bit 1  secret (bit 0 set too)

INVARIANT labels-join: the label of a derived value contains every bit of every source; no operation here clears a bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentos.errors import Invalid

__all__ = ["INTERNAL", "PUBLIC", "SECRET", "UNTRUSTED", "join", "names", "parse"]

PUBLIC = 0b000
INTERNAL = 0b001
SECRET = 0b011
UNTRUSTED = 0b100

_BY_NAME = {"public": PUBLIC, "internal": INTERNAL, "secret": SECRET, "trusted": PUBLIC, "untrusted": UNTRUSTED}


def join(*labels: int) -> int:
    """Return the least label that is at least as restrictive as each of `labels`."""
    joined = PUBLIC
    for label in labels:
        joined |= label
    return joined


def names(label: int) -> list[str]:
    """Return the words of a label, strictest level first; a public, trusted value has none."""
    words = ["secret"] if label & SECRET == SECRET else ["internal"] if label & INTERNAL else []
    return [*words, "untrusted"] if label & UNTRUSTED else words


def parse(words: Iterable[str]) -> int:
    """Return the label that `words` name.

    Raises:
        Invalid: `invalid.argument`, a word is not one of public, internal, secret, trusted, untrusted.
    """
    label = PUBLIC
    for word in words:
        if word not in _BY_NAME:
            raise Invalid("argument", f"`{word}` is not a label", hint=f"use one of {', '.join(_BY_NAME)}", field="labels")
        label |= _BY_NAME[word]
    return label
