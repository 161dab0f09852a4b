"""Writes the pages that are made from the code: `python docs/generate.py`. A test compares them with what this would write."""

from __future__ import annotations

from pathlib import Path

from agentos.abi.op import Op, OpTable
from agentos.abi.ops import FAMILIES, builtin

HERE = Path(__file__).parent
OPS_HEAD = """# Built-in ops

Made from the op table by `python docs/generate.py`. `self`: every process may do it to itself without a capability.
Effect classes: `pure` no effect · `local` the store only, exactly once · `repeatable` outside, harmless to repeat · `keyed` outside,
with an idempotency key · `probeable` outside, the device can tell whether it happened · `once` outside, never repeated by itself.
Sinks are arguments through which data leaves: a policy's `allow` mentions each of them. Late attributes are known at the device and
decided again there. An op that this kernel has no device for is declared all the same, and refused when it is called.
"""


def resource_of(op: Op) -> str:
    """Return the templates of an op as the table shows them."""
    return ", ".join(f"{template.kind} `{template.text}`" for template in op.resources)


def remarks_of(op: Op) -> str:
    """Return what else a policy can know about an op."""
    attributes = {
        "sinks": sorted(op.sinks),
        "late": sorted(op.late),
        "derived": sorted(op.derived),
        "trusted": sorted(op.trusted),
    }
    remarks = [f"{name}: {', '.join(words)}" for name, words in attributes.items() if words]
    right = op.self_right
    return " · ".join([*(["self" if right is True else "self in its own place"] if right else []), *remarks])


def ops_page(table: OpTable) -> str:
    """Return docs/reference/ops.md."""
    lines = [OPS_HEAD]
    for family in FAMILIES:
        lines += [f"## {family}", "", "| op | effect | resource | remarks |", "| --- | --- | --- | --- |"]
        for op in table.matching(f"{family}.*"):
            usage = "" if op.usage == "no arguments" else op.usage.replace("|", "\\|")
            lines.append(f"| `{op.name}({usage})` | {op.effect} | {resource_of(op)} | {remarks_of(op)} |")
        lines.append("")
        lines += [f"- `{op.name}`: {' '.join(op.doc.split())}" for op in table.matching(f"{family}.*")]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


PAGES = {"reference/ops.md": lambda: ops_page(builtin())}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
