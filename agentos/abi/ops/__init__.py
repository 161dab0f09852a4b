"""The built-in op table, one module per family (`agentos.abi.ops.fs` declares `fs.*`). Declarations only: nothing here runs.

Families are imported when the table is built. An op without a handler is still declared, so that policies and capabilities can
name it; the broker refuses to call it.
"""

from __future__ import annotations

from importlib import import_module

from agentos.abi.op import OpTable

__all__ = ["FAMILIES", "builtin"]

FAMILIES = (
    "proc", "msg", "obj", "mem", "cap", "ckpt", "image", "tool", "skill", "human", "clock", "fs", "exec", "net", "llm", "py",
    "git", "policy", "secret",
)  # fmt: skip
_MODULES = {"exec": "exec_", "py": "py_"}


def builtin() -> OpTable:
    """Return a new table with every built-in op."""
    families = (import_module(f"{__name__}.{_MODULES.get(name, name)}").FAMILY for name in FAMILIES)
    return OpTable(op for family in families for op in family.ops)
