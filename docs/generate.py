"""Writes the pages that are made from the code: `python docs/generate.py`. A test compares them with what this would write.

No page holds a line number, so moving code changes none of them.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from agentos.abi.op import Op, OpTable
from agentos.abi.ops import FAMILIES, builtin

HERE = Path(__file__).parent
ROOT = HERE.parent
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


INVARIANTS_HEAD = """# Invariants

Made from the lines `INVARIANT name:` in the code by `python docs/generate.py`. Each stands at the module or class that owns it, with
assertions that are kept on. Below it: the files with tests that bear its name. A law without such a test fails
`tests/unit/test_tidy.py`. What a law does not promise is in [the caveats](../concepts/caveats.md).
"""
INVARIANT = re.compile(r"INVARIANT ([a-z][a-z0-9-]+): (.*?)(?=\n\s*\n|\n\s*INVARIANT |\n\s*Source:|\Z)", re.DOTALL)


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of a file's module, classes and functions; the module has no name."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "name", ""), ast.get_docstring(node) or ""


def invariants() -> dict[str, list[tuple[str, str]]]:
    """Return law -> (file, what it says there), sorted."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in sorted((ROOT / "agentos").rglob("*.py")):
        for _, text in docstrings(path):
            for name, says in INVARIANT.findall(text):
                found[name].append((path.relative_to(ROOT).as_posix(), " ".join(says.split())))
    return dict(sorted(found.items()))


def proofs() -> dict[str, str]:
    """Return test file -> every name and docstring in it, spelt like laws."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {
        path.relative_to(ROOT).as_posix(): "\n".join(f"{name}\n{text}" for name, text in docstrings(path)).replace("_", "-")
        for path in files
    }


def link(file: str) -> str:
    """Return a link from a reference page to a file of the project."""
    return f"[`{file}`](../../{file})"


def invariants_page() -> str:
    """Return docs/reference/invariants.md."""
    tested = proofs()
    lines = [INVARIANTS_HEAD]
    for name, owners in invariants().items():
        lines += [f"## {name}", "", *(f"- {link(file)}: {says}" for file, says in owners)]
        files = ", ".join(link(file) for file, text in tested.items() if name in text)
        lines += ["", f"Tested in {files or 'nothing yet'}.", ""]
    return "\n".join(lines).rstrip() + "\n"


PAGES = {"reference/ops.md": lambda: ops_page(builtin()), "reference/invariants.md": invariants_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
