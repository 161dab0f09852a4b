"""Named points in the runtime where a test may stop it: `reached("fs.write.renamed")`.

Rooms call `reached` around every append, commit and effect. Nothing listens unless a test says so (`agentos.testing.crash`), and
then costs one global check. This is not logging: points carry no data.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["reached", "set_probe"]

_probe: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Tell the listener, if there is one, that the point `name` was reached. Any thread; what the listener raises passes."""
    if _probe is not None:
        _probe(name)


def set_probe(probe: Callable[[str], None] | None) -> None:
    """Make `probe` the listener of this interpreter; None removes it."""
    global _probe  # noqa: PLW0603 - one listener per interpreter is the point
    _probe = probe
