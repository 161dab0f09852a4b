"""Exception groups: what a task group raises, flat. Several tasks may end of the same thing at once."""

from __future__ import annotations

__all__ = ["leaves"]


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors inside a group, however deep, in order; an error that is no group is its own only leaf."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
