"""Read any text log: which lines carry a time, how bad each is, and which failures repeat.

    text -> entries (time, resolution, severity, signature, line number) -> finding (plain data, what a worker publishes)

Known time stamps: PostgreSQL, nginx access, nginx error, ISO 8601 (text or JSON lines), syslog. A format is recognised line
by line, so mixed files work; lines without a time belong to the entry before them. A time without a zone is read as UTC.

Pure functions: the same text always gives the same finding. Not here: comparing files (`incident_report`), and any I/O.
"""

from __future__ import annotations

import calendar
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

BUCKET_S = 10
SUSTAINED_HITS = 3  # a sustained failure: this many entries of one signature
SUSTAINED_WINDOW_S = 30.0  # within this time,
SUSTAINED_SPAN_S = 5.0  # over at least this time. Fewer are noise; a burst that is over at once is a hiccup
PATTERNS_MAX = 24
MARKS_MAX = 12
TEXT_CHARS_MAX = 200
YEARLESS = 1972  # the year that syslog times get until another file tells; a leap year, so that 29 February exists

INFO, WARNING, ERROR, FATAL = range(4)
LEVELS = ("info", "warning", "error", "fatal")
_WORDS = {"WARN": WARNING, "WARNING": WARNING, "ERR": ERROR, "ERROR": ERROR, "SEVERE": ERROR}
_WORDS |= dict.fromkeys(("FATAL", "PANIC", "CRITICAL", "CRIT", "ALERT", "EMERG"), FATAL)
_ALARMING = ("terminated by signal", "out of memory", "oom-kill", "segfault", "core dumped")
_MARKS = (*_ALARMING, "ready to accept", "reinitializing", "automatic recovery", "listening", "healthy again", "shutting down")
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One stamped line. `at` in seconds since the epoch; the event happened in ``[at, at + resolution_s)``."""

    at: float
    resolution_s: float
    level: int
    text: str
    line: int


Stamped = tuple[float, float, int, str]  # at, resolution_s, level, text

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))? ?(Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d)?:?(?: \[(\d+)\])?\s*(.*)"
)
_ACCESS = re.compile(r'\S+ \S+ .*?\[(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\] "(\S+) ?([^" ]*)[^"]*" (\d{3})\b')
_NGINX = re.compile(r"(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \[(\w+)\] (?:\d+#\d+: )?(?:\*\d+ )?(.*)")
_SYSLOG = re.compile(r"(\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) \S+ [^:\s]+: (.*)")
_PLAIN = ("LOG", "INFO", "NOTICE", "DEBUG", "DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "TRACE")
_LEADING = re.compile(r"\[?(" + "|".join([*_WORDS, *_PLAIN]) + r")\b\]?:?\s*", re.IGNORECASE)
_INSIDE = re.compile(r"\b(" + "|".join(_WORDS) + r")\b")
_WHO = re.compile(r"[^\s:]*@\S*\s+(?=[A-Z]+:)")


def _seconds(date: tuple[int, int, int], clock: tuple[str, str, str], zone: str | None = None) -> float:
    at = calendar.timegm((*date, int(clock[0]), int(clock[1]), int(clock[2])))
    if zone and zone[0] in "+-":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        at -= offset if zone[0] == "+" else -offset
    return float(at)


def _iso_time(match: re.Match[str]) -> tuple[float, float]:
    year, month, day, *clock = match.group(1, 2, 3, 4, 5, 6)
    fraction = match[7] or ""
    at = _seconds((int(year), int(month), int(day)), (clock[0], clock[1], clock[2]), match[8])
    resolution_s = 10.0 ** -len(fraction)
    return at + (int(fraction) * resolution_s if fraction else 0.0), resolution_s


def _read_iso(line: str) -> Stamped | None:
    match = _ISO.match(line)
    if match is None:
        return None
    return (*_iso_time(match), *_split_level(_WHO.sub("", match[10], count=1)))


def _read_json(line: str) -> Stamped | None:
    if not line.startswith("{"):
        return None
    try:
        data = json.loads(line)
    except ValueError:
        return None
    stamp = next((str(data[key]) for key in ("time", "timestamp", "@timestamp", "ts", "at") if key in data), "")
    match = _ISO.match(stamp)
    if match is None:
        return None
    level = next((str(data[key]) for key in ("level", "severity", "levelname", "lvl") if key in data), "")
    text = next((str(data[key]) for key in ("event", "message", "msg") if key in data), line)
    return (*_iso_time(match), _WORDS.get(level.upper(), INFO), text)


def _read_access(line: str) -> Stamped | None:
    match = _ACCESS.match(line)
    if match is None or match[2] not in _MONTHS:
        return None
    at = _seconds((int(match[3]), _MONTHS[match[2]], int(match[1])), (match[4], match[5], match[6]), match[7])
    where = "/".join(match[9].split("?")[0].split("/")[:2])
    return at, 1.0, ERROR if match[10] >= "500" else INFO, f"{match[8]} {where} answered with status {match[10]}"


def _read_nginx(line: str) -> Stamped | None:
    match = _NGINX.match(line)
    if match is None:
        return None
    at = _seconds((int(match[1]), int(match[2]), int(match[3])), (match[4], match[5], match[6]))
    return at, 1.0, _WORDS.get(match[7].upper(), INFO), match[8].split(", client:")[0]


def _read_syslog(line: str) -> Stamped | None:
    match = _SYSLOG.match(line)
    if match is None or match[1] not in _MONTHS:
        return None
    at = _seconds((YEARLESS, _MONTHS[match[1]], int(match[2])), (match[3], match[4], match[5]))
    return (at, 1.0, *_split_level(match[6]))


FORMATS: dict[str, Callable[[str], Stamped | None]] = {
    "json lines": _read_json,
    "nginx access": _read_access,
    "nginx error": _read_nginx,
    "syslog": _read_syslog,
    "iso text": _read_iso,
}


def _split_level(text: str) -> tuple[int, str]:
    """Return the severity and the text without its leading severity word; a word further in counts only in capitals."""
    leading = _LEADING.match(text)
    if leading is not None:
        return _WORDS.get(leading[1].upper(), INFO), text[leading.end() :]
    inside = _INSIDE.search(text, 0, 40)
    return (_WORDS[inside[1]] if inside else INFO), text


def entries(text: str, seen: Counter[str] | None = None) -> Iterator[Entry]:
    """Yield the stamped lines of a log, in file order; `seen` counts the formats met.

    The format that read the line before is tried first, so a uniform file costs one attempt a line.
    """
    order = list(FORMATS.items())
    for number, line in enumerate(text.splitlines(), 1):
        for position, (name, reader) in enumerate(order):
            stamped = reader(line)
            if stamped is not None:
                if position:
                    order.insert(0, order.pop(position))
                if seen is not None:
                    seen[name] += 1
                at, resolution_s, level, said = stamped
                if level < ERROR and any(word in said for word in _ALARMING):
                    level = ERROR
                yield Entry(at, resolution_s, level, said[:TEXT_CHARS_MAX], number)
                break


_VARIABLE = re.compile(r""""[^"]*"|'[^']*'|\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|\d+""")


def signature(text: str) -> str:
    """Return the text without what differs from one occurrence to the next: quoted names, numbers, ids."""
    return _VARIABLE.sub("#", text)


def component_of(file: str) -> str:
    """Return the component that a log file belongs to: its name without extensions, rotation numbers and kind of log.

    ``nginx-access.log`` and ``nginx-error.log.1`` are both ``nginx``.
    """
    stem = file.rsplit("/", 1)[-1].split(".", 1)[0]
    return re.sub(r"[-_](access|error|err|out|main|\d+)$", "", stem) or stem


def sustained(times: list[float]) -> int | None:
    """Return the index of the sorted `times` from which on a failure is sustained, or None.

    From there at least SUSTAINED_HITS entries lie within SUSTAINED_WINDOW_S, and they spread over SUSTAINED_SPAN_S or more.
    """
    end = 0
    for start, began in enumerate(times):
        while end < len(times) and times[end] - began <= SUSTAINED_WINDOW_S:
            end += 1
        if end - start >= SUSTAINED_HITS and times[end - 1] - began >= SUSTAINED_SPAN_S:
            return start
    return None


def find(file: str, text: str) -> dict[str, Any]:
    """Return the finding of one log file, read in one go."""
    formats: Counter[str] = Counter()
    return summarise(file, text, list(entries(text, formats)), formats)


def summarise(file: str, text: str, read: list[Entry], formats: Counter[str]) -> dict[str, Any]:
    """Return the finding of one log file from its entries, as plain data.

    Times are seconds since the epoch (of the year YEARLESS when `yearless`); `line` counts from 1; `buckets` are
    ``[start, errors]`` of BUCKET_S seconds; a pattern's `onset` is its entry from which on it is sustained, or None.
    """
    bad = [entry for entry in read if entry.level >= ERROR]
    levels = Counter(entry.level for entry in read)
    buckets = Counter(int(entry.at // BUCKET_S) * BUCKET_S for entry in bad)
    return {
        "file": file,
        "component": component_of(file),
        "formats": dict(sorted(formats.items())),
        "lines": text.count("\n") + (not text.endswith("\n") and bool(text)),
        "stamped": len(read),
        "yearless": formats["syslog"] > 0,
        "first": min((entry.at for entry in read), default=None),
        "last": max((entry.at for entry in read), default=None),
        "counts": {LEVELS[level]: levels[level] for level in (WARNING, ERROR, FATAL)},
        "buckets": [[start, count] for start, count in sorted(buckets.items())],
        "patterns": _patterns(bad),
        "marks": [_shown(entry) for entry in read if any(word in entry.text for word in _MARKS)][:MARKS_MAX],
    }


def _patterns(bad: list[Entry]) -> list[dict[str, Any]]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in bad:
        groups[signature(entry.text)].append(entry)
    patterns = [
        _pattern(name, sorted(group, key=lambda entry: (entry.at, entry.line))) for name, group in sorted(groups.items())
    ]
    patterns.sort(key=lambda pattern: (pattern["onset"] is None, -pattern["count"], pattern["first"]["at"]))
    return sorted(patterns[:PATTERNS_MAX], key=lambda pattern: (pattern["first"]["at"], pattern["first"]["line"]))


def _pattern(name: str, group: list[Entry]) -> dict[str, Any]:
    onset = sustained([entry.at for entry in group])
    return {
        "signature": name,
        "level": LEVELS[max(entry.level for entry in group)],
        "count": len(group),
        "first": _shown(group[0]),
        "last": _shown(group[-1]),
        "onset": None if onset is None else _shown(group[onset]),
    }


def _shown(entry: Entry) -> dict[str, Any]:
    return {"at": round(entry.at, 6), "resolution_s": entry.resolution_s, "line": entry.line, "text": entry.text}
