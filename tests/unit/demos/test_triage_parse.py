"""The log reader of the triage demo: time stamps, severities, and the verdict over the recorded incident."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import incident_logs
import incident_report
import incident_verdict
import pytest

INCIDENT = Path(__file__).resolve().parents[3] / "demos" / "incident"
AT = 1792929600.0 + 3723  # 2026-10-25 13:02:03 UTC


def findings() -> list[dict[str, Any]]:
    files = sorted((INCIDENT / "logs").glob("*.log"))
    found = [incident_logs.find(f"/logs/{file.name}", file.read_text()) for file in files]
    return incident_verdict.align_years(found)


@cache
def recorded() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found = findings()
    return found, incident_verdict.verdict(found)


def only(line: str) -> incident_logs.Entry:
    (entry,) = incident_logs.entries(line)
    return entry


def failing(component: str, times: list[float], text: str = "it broke", resolution_s: float = 0.001) -> dict[str, Any]:
    lines = [f"2026-10-25T13:{int(at) // 60:02d}:{at % 60:06.3f}Z ERROR {text}" for at in times]
    if resolution_s == 1.0:
        lines = [f"2026/10/25 13:{int(at) // 60:02d}:{int(at) % 60:02d} [error] {text}" for at in times]
    return incident_logs.find(f"/logs/{component}.log", "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "at", "resolution_s", "level", "text"),
    [
        ("2026-10-25 13:02:03.123 UTC [7] app@shop/web ERROR:  no space", AT + 0.123, 0.001, "error", "no space"),
        ("2026-10-25 13:02:03.123 UTC [7] LOG:  ready", AT + 0.123, 0.001, "info", "ready"),
        ("2026-10-25 13:02:03 UTC [7] FATAL:  too many clients", AT, 1.0, "fatal", "too many clients"),
        ("2026-10-25 13:02:03 UTC [7] STATEMENT:  SELECT ERROR", AT, 1.0, "info", "SELECT ERROR"),
        ("2026/10/25 13:02:03 [error] 9#9: *4 upstream timed out, client: ::1", AT, 1.0, "error", "upstream timed out"),
        (
            '::1 - - [25/Oct/2026:13:02:03 +0000] "GET /a/7?b HTTP/1.1" 502 1',
            AT,
            1.0,
            "error",
            "GET /a answered with status 502",
        ),
        ('::1 - - [25/Oct/2026:15:02:03 +0200] "GET / HTTP/1.1" 404 1', AT, 1.0, "info", "GET / answered with status 404"),
        ('{"time": "2026-10-25T13:02:03.5Z", "level": "warning", "event": "slow"}', AT + 0.5, 0.1, "warning", "slow"),
        ('{"ts": "2026-10-25T08:02:03-05:00", "severity": "CRITICAL", "message": "gone"}', AT, 1.0, "fatal", "gone"),
        ("2026-10-25 13:02:03,250 WARNING ledger: late", AT + 0.25, 0.001, "warning", "ledger: late"),
        ("2026-10-25T13:02:03+00:00 host unit: ERROR lost", AT, 1.0, "error", "host unit: ERROR lost"),
        ("2026-10-25T13:02:03Z 0 errors found", AT, 1.0, "info", "0 errors found"),
    ],
)
def test_each_time_stamp_gives_its_instant_severity_and_text(
    line: str, at: float, resolution_s: float, level: str, text: str
) -> None:
    entry = only(line)
    assert entry.at == pytest.approx(at, abs=1e-6)
    assert entry.resolution_s == pytest.approx(resolution_s)
    assert (incident_logs.LEVELS[entry.level], entry.text) == (level, text)


def test_a_syslog_time_takes_the_year_of_the_other_files() -> None:
    syslog = incident_logs.find("/logs/sys.log", "Feb 29 23:59:59 host cron[1]: ERROR job died\n")
    other = incident_logs.find("/logs/app.log", "2028-02-29 23:59:58 INFO started\n")
    moved, _ = incident_verdict.align_years([syslog, other])
    assert moved["first"] == moved["patterns"][0]["first"]["at"] == other["first"] + 1
    assert moved["buckets"] == [[int(other["first"] // 10) * 10, 1]]


@pytest.mark.parametrize(
    "line", ["", "  at frame 3", "Traceback (most recent call last):", "{not json", "12 monkeys", "\x00\x01"]
)
def test_a_line_without_a_time_is_no_entry(line: str) -> None:
    assert list(incident_logs.entries(line)) == []


def test_lines_keep_their_numbers_among_lines_without_a_time() -> None:
    text = "2026-10-25 13:02:03 ERROR a\nTraceback\n  more\n2026-10-25 13:02:04 ERROR b\n"
    assert [entry.line for entry in incident_logs.entries(text)] == [1, 4]


def test_a_process_killed_by_a_signal_is_an_error_whatever_level_it_was_logged_at() -> None:
    entry = only("2026-10-25 13:02:03 UTC [1] LOG:  server process (PID 9) was terminated by signal 9: Killed")
    assert entry.level == incident_logs.ERROR


def test_messages_that_differ_in_numbers_and_names_have_one_signature() -> None:
    first, second = 'file "base/1/2": wrote 10 of 8192', 'file "base/7/9": wrote 4096 of 8192'
    assert incident_logs.signature(first) == incident_logs.signature(second) != incident_logs.signature("file gone")


@pytest.mark.parametrize(
    ("file", "component"),
    [("/logs/nginx-access.log", "nginx"), ("nginx-error.log.1", "nginx"), ("ledger.log", "ledger"), ("error.log", "error")],
)
def test_a_component_is_named_by_its_file(file: str, component: str) -> None:
    assert incident_logs.component_of(file) == component


@pytest.mark.parametrize(
    ("times", "index"),
    [
        ([], None),
        ([0.0, 10.0], None),
        ([0.0, 0.1, 0.2, 0.3], None),
        ([0.0, 20.0, 40.0, 60.0], None),
        ([0.0, 10.0, 20.0], 0),
        ([0.0, 0.2, 0.4, 100.0, 103.0, 106.0], 3),
    ],
    ids=["none", "too few", "over at once", "too far apart", "sustained", "a hiccup, then sustained"],
)
def test_a_failure_is_sustained_when_it_repeats_and_lasts(times: list[float], index: int | None) -> None:
    assert incident_logs.sustained(times) == index


def test_the_earliest_sustained_failure_wins_over_earlier_noise_and_louder_followers() -> None:
    noise = failing("noise", [1.0])
    first = failing("first", [60.0, 70.0, 80.0])
    loud = failing("loud", [61.0 + 0.1 * n for n in range(200)])
    assert incident_verdict.verdict([noise, loud, first])["component"] == "first"


def test_a_stamp_in_whole_seconds_does_not_win_by_being_rounded_down() -> None:
    coarse = failing("coarse", [60.0, 70.0, 80.0], "upstream failed", resolution_s=1.0)
    fine = failing("fine", [60.9, 70.0, 80.0])
    judged = incident_verdict.verdict([coarse, fine])
    assert (judged["component"], judged["tied"]) == ("fine", ["coarse"])


def test_at_the_same_instant_the_one_that_is_quoted_wins() -> None:
    teller = failing("a_teller", [60.0, 70.0, 80.0], "gave up: disk full")
    source = failing("z_source", [60.0, 70.0, 80.0], "disk full")
    judged = incident_verdict.verdict([teller, source])
    assert (judged["component"], judged["quoted_by"], judged["tied"]) == ("z_source", ["a_teller"], ["a_teller"])


def test_logs_without_a_sustained_failure_name_nobody() -> None:
    judged = incident_verdict.verdict([failing("app", [1.0, 100.0])])
    assert judged["component"] is None
    assert "No component failed for long" in incident_report.render([], judged, [], [])


def test_the_component_found_is_the_one_that_the_first_fault_was_injected_into() -> None:
    injected = json.loads((INCIDENT / "injected.json").read_text())
    _, judged = recorded()
    assert judged["component"] == injected[0]["component"]
    assert abs(judged["first_failure"]["at"] - datetime.fromisoformat(injected[0]["at"]).timestamp()) < 1.0


def test_the_ledger_of_the_recorded_incident_fails_in_the_same_millisecond_and_is_told_apart_by_its_words() -> None:
    judged = recorded()[1]
    assert judged["tied"] == ["ledger"]
    assert judged["quoted_by"] == ["ledger", "orders"]


def test_the_evidence_is_on_the_line_that_the_verdict_names() -> None:
    first = recorded()[1]["first_failure"]
    lines = (INCIDENT / "logs" / Path(first["file"]).name).read_text().splitlines()
    assert first["text"] in lines[first["line"] - 1]


def test_the_first_error_of_the_recorded_incident_is_not_the_failing_component() -> None:
    found, judged = recorded()
    earliest = min((pattern["first"]["at"], finding["component"]) for finding in found for pattern in finding["patterns"])
    assert earliest[1] != judged["component"]


def test_the_time_line_of_the_recorded_incident_is_in_order_and_shows_every_injected_fault() -> None:
    rows = incident_verdict.timeline(*recorded())
    text = "\n".join(row["text"] for row in rows)
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    for said in (
        "No space left on device",
        "terminated by signal 9",
        "connection slots",
        "statement timeout",
        "status 504",
        "healthy",
    ):
        assert said in text


def test_every_stamped_file_of_the_recorded_incident_is_read_by_the_format_it_was_written_in() -> None:
    formats = {finding["file"]: finding["formats"] for finding in recorded()[0]}
    assert {file: max(counts, key=counts.__getitem__) for file, counts in formats.items()} == {
        "/logs/catalog.log": "json lines",
        "/logs/healthd.log": "syslog",
        "/logs/ledger.log": "iso text",
        "/logs/nginx-access.log": "nginx access",
        "/logs/nginx-error.log": "nginx error",
        "/logs/orders.log": "json lines",
        "/logs/postgresql.log": "iso text",
    }


def test_the_same_logs_give_the_same_report_in_any_order_of_workers() -> None:
    found, judged = recorded()
    again = findings()
    assert json.dumps(again) == json.dumps(found)
    assert incident_verdict.verdict(again[::-1]) == judged
    report = incident_report.render(found, judged, [], [])
    assert report == incident_report.render(again, incident_verdict.verdict(again), [], [])


def test_the_report_shows_refusals_with_rule_and_journal_number() -> None:
    refusal = {"worker": "db.env", "path": "/logs/db.env", "code": "denied.policy", "rule": "triage.policy:12", "seq": 21}
    report = incident_report.render(*recorded(), [refusal], ["odd name"])
    assert "| `db.env` | `fs.read /logs/db.env` | `denied.policy` | triage.policy:12 | 21 |" in report
    assert "`odd name`" in report


def test_what_a_log_says_cannot_format_the_report() -> None:
    text = "x `</code>` | [click](http://evil.example) \x1b[31m"
    finding = failing("app", [1.0, 10.0, 20.0], text)
    report = incident_report.render([finding], incident_verdict.verdict([finding]), [], [])
    assert "\x1b" not in report
    assert "`x '</code>' \\| [click](http://evil.example) �[31m`" in report
