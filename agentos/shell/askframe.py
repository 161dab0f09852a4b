"""The frame an ask is shown in: what agentos says stands outside, what the agent wrote inside, line by line behind a bar.

    ask 3  process 4 (triage:1) wants  fs.write
      rule    policies/triage.policy:15  "a person answers for what the report says"
      asked by  4 triage:1 < 1 base:1
    ┌ written by the agent
    │ path: /report.md
    └
    ┌ a wider scope stores this rule, with the agent's values
    │ allow fs.write "/report.md" when path == "/report.md" and mode == "replace" and ... any text, data
    └

What a rule lets a person choose, and which recent calls its offer would have covered, stands below that. The target as it is now belongs
to this one approval; no wider scope looks at it.

Inside, every value starts on a line of its own; its further lines are indented, and a line that is too long goes on behind a dotted bar
(`┊`). So a text cannot pass for another argument of its call, nor for the summary.

INVARIANT frame-cannot-be-imitated: every line that an agent had a hand in starts with the bar, holds no control character and is no
wider than the terminal, so text in it can look like the frame but cannot stand where the frame stands.
"""

from __future__ import annotations

import shutil
from typing import Any, Final, TextIO

from agentos.kernel.ask import Ask
from agentos.shell import words
from agentos.shell.escape import block, line, wrapped

__all__ = ["ALL_LINES", "LINES_MAX", "columns_of", "framed", "may_widen", "offered", "subject"]

LINES_MAX: Final = 60
ALL_LINES: Final = 20_000
"""More than any ask has."""
_CHARS_MAX: Final = 400
_BAR: Final = "│ "
_DOTTED: Final = "┊ "
_INDENT: Final = "    "
_LEADS_TO: Final = ("resolved", "resolved_to", "problem")
_TITLES: Final = {
    "approval": "wants", "question": "asks", "unknown_outcome": "does not know whether this happened:", "capability": "requests",
    "widening": "wants to widen",
}  # fmt: skip


def columns_of(stream: TextIO) -> int:
    """Return how wide a frame on that stream may be: a terminal would break a wider line itself, and what it breaks has no bar."""
    return shutil.get_terminal_size().columns if stream.isatty() else _CHARS_MAX


def subject(ask: Ask) -> str:
    """Return what an ask is about, in one line."""
    if ask.kind == "question":
        return words.quoted(ask.args.get("question", ""), 60)
    summary = ask.preview.get("summary") if isinstance(ask.preview, dict) else None
    return f"{ask.op} {words.quoted(summary or ask.args, 60)}"


def framed(ask: Ask, *, lines_max: int = LINES_MAX, columns: int = _CHARS_MAX) -> list[str]:
    """Return the frame of an ask; the agent's part is cut to `lines_max` lines of at most `columns` columns."""
    image = ask.lineage[0].partition(" ")[2] if ask.lineage else ""
    lines = [
        line(
            f"ask {ask.id}  process {ask.pid}"
            + (f" ({image})" if image else "")
            + f" {_TITLES.get(ask.kind, 'wants')}  {ask.op}"
        )
    ]
    if ask.rule:
        named = f"{ask.rule} ({ask.rule_name})" if ask.rule_name else ask.rule
        said = line(f"rule     {named}" + (f"  because {ask.because}" if ask.because else ""))
        lines += [f"  {part}" for part in wrapped(said, max(columns - 2, 20), at_spaces=True)]
    if len(ask.lineage) > 1:
        lines.append(line(f"  lineage  {' < '.join(ask.lineage)}"))
    if ask.labels:
        lines.append(line(f"  labels   {', '.join(ask.labels)}"))
    if ask.irreversible:
        lines.append("  effect   irreversible: nothing takes it back")
    if ask.created and ask.expires:
        lines.append(f"  expires  {words.span(ask.expires - ask.created)} after it was asked, at {words.clock(ask.expires)}")
    if ask.batch:
        lines.append(line(f"  batch    {ask.batch}"))
    lines.append("┌ written by the agent")
    lines += _barred(_said(ask), f"see `agentos asks {ask.id}`", lines_max, columns)
    lines.append("└")
    return lines


def may_widen(ask: Ask) -> bool:
    """Say whether a person may choose a scope wider than this one call."""
    return bool(ask.offer) and set(ask.scopes) > {"once"}


def offered(ask: Ask, *, columns: int = _CHARS_MAX) -> list[str]:
    """Return what a wider scope would store and what that would have covered; nothing where no wider scope may be chosen."""
    if not may_widen(ask):
        return []
    lines = ["┌ a wider scope stores this rule, with the agent's values"]
    lines += _barred([line(ask.offer)], f"see `agentos asks {ask.id} -o json`", LINES_MAX, columns)
    lines.append("└")
    lines.append(
        "  what the target holds by then is not looked at" if isinstance(ask.preview, dict) and "op" not in ask.preview else ""
    )
    lines.append("  recent calls it would have covered" + (":" if ask.would_cover else ": none is known"))
    shown = [f"{each['seq']} pid {each['pid']} {each['op']} {each['resource']}" for each in ask.would_cover]
    lines += _barred(shown, "and so on", LINES_MAX, columns)
    lines.append(line(f"  scopes   {', '.join(ask.scopes)}" + (" or a duration such as 8h" if "tree" in ask.scopes else "")))
    return [each for each in lines if each]


def _said(ask: Ask) -> list[str]:
    if ask.kind == "question":
        options = ask.args.get("options")
        said = block(ask.args.get("question", "")).replace("\n", f"\n{_INDENT}")
        return [said, *([_named("options", ", ".join(map(str, options)))] if options else [])]
    preview = ask.preview if isinstance(ask.preview, dict) else {}
    is_request = preview.get("op") == ask.op and "args" in preview
    shown = [_named("question", ask.question)] if ask.question else []
    shown += [_named(name, preview[name]) for name in ("resource", "cwd") if is_request and name in preview]
    shown += [_named(name, value) for name, value in ask.args.items() if value is not None and not _in_preview(name, preview)]
    if is_request:
        return shown
    known = ask.args.values()
    shown += [_named("summary", preview["summary"])] if preview.get("summary") else []
    shown += [_named(name, preview[name]) for name in _LEADS_TO if preview.get(name) and preview[name] not in known]
    if preview.get("diff"):
        shown += ["(the difference is longer than what is shown)"] if preview.get("cut") else []
        shown += ["", str(preview["diff"]).rstrip("\n")]
    elif preview.get("before") and preview.get("before") == preview.get("after"):
        shown.append("(this is what the file holds already)")
    elif ask.preview is not None and not preview:
        shown.append(_value(ask.preview))
    return shown


def _in_preview(name: str, preview: dict[str, Any]) -> bool:
    """Say whether the difference already shows an argument."""
    return "diff" in preview and name in ("text", "data")


def _named(name: str, value: Any) -> str:
    """Return a value with its name; only the first line starts where names stand."""
    return f"{line(name)}: {block(_value(value))}".replace("\n", f"\n{_INDENT}")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else words.quoted(value, 2_000)


def _barred(said: list[str], rest: str, lines_max: int, columns: int) -> list[str]:
    width = max(columns - len(_BAR), 20)
    lines: list[str] = []
    for each in (each for part in said for each in block(part).split("\n")):
        pieces = wrapped(each, width, at_spaces=True)
        lines.append(_BAR + next(pieces))
        lines += [_DOTTED + piece for piece in pieces]
    more = len(lines) - lines_max
    return [*lines[:lines_max], f"{_BAR}... {more} more lines; {rest}"] if more > 0 else lines
