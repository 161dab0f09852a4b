"""Put the findings of all files together: which component failed first, and what followed.

Rule of decision: of all *sustained* failures (`incident_logs.sustained`) the earliest wins. A stamp with a resolution of one
second may hide an event up to a second later than it says, so every stamp counts as the latest time it can stand for. Where
the clock cannot tell two components apart, the one whose words the others repeat comes first: a service that logs `order
not stored: could not extend file` says what the database said.

Pure functions over the plain data of the findings; sorted everywhere, so the same findings give the same verdict.
"""

from __future__ import annotations

import calendar
import time
from typing import Any

from incident_logs import YEARLESS

Finding = dict[str, Any]


def align_years(findings: list[Finding]) -> list[Finding]:
    """Give the times of files that state no year the year of the files that do (1970 when no file does)."""
    years = [time.gmtime(finding["first"]).tm_year for finding in findings if finding["first"] and not finding["yearless"]]
    year = min(years, default=1970)
    return [_moved(finding, year) if finding["yearless"] else finding for finding in findings]


def _moved(finding: Finding, year: int) -> Finding:
    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shift(inner) if key == "at" else move(inner) for key, inner in value.items()}
        return [move(inner) for inner in value] if isinstance(value, list) else value

    def shift(at: float) -> float:
        was = time.gmtime(at)
        return calendar.timegm((year, *was[1:6])) + at % 1 if was.tm_year == YEARLESS else at

    ends = {key: shift(finding[key]) for key in ("first", "last") if finding[key] is not None}
    buckets = [[int(shift(start)), count] for start, count in finding["buckets"]]
    return {**move(finding), **ends, "buckets": buckets}


def sustained_patterns(findings: list[Finding]) -> list[tuple[Finding, dict[str, Any]]]:
    """Return every sustained failure with the finding it is from."""
    return [(finding, pattern) for finding in findings for pattern in finding["patterns"] if pattern["onset"] is not None]


def onsets(findings: list[Finding]) -> list[dict[str, Any]]:
    """Return each component's earliest sustained failure, earliest first: `{component, file, at, resolution_s, line, text...}`."""
    found: dict[str, dict[str, Any]] = {}
    for finding, pattern in sustained_patterns(findings):
        onset = {**pattern["onset"], "component": finding["component"], "file": finding["file"], "count": pattern["count"]}
        onset |= {"signature": pattern["signature"], "known_at": onset["at"] + onset["resolution_s"]}
        found[onset["component"]] = min(found.get(onset["component"], onset), onset, key=_by_time)
    return sorted(found.values(), key=_by_time)


def _by_time(onset: dict[str, Any]) -> tuple[float, str, int]:
    return onset["known_at"], onset["file"], onset["line"]


def quoting(onset: dict[str, Any], findings: list[Finding]) -> list[str]:
    """Return the other components whose messages contain this one's inside something longer: they heard of it from there."""
    said = onset["signature"]
    return sorted(
        {
            finding["component"]
            for finding in findings
            for pattern in finding["patterns"]
            if said in pattern["signature"] and said != pattern["signature"] and finding["component"] != onset["component"]
        }
    )


def verdict(findings: list[Finding]) -> dict[str, Any]:
    """Return `{component, first_failure, followers, quoted_by, tied}`; component None when nothing failed for long."""
    ranked = onsets(findings)
    if not ranked:
        return {"component": None, "first_failure": None, "followers": [], "quoted_by": [], "tied": []}
    together = [onset for onset in ranked if onset["at"] < ranked[0]["known_at"]]
    first = min(together, key=lambda onset: (-len(quoting(onset, findings)), *_by_time(onset)))
    return {
        "component": first["component"],
        "first_failure": first,
        "followers": [onset for onset in ranked if onset is not first],
        "quoted_by": quoting(first, findings),
        "tied": [onset["component"] for onset in together if onset is not first],
    }


def timeline(findings: list[Finding], judged: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what happened, in order; at the same instant the component that failed first comes first.

    Each row is `{at, time, component, kind, text, file, line}`; kind is ``starts`` (of a sustained failure), ``mark`` (a restart, a
    recovery, a killed process) or ``last`` (the last error of a file that had a sustained failure).
    """
    rows = [_row(finding, pattern["onset"], "starts") for finding, pattern in sustained_patterns(findings)]
    rows += [_row(finding, mark, "mark") for finding in findings for mark in finding["marks"]]
    for finding in findings:
        ends = [pattern["last"] for pattern in finding["patterns"] if pattern["onset"] is not None]
        if ends:
            rows.append(_row(finding, max(ends, key=lambda entry: (entry["at"], entry["line"])), "last"))
    return sorted(rows, key=lambda row: (row["at"], row["component"] != judged["component"], row["file"], row["line"]))


def _row(finding: Finding, entry: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "at": entry["at"],
        "time": clock(entry["at"], entry["resolution_s"]),
        "component": finding["component"],
        "kind": kind,
        "text": entry["text"],
        "file": finding["file"],
        "line": entry["line"],
    }


def clock(at: float, resolution_s: float = 1.0, *, date: bool = False) -> str:
    """Return a time in UTC as a person reads it, in milliseconds where its source had them."""
    whole, thousandths = divmod(round(at * 1000), 1000)
    text = time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", time.gmtime(whole))
    return text if resolution_s >= 1 else f"{text}.{thousandths:03d}"
