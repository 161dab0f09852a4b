"""The triage agent as a command: offline, over a server, parked until a person answers, and killed at any moment."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.agent_place import GOAL, REFUSED, Command, as_server, expect_report
from tests.acceptance.agent_place import incident as incident  # noqa: PLC0414 - a fixture
from tests.model_server import Answer, ModelServer, Served, serving

pytestmark = pytest.mark.timeout(120)
JOB = ("run", "images/triage-agent.yaml", "--goal", GOAL, "--yes")


def test_the_demo_runs_offline_from_the_command_line(incident: Path) -> None:
    model = ("--model", "scripted:demos/triage-agent.turns.yaml")
    out, err = Command(incident).run(*JOB, "--approve", "write-report", *model)
    for op, path, code, rule in REFUSED:
        assert re.search(rf"denied +pid 1 {op} {path} +{code} +{rule and rule + ' +'}journal \d+", err), err
    assert json.loads(out)["component"] == "postgresql"
    expect_report((incident / "report.md").read_text())


def test_a_person_approves_the_report_an_hour_later(incident: Path) -> None:
    with serving(lambda served: as_server("triage-agent", served)) as server:
        command = Command(incident, server)
        command.run(*JOB, status=4)
        assert not (incident / "report.md").exists()
        command.run("approve", "1")
        assert json.loads(command.run("wait", "1")[0])["report"] == "/report.md"
        assert len(server.requests) == 7
    expect_report((incident / "report.md").read_text())


def test_a_person_denies_the_report_and_the_agent_ends_with_that(incident: Path) -> None:
    with serving(lambda served: as_server("triage-agent", served)) as server:
        command = Command(incident, server)
        command.run(*JOB, status=4)
        command.run("deny", "1", "--reason", "not in this form")
        assert json.loads(command.run("wait", "1")[0])["report"] is None
    assert not (incident / "report.md").exists()


def kill_at(command: Command, server: ModelServer, requests: int) -> None:
    """Start the job, and kill it as soon as the server has had so many requests."""
    with command.start(*JOB, "--approve", "write-report") as child:
        deadline = time.monotonic() + 30
        while len(server.requests) < requests and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.communicate()


@pytest.mark.parametrize("requests", [3, 7, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 6))])
def test_a_killed_agent_goes_on_and_repeats_no_turn_that_was_answered(incident: Path, requests: int) -> None:
    def slow(served: Served) -> Answer:
        time.sleep(0.05)
        return as_server("triage-agent", served)

    with serving(slow) as server:
        command = Command(incident, server)
        kill_at(command, server, requests)
        command.run(*JOB, "--approve", "write-report")
        asked = Counter(len(served.json["messages"]) for served in server.requests)
    assert (len(asked), sum(asked.values()) <= 8) == (7, True)
    audit = command.data("audit")
    made = Counter(
        (row["op"], row["resource"]) for row in audit if row["outcome"] == "done" and row["op"].startswith(("fs.", "obj.put"))
    )
    assert [call for call, times in made.items() if times > 1] == []
    assert [row["op"] for row in audit if row["outcome"] == "denied"] == [op for op, *_ in REFUSED]
    command.run("audit", "--verify")
    expect_report((incident / "report.md").read_text())
