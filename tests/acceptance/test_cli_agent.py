"""An agent at the command line: its model, its turns, what it cost, and a person who talks to it."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.cli_place import Place, a_place
from tests.acceptance.test_cli_terminal import Terminal
from tests.model_server import Answer, Served, serving

IMAGE = """
agentos: 1
name: guide
prompt: {text: You help.}
capabilities: ["fs.read, fs.list /**"]
"""
TURNS = """
- - [fs.read, {path: /in.txt}]
  - [fs.list, {path: /}]
- - [fs.write, {path: /in.txt, text: "\\e[2J"}]
- It says in.
"""
CHAT = ["first answer", "second answer", "third answer"]


@dataclass(frozen=True)
class AgentPlace(Place):
    """`url` is where the model's server is, "" for no model at all."""

    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in super().environment.items() if not name.startswith("OPENAI_")}
        return {**kept, "AGENTOS_CONFIG": os.devnull, **({"OPENAI_BASE_URL": self.url} if self.url else {})}


def an_agent_place(folder: Path, url: str = "") -> AgentPlace:
    a_place(folder)
    (folder / "guide.yaml").write_text(IMAGE)
    (folder / "turns.yml").write_text(TURNS)
    (folder / "chat.yml").write_text(json.dumps(CHAT))
    return AgentPlace(folder, url)


def test_an_agent_without_a_model_is_not_started_and_the_ways_to_one_are_named(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    said = place.run("run", "guide.yaml", "--goal", "look", "--yes", status=2).stderr
    assert all(way in said for way in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "--model scripted:FILE"))
    assert place.json("ps", "--all") == []


def test_every_turn_is_one_line_with_its_calls_and_the_result_alone_is_on_stdout(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    done = place.run("run", "guide.yaml", "--goal", "look", "--yes", "--model", "scripted:turns.yml")
    assert done.stdout == "It says in.\n"
    turns = [each for each in done.stderr.splitlines() if each.startswith("turn ")]
    assert turns[0].startswith("turn 1    pid 1  fs.read /in.txt ok; fs.list / ok  ")
    assert turns[1].startswith("turn 2    pid 1  fs.write /in.txt denied.capability (journal ")
    assert turns[2].startswith("turn 3    pid 1  answers  ")
    assert "denied    pid 1 fs.write /in.txt  denied.capability  journal " in done.stderr
    assert "\x1b" not in done.stderr


def test_the_document_has_the_turns_and_the_cost_agrees_with_the_journal(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    data = place.json("run", "guide.yaml", "--goal", "look", "--yes", "--model", "scripted:turns.yml")
    assert [[call["outcome"] for call in turn["calls"]] for turn in data["turns"]] == [["done", "done"], ["denied"], []]
    for by, key in (("process", "1"), ("model", "default")):
        costs = place.json("cost", 1, "--by", by)
        assert [each["by"] for each in costs["items"]] == [key]
        assert costs["total"]["tokens"] == data["cost"]["tokens"] == sum(turn["tokens"] for turn in data["turns"])
    assert place.json("cost")["total"]["calls"] == 3


def test_a_busy_server_is_one_clear_line_and_the_agent_goes_on(tmp_path: Path) -> None:
    with serving([Answer(status=429, headers={"Retry-After": "2"}), Answer("\x1b[31mred")]) as server:
        place = an_agent_place(tmp_path, server.url)
        done = place.run("run", "guide.yaml", "--goal", "look", "--yes")
    assert done.stdout == "\\e[31mred\n"
    assert [each for each in done.stderr.splitlines() if each.startswith("again")] == [
        "again     pid 1  the model's server is busy (429), next attempt in 2.0s"
    ]


def test_an_agent_that_was_killed_in_a_turn_goes_on_and_repeats_no_call(tmp_path: Path) -> None:
    def script(served: Served) -> Answer:
        answered = sum(message["role"] == "assistant" for message in served.json["messages"])
        return Answer(calls=[("fs__read", {"path": "/in.txt"})]) if not answered else Answer("it says in", delay_s=1.5)

    with serving(script) as server:
        place = an_agent_place(tmp_path, server.url)
        first = place.start("run", "guide.yaml", "--goal", "look", "--yes")
        deadline = time.monotonic() + 15
        while len(server.requests) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=10)
        done = place.run("run", "guide.yaml", "--goal", "look", "--yes")
    assert done.stdout == "it says in\n"
    assert "resuming process 1" in done.stderr
    assert len([each for each in place.json("log", 1) if each["op"] == "fs.read"]) == 1


def test_a_budget_that_is_used_up_is_status_5(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    (place.folder / "guide.yaml").write_text(IMAGE + "limits: {tokens: 700}\n")
    data = place.json("run", "guide.yaml", "--goal", "look", "--yes", "--model", "scripted:turns.yml", status=5)
    assert data["code"] == "denied.budget"


def test_a_model_is_refused_where_another_command_has_its_own(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    with Terminal(place, "run", "guide.yaml", "-i", "--yes", "--model", "scripted:chat.yml") as first:
        first.until("you>")
        refused = place.json("run", "guide.yaml", "--goal", "b", "--yes", "--model", "scripted:turns.yml", status=1)
        assert "another kernel holds the store, with a model of its own" in refused["message"]
        assert place.json("run", "guide.yaml", "--goal", "b", "--yes")["value"] == "first answer"


def test_a_conversation_is_left_and_taken_up_again(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    with Terminal(place, "run", "guide.yaml", "-i", "--goal", "hello", "--yes", "--model", "scripted:chat.yml") as first:
        first.until("│ first answer")
        first.until("you>")
        first.type("and then?\r")
        first.until("│ second answer")
        first.until_again("you>")
        first.type("\x04")
        first.until("[l]eave it waiting")
        first.type("l\r")
        assert first.end() == 0
        assert "talk on with: agentos attach 1 -i" in first.shown
    assert place.json("status", 1)["lately"]["said"] == "second answer"
    with Terminal(place, "attach", 1, "-i", "--model", "scripted:chat.yml") as second:
        second.until("you>")
        second.type("more\r")
        second.until("│ third answer")
        second.until_again("you>")
        second.type("\x04")
        second.until("[l]eave it waiting")
        second.type("e\r")
        assert second.end() == 0
    assert place.json("ps", "--all")[0]["state"] == "exited"


def test_a_conversation_whose_terminal_was_killed_in_a_turn_goes_on_with_the_same_command(tmp_path: Path) -> None:
    with serving(lambda served: Answer("slow answer", delay_s=1.0)) as server:
        place = an_agent_place(tmp_path, server.url)
        with Terminal(place, "run", "guide.yaml", "-i", "--yes") as first:
            first.until("you>")
            first.type("hello\r")
            deadline = time.monotonic() + 15
            while not server.requests and time.monotonic() < deadline:
                time.sleep(0.02)
            first.kill()
        with Terminal(place, "run", "guide.yaml", "-i", "--yes") as second:
            second.until("resuming process 1")
            second.until("│ slow answer")
            second.until("you>")
            assert "hello" not in second.shown  # it was sent before, and is not asked for again


def test_somebody_at_another_terminal_can_say_something_too(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    with Terminal(place, "run", "guide.yaml", "-i", "--yes", "--model", "scripted:chat.yml") as first:
        first.until("you>")
        with Terminal(place, "attach", 1, "-i") as second:
            second.until("you>")
            second.type("hi\r")
            second.until("│ first answer")
        place.run("send", 1, "from a third")
        first.type("\x03")
        first.until("[k]ill it?")
        first.type("c\r")
        first.until("│ second answer")
        assert "│ first answer" in first.shown


@pytest.mark.parametrize(("choice", "status", "states"), [("p", 130, ["paused"]), ("d", 130, ["ready"]), ("k", 1, ["killed"])])
def test_ctrl_c_asks_and_each_answer_does_what_it_says(tmp_path: Path, choice: str, status: int, states: list[str]) -> None:
    """INVARIANT a-key-ends-nothing."""
    with serving(lambda served: Answer("late", delay_s=20)) as server:
        place = an_agent_place(tmp_path, server.url)
        with Terminal(place, "run", "guide.yaml", "--goal", "look", "--yes") as run:
            run.until("running")
            run.interrupt()
            run.until("[k]ill it?")
            run.type("c\r")
            run.until_again("running")
            run.interrupt()
            run.until_again("[k]ill it?")
            run.type(f"{choice}\r")
            assert run.end() == status
        assert [each["state"] for each in place.json("ps", "--all")] == states


def test_a_second_ctrl_c_detaches_at_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with serving(lambda served: Answer("late", delay_s=2)) as server:
        place = an_agent_place(tmp_path, server.url)
        with Terminal(place, "run", "guide.yaml", "--goal", "look", "--yes") as run:
            run.until("running")
            run.interrupt()
            run.until("[k]ill it?")
            run.type("\x03")
            assert run.end() == 130
            assert "process 1 is parked, nothing is lost" in run.shown
        assert place.run("run", "guide.yaml", "--goal", "look", "--yes").stdout == "late\n"


def test_what_a_model_is_saying_is_seen_while_it_says_it_and_moves_no_cursor(tmp_path: Path) -> None:
    text = "first words \x1b[2Jand \x9b2J more words that come later"
    with serving([Answer(text, piece_delay_s=0.7, pieces=6)]) as server:
        place = an_agent_place(tmp_path, server.url)
        with Terminal(place, "run", "guide.yaml", "--goal", "look", "--yes") as run:
            run.until("┊ first wor")
            assert run.end() == 0
    assert "\\e[2J" in run.shown
    assert "\x1b[2J" not in run.raw
    assert "\x9b" not in run.raw


def test_nothing_is_wider_than_a_narrow_terminal(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    with Terminal(place, "run", "guide.yaml", "--goal", "look", "--yes", "--model", "scripted:turns.yml", columns=60) as run:
        assert run.end() == 0
    assert max(len(each) for piece in run.shown.splitlines() for each in piece.split("\r")) <= 60


def test_what_was_archived_still_counts_as_it_did(tmp_path: Path) -> None:
    place = an_agent_place(tmp_path)
    for goal in ("one", "two"):
        place.data("run", "guide.yaml", "--goal", goal, "--yes", "--model", "scripted:turns.yml")
    before = [place.data("cost", "--by", by) for by in ("process", "model", "day")] + [place.data("cost", 2)]
    assert place.data("archive", "--tree", 1)["rows"] > 0
    assert [place.data("cost", "--by", by) for by in ("process", "model", "day")] + [place.data("cost", 2)] == before
