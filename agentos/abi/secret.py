"""References to secrets: the text ``{{secret:NAME}}``, alone or within a longer one. It names a value, and grants nothing."""

from __future__ import annotations

import re
from typing import Final

from agentos.errors import Invalid

__all__ = ["MARKER", "REFERENCE", "Secret", "secret_name"]

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
REFERENCE: Final = re.compile(r"\{\{secret:([A-Z][A-Z0-9_]{0,63})\}\}")
MARKER: Final = b"{{secret:"
"""What the bytes of every value with a reference in it hold."""


def secret_name(name: str) -> str:
    """Return the name of a secret.

    Raises:
        Invalid: it is none: capital letters, digits and ``_``, 64 at most, a letter first.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = "use capital letters, digits and `_`, 64 at most, a letter first"
        raise Invalid("argument", f"`{str(name)[:80]!r}` is no name of a secret", hint=hint, field="name")
    return name


class Secret(str):
    """A reference to a secret: text, so that it stands wherever text does; a device alone gets what it stands for.

    Args:
        name: Capital letters, digits and ``_``.

    Raises:
        Invalid: `invalid.argument`, a malformed name. Whether there is such a secret is found out by the call that uses it.
    """

    __slots__ = ("name",)
    name: str

    def __new__(cls, name: str) -> Secret:
        """Make the reference."""
        made = super().__new__(cls, f"{{{{secret:{secret_name(name)}}}}}")
        made.name = name
        return made

    def __wire__(self) -> str:
        """Return the plain text: what is stored and sent."""
        return str.__str__(self)

    def __repr__(self) -> str:
        """Return how it was made."""
        return f"agentos.Secret({self.name!r})"
