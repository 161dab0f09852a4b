"""The frame an ask is shown in: what agentos says stands outside, what the agent wrote inside, line by line behind a bar.

    ask 3  process 4 (triage:1) wants  fs.write
      rule    policies/triage.policy:15  "a person answers for what the report says"
      asked by  4 triage:1 < 1 base:1
    ┌ written by the agent
    │ path: /report.md
    └

INVARIANT frame-cannot-be-imitated: every line that an agent had a hand in starts with the bar and holds no control character, so text in
it can look like the frame but cannot stand where the frame stands.
"""

from __future__ import annotations

from typing import Any, Final

from agentos.kernel.ask import Ask
from agentos.shell import words
from agentos.shell.escape import block, line

__all__ = ["framed", "subject"]

_LINES_MAX: Final = 60
_CHARS_MAX: Final = 400
_TITLES: Final = {
    "approval": "wants", "question": "asks", "unknown_outcome": "does not know whether this happened:", "capability": "requests", "widening": "wants to widen",
}  # fmt: skip


def subject(ask: Ask) -> str:
    """Return what an ask is about, in one line."""
    if ask.kind == "question":
        return words.quoted(ask.args.get("question", ""), 60)
    summary = ask.preview.get("summary") if isinstance(ask.preview, dict) else None
    return f"{ask.op} {words.quoted(summary or ask.args, 60)}"


def framed(ask: Ask, *, lines_max: int = _LINES_MAX) -> list[str]:
    """Return the frame of an ask; the agent's part is cut to `lines_max` lines."""
    image = ask.lineage[0].partition(" ")[2] if ask.lineage else ""
    lines = [line(f"ask {ask.id}  process {ask.pid}" + (f" ({image})" if image else "") + f" {_TITLES.get(ask.kind, 'wants')}  {ask.op}")]
    if ask.rule:
        named = f"{ask.rule} ({ask.rule_name})" if ask.rule_name else ask.rule
        lines.append(line(f"  rule     {named}" + (f"  because {ask.because}" if ask.because else "")))
    if len(ask.lineage) > 1:
        lines.append(line(f"  lineage  {' < '.join(ask.lineage)}"))
    if ask.labels:
        lines.append(line(f"  labels   {', '.join(ask.labels)}"))
    lines.append("┌ written by the agent")
    lines += _barred(_said(ask), lines_max)
    lines.append("└")
    return lines


def _said(ask: Ask) -> list[str]:
    if ask.kind == "question":
        options = ask.args.get("options")
        return [str(ask.args.get("question", "")), *([f"options: {', '.join(map(str, options))}"] if options else [])]
    preview = ask.preview if isinstance(ask.preview, dict) else {}
    shown = [f"{name}: {_value(value)}" for name, value in ask.args.items() if value is not None and not _in_preview(name, preview)]
    for name in ("summary", "resolved", "resolved_to", "problem"):
        if preview.get(name):
            shown.append(f"{name}: {preview[name]}")
    if preview.get("diff"):
        shown += ["", str(preview["diff"]).rstrip("\n")]
        shown += ["(the difference is longer than what is shown)"] if preview.get("cut") else []
    elif ask.preview is not None and not preview:
        shown.append(_value(ask.preview))
    return shown


def _in_preview(name: str, preview: dict[str, Any]) -> bool:
    """Say whether the difference already shows an argument."""
    return bool(preview.get("diff")) and name in ("text", "data")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else words.quoted(value, 2_000)


def _barred(parts: list[str], lines_max: int) -> list[str]:
    lines = [each for part in parts for each in block(part).split("\n")]
    cut = [each if len(each) <= _CHARS_MAX else f"{each[:_CHARS_MAX]}..." for each in lines[:lines_max]]
    more = len(lines) - len(cut)
    return [f"│ {each}" for each in cut] + ([f"│ ... {more} more lines; `agentos asks ID` shows more"] if more > 0 else [])
