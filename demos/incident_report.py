"""Write the report of the triage demo: Markdown for people, every claim with its file and line.

What logs say is foreign text: it stands in code spans, where Markdown does not read it. Pure functions; the same verdict
gives the same report, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from incident_logs import BUCKET_S, SUSTAINED_HITS, SUSTAINED_SPAN_S, SUSTAINED_WINDOW_S
from incident_verdict import Finding, clock, timeline

_BARS = " .:-=+*#%@"
_COLUMNS_MAX = 60
_RULE = (
    f"A failure is *sustained* when the same message comes at least {SUSTAINED_HITS} times within {SUSTAINED_WINDOW_S:.0f} s, "
    f"spread over {SUSTAINED_SPAN_S:.0f} s or more. The earliest sustained failure wins."
)
_KINDS = {"starts": "**starts:** ", "last": "last of them: ", "mark": ""}


def render(findings: list[Finding], judged: dict[str, Any], refusals: list[dict[str, Any]], skipped: list[str]) -> str:
    """Return the whole report.

    Args:
        findings: One per file, years aligned.
        judged: What `incident_verdict.verdict` returned.
        refusals: `{worker, path, code, rule, seq}` of every call that a worker was refused.
        skipped: Names in the folder that no worker was started for.
    """
    parts = [
        _headline(judged),
        _why(judged),
        f"## Time line (UTC)\n\n{_timeline(findings, judged)}",
        f"## Errors over time\n\n{_chart(findings)}",
        "## Evidence, file by file\n\n" + "\n\n".join(_evidence(finding) for finding in findings),
        f"## Errors that did not last\n\n{_passing(findings)}",
        f"## What the workers could and could not touch\n\n{_touched(findings, refusals, skipped)}",
    ]
    return "\n\n".join(parts) + "\n"


def _headline(judged: dict[str, Any]) -> str:
    first = judged["first_failure"]
    if first is None:
        return "# No component failed for long"
    when = clock(first["at"], first["resolution_s"], date=True)
    evidence = f"{_said(first['text'])}\n\n({_place(first)}, {first['count']} times in all)"
    return f"# `{first['component']}` failed first, at {when} UTC\n\n{evidence}"


def _why(judged: dict[str, Any]) -> str:
    first, lines = judged["first_failure"], [_RULE]
    if first is None:
        return f"## How this was decided\n\n{_RULE}"
    if judged["quoted_by"]:
        lines.append(f"{_names(judged['quoted_by'])} repeat its words in their own messages: they pass on what they were told.")
    if judged["tied"]:
        lines.append(f"The clocks cannot tell it apart from {_names(judged['tied'])}; whose words the others repeat decided.")
    rows = [
        (f"{onset['at'] - first['at']:+.3f} s", f"`{onset['component']}`", _said(onset["text"]), _place(onset))
        for onset in judged["followers"]
    ]
    followers = _table(("after it", "component", "first sustained failure", "where"), rows)
    return f"## Why this one\n\n{' '.join(lines)}\n\n{followers if rows else 'Nothing else failed for long.'}"


def _timeline(findings: list[Finding], judged: dict[str, Any]) -> str:
    happened = timeline(findings, judged)
    rows = [(row["time"], f"`{row['component']}`", _KINDS[row["kind"]] + _said(row["text"]), _place(row)) for row in happened]
    return _table(("time", "component", "what", "where"), rows) if rows else "Nothing."


def _chart(findings: list[Finding]) -> str:
    stamps = [start for finding in findings for start, _ in finding["buckets"]]
    if not stamps:
        return "No errors."
    low, high = min(stamps), max(stamps)
    step = BUCKET_S * -(-(high - low + BUCKET_S) // (BUCKET_S * _COLUMNS_MAX))
    columns = (high - low) // step + 1
    sums: dict[str, list[int]] = {}
    for finding in findings:
        for start, count in finding["buckets"]:
            sums.setdefault(finding["component"], [0] * columns)[(start - low) // step] += count
    top = max(max(counts) for counts in sums.values())
    rows = [
        f"{name:>12} |{''.join(_bar(count, top) for count in counts)}| {sum(counts)}" for name, counts in sorted(sums.items())
    ]
    legend = f"{'':>12}  {clock(low)} to {clock(low + columns * step)}, {step} s a column, `@` is {top} errors"
    return "```text\n" + "\n".join([*rows, legend]) + "\n```"


def _bar(count: int, top: int) -> str:
    return _BARS[0] if not count else _BARS[1 + (len(_BARS) - 2) * count // top]


def _evidence(finding: Finding) -> str:
    if finding.get("unread"):
        return f"### `{finding['file']}`\n\nNot read (`{finding['unread']}`)."
    counts = ", ".join(f"{count} {level}" for level, count in finding["counts"].items() if count) or "no errors"
    formats = ", ".join(finding["formats"]) or "no time stamps"
    head = f"### `{finding['file']}`\n\nComponent `{finding['component']}`, {finding['lines']} lines ({formats}): {counts}."
    rows = [
        (str(pattern["count"]), "yes" if pattern["onset"] else "no", _moment(pattern["first"]), _moment(pattern["last"]),
         _said(pattern["first"]["text"]))
        for pattern in finding["patterns"]
    ]  # fmt: skip
    return f"{head}\n\n{_table(('times', 'sustained', 'first', 'last', 'message'), rows)}" if rows else head


def _passing(findings: list[Finding]) -> str:
    lines = [
        f"- {_moment(pattern['first'])} of `{finding['component']}`, {pattern['count']} in all: {_said(pattern['first']['text'])}"
        for finding in findings
        for pattern in finding["patterns"]
        if pattern["onset"] is None
    ]
    return "\n".join(lines) or "Nothing."


def _touched(findings: list[Finding], refusals: list[dict[str, Any]], skipped: list[str]) -> str:
    lines = [
        f"- one worker could read `{finding['file']}` and no other file" for finding in findings if not finding.get("unread")
    ]
    lines += [
        f"- nobody was started for `{_plain(name)}`: its name would not be plain text in a capability" for name in skipped
    ]
    rows = [
        (
            f"`{entry['worker']}`",
            f"`fs.read {entry['path']}`",
            f"`{entry['code']}`",
            entry["rule"] or "-",
            str(entry["seq"] or "-"),
        )
        for entry in refusals
    ]
    refused = _table(("worker of", "tried", "answer", "rule", "journal"), rows) if rows else "No worker was refused anything."
    return "\n".join(lines) + f"\n\n{refused}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _place(entry: dict[str, Any]) -> str:
    return f"`{entry['file'].rsplit('/', 1)[-1]}:{entry['line']}`"


def _moment(entry: dict[str, Any]) -> str:
    return f"{clock(entry['at'], entry['resolution_s'])} line {entry['line']}"


def _said(text: str, width: int = 140) -> str:
    return f"`{_plain(text if len(text) <= width else text[: width - 1] + '…')}`"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text).replace("`", "'") or " "


def _names(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}"
