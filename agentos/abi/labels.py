"""Labels carried by values: confidentiality and integrity, packed in an int so that join is one bitwise or.

    bit 0  at least internal        bit 2  untrusted
    bit 1  secret (bit 0 set too)

In a journal row the bits above `CARRIED_SHIFT` repeat the part of a result's label that the value carried in itself (an object, a message,
a file), apart from what is known of its fields; an index of values is read again from there.

INVARIANT labels-join: the label of a derived value contains every bit of every source; no operation here clears a bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentos.errors import Invalid

__all__ = ["INTERNAL", "LEVELS", "PUBLIC", "SECRET", "UNTRUSTED", "carried", "join", "level", "names", "pack", "parse"]

PUBLIC = 0b000
INTERNAL = 0b001
SECRET = 0b011
UNTRUSTED = 0b100

LEVELS = ("public", "internal", "secret")
"""Confidentiality, in order."""
CARRIED_SHIFT = 16

_BY_NAME = {"public": PUBLIC, "internal": INTERNAL, "secret": SECRET, "trusted": PUBLIC, "untrusted": UNTRUSTED}


def join(*labels: int) -> int:
    """Return the least label that is at least as restrictive as each of `labels`."""
    joined = PUBLIC
    for label in labels:
        joined |= label
    return joined


def level(label: int) -> int:
    """Return the confidentiality of a label: an index into LEVELS."""
    return 2 if label & SECRET == SECRET else label & INTERNAL


def pack(label: int, own: int) -> int:
    """Return the label of a row whose result carried `own` in itself."""
    return label | own | own << CARRIED_SHIFT


def carried(packed: int) -> int:
    """Return what the result of a row carried in itself."""
    return packed >> CARRIED_SHIFT


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
