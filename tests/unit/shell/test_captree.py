"""Capabilities drawn as trees."""

from __future__ import annotations

from agentos.abi.values import CapInfo
from agentos.shell.captree import drawn, expiry, passes_to, related


def cap(handle: int, pid: int, parent: int | None = None, **more: object) -> CapInfo:
    chain = ("host", *(f"pid {pid} cap {parent}" for _ in [0] if parent), f"pid {pid} cap {handle}")
    given = {"uses_left": None, "expires": None, "depth": None, "origin": "host", "chain": chain, **more}
    return CapInfo(handle, pid, ("fs.read",), (), "fs.read", parent=parent, **given)  # type: ignore[arg-type]


CAPS = [cap(1, 1), cap(2, 2, 1, uses_left=3), cap(3, 3, 2, expires=60.0), cap(4, 4, 1, depth=2, passes_to="anyone"), cap(5, 5)]


def test_each_capability_stands_below_what_it_was_derived_from() -> None:
    assert drawn(CAPS, 0.0) == [
        "host -> pid 1 cap 1  fs.read  (passes to descendants)",
        "|- pid 2 cap 2  fs.read  (3 uses left, passes to descendants)",
        "|  `- pid 3 cap 3  fs.read  (in 1m, passes to descendants)",
        "`- pid 4 cap 4  fs.read  (passes to anyone, 2 deep)",
        "host -> pid 5 cap 5  fs.read  (passes to descendants)",
    ]


def test_the_tree_of_one_process_has_its_ancestors_and_descendants_only() -> None:
    assert [found.id for found in related(CAPS, 2)] == [1, 2, 3]
    assert [found.id for found in related(CAPS, 4)] == [1, 4]
    assert related(CAPS, None) == CAPS
    assert related(CAPS, 9) == []


def test_what_is_over_and_what_nobody_gets_is_said() -> None:
    assert expiry(cap(1, 1, expires=5.0), 5.0) == "expired"
    assert expiry(cap(1, 1, expires=500.0, state="expired"), 5.0) == "expired"
    assert (expiry(cap(1, 1), 5.0), passes_to(cap(1, 1, depth=0, passes_to="nobody"))) == ("", "nobody")
