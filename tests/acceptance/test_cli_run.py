"""run and wait, as a person or a script types them."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.acceptance.cli_place import a_place


def until(file: Path, lines: int) -> None:
    deadline = time.monotonic() + 15
    while not (file.exists() and file.read_text().count("\n") >= lines):
        assert time.monotonic() < deadline, "the program never got there"
        time.sleep(0.02)


def test_a_run_needs_consent_then_prints_its_result_and_one_document(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    refused = place.json("run", "job.yaml", status=2)
    assert refused["code"] == "invalid.argument"
    assert refused["fields"]["requests"] == ["fs.read /in.txt", "fs.write /out.txt"]
    done = place.json("run", "./job.yaml", "--yes")
    assert (done["state"], done["pid"], done["denied"]) == ("exited", 1, [])
    assert done["value"][0] == "in\n"
    assert (place.work / "out.txt").read_text() == "done"
    plain = place.run("run", "job.yaml", "--yes", "--new")
    assert '"in\\n"' in plain.stdout
    assert "spawned   pid 2 job:1" in plain.stderr
    assert "1 process, 0 denied, 2 calls" in plain.stderr


def test_how_a_process_ends_is_the_status(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    failed = place.data("run", "curious.yaml", status=1)
    assert (failed["code"], failed["state"], len(failed["denied"])) == ("denied.capability", "failed", 1)
    assert place.data("run", "greedy.yaml", "--yes", status=5)["code"] == "denied.budget"
    assert place.data("run", "late.yaml", status=124)["code"] == "unavailable.timeout"
    told = place.call("run", "curious.yaml", status=1).stderr
    assert "denied    pid 4 fs.read /secret.txt  denied.capability  journal" in told


def test_an_ask_without_a_terminal_is_status_4_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    parked = place.call("run", "careful.yaml", "--yes", status=4).stderr
    assert "agentos approve 1 --workspace work" in parked
    assert "careful.policy:2 (look-first)  because someone looks first" in parked
    assert not (place.work / "out.txt").exists()
    assert "the answer is stored" in place.call("approve", 1).stdout
    resumed = place.call("run", "careful.yaml")
    assert "resuming process 1" in resumed.stderr
    assert (place.work / "out.txt").read_text() == "done"
    denied = place.call("run", "careful.yaml", "--yes", status=4)
    assert "ask 2" in denied.stderr
    place.call("deny", 2, "--reason", "not today")
    assert "not today" in place.data("wait", 2, status=1)["message"]


def test_a_rule_that_is_approved_ahead_is_not_asked(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    done = place.call("run", "careful.yaml", "--yes", "--approve", "look-first")
    assert "answered  ask 1: approve by --approve" in done.stderr
    assert place.data("audit", "--op", "fs.write")[0]["ask"] == 1


def test_a_question_is_answered_with_reply_and_is_shown_inert(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    parked = place.call("run", "ask.yaml", status=4)
    assert "│ blue or \\e[31mred?" in parked.stderr
    assert "\x1b" not in parked.stderr
    place.call("approve", 1, "--reply", "blue")
    assert place.data("wait", 1)["value"] == ["blue"]


def test_following_changes_nothing_and_a_killed_command_is_gone_on_with(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    command = ("run", "slow.yaml", "--program", "slow.py", "--yes")
    running = place.start(*command)
    until(place.work / "steps.txt", 2)
    assert place.json("wait", 1, "--timeout", "200ms", status=124)["code"] == "unavailable.timeout"
    assert place.json("ps")[0]["state"] == "waiting"
    running.kill()
    running.communicate()
    resumed = place.run(*command)
    assert "resuming process 1" in resumed.stderr
    assert resumed.stdout == "slept\n"
    assert (place.work / "steps.txt").read_text().split() == [str(number) for number in range(8)]


def test_ctrl_c_parks_the_process_and_says_how_to_go_on(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    running = place.start("run", "slow.yaml", "--program", "slow.py", "--yes")
    until(place.work / "steps.txt", 1)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=10)
    assert running.returncode == 130
    assert "process 1 is parked" in told
    assert "run slow.yaml --program slow.py --yes" in told
    missing = place.json("wait", 1, status=1)
    assert (missing["code"], "--program" in missing["hint"]) == ("invalid.state", True)
    assert place.run("wait", 1, "--program", "slow.py").stdout == "slept\n"


def test_run_beside_a_kernel_spawns_in_that_kernel(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    running = place.start("run", "slow.yaml", "--program", "slow.py", "--yes")
    until(place.work / "steps.txt", 1)
    assert place.json("run", "job.yaml", "--yes")["pid"] == 2
    out, _ = running.communicate(timeout=20)
    assert (running.returncode, out) == (0, "slept\n")


def test_a_run_that_plans_changes_nothing_outside(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    planned = place.data("run", "job.yaml", "--yes", "--mode", "plan", status=1)
    assert [(denied["op"], denied["rule"]) for denied in planned["denied"]] == [("fs.write", "mode:plan")]
    assert not (place.work / "out.txt").exists()


def test_a_run_with_nobody_to_ask_is_denied_what_it_would_ask(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    alone = place.data("run", "careful.yaml", "--yes", "--mode", "noninteractive", status=1)
    assert alone["code"] == "denied.human"
    assert place.data("asks", "--all") == []
    assert place.data("run", "careful.yaml", "--yes", "--mode", "careless", status=2)["message"].endswith("'noninteractive'")


def test_a_mode_that_denies_more_does_not_reach_what_others_left_unfinished(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    for mode in ("plan", "noninteractive"):
        refused = place.data("run", "job.yaml", "--yes", "--mode", mode, status=1)
        assert refused["code"] == "invalid.state"
    assert place.data("asks")[0]["state"] == "pending"
    place.call("run", "job.yaml", "--yes", "--mode", "ask")
    assert place.data("wait", 1, "--mode", "noninteractive", status=4)["asks"][0]["id"] == 1


def test_a_kernel_says_what_else_of_its_store_goes_on_in_it(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)  # waits for a person: costs nothing
    assert "go on as well" not in place.call("run", "job.yaml", "--yes").stderr
    (tmp_path / "nap.yaml").write_text((tmp_path / "late.yaml").read_text().partition("limits")[0])
    place.call("run", "nap.yaml", "--yes", "--timeout", "50ms", status=124)
    assert "of this store go on as well: 3; see" in place.call("run", "job.yaml", "--yes", "--new").stderr
