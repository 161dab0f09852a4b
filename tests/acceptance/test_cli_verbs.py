"""The other verbs, each group in one session, in this process."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import agentos
from tests.acceptance.cli_place import Place, a_place


def test_looking_before_there_is_a_store_finds_nothing_and_says_where(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert place.data("ps") == []
    assert "there is no store" in place.call("ps").stderr
    assert place.data("audit", status=1)["fields"]["reason"] == "missing"


def test_processes_are_listed_drawn_paused_and_killed(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert place.call("spawn", "slow.yaml", "--yes", "--name", "first", "-o", "name").stdout == "1\n"
    assert place.call("ps").stdout.splitlines()[1].split()[:5] == ["1", "-", "slow:1", "first", "ready"]
    place.call("pause", 1)
    assert place.data("status", 1)["process"]["state"] == "paused"
    assert place.data("wait", 1, "--program", "slow.py", status=1)["code"] == "invalid.state"
    place.call("resume", 1)
    assert "drive it with: agentos wait 1 --workspace work" in place.call("resume", 1).stderr
    place.call("send", 1, '{"a": 1}', "--json")
    place.call("kill", 1)
    assert place.call("ps", "-o", "name").stdout == ""
    assert place.call("tree", "--all").stdout.split()[:4] == ["1", "slow:1", "first", "killed"]
    assert place.call("wait", 1, status=1).stdout == ""
    assert place.data("status")["processes"] == {"killed": 1}


def test_authority_is_granted_explained_and_revoked(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("spawn", "careful.yaml", "--yes")
    assert [cap["text"] for cap in place.data("caps", 1)] == ["fs.write /out.txt"]
    assert place.data("check", 1, "fs.read", "path=/in.txt", status=3)["code"] == "denied.capability"
    assert place.data("check", 1, "fs.write", "path=/out.txt", "text=x", status=4)["outcome"] == "ask"
    assert place.data("caps", 99, status=2)["message"] == "there is no process 99"
    assert "careful.policy:2" in place.call("explain", 1, "fs.write", "path=/out.txt", "text=x", status=4).stdout
    cap = int(place.call("grant", 1, "fs.read /in.txt", "-o", "name").stdout)
    assert place.data("check", 1, "fs.read", "path=/in.txt", status=3)["code"] == "denied.policy"
    assert place.data("revoke", cap)["ended"] == 1
    assert place.data("revoke", cap, status=2)["code"] == "invalid.argument"


def test_the_journal_is_shown_followed_and_verified(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("run", "job.yaml", "--yes")
    place.call("run", "curious.yaml", status=1)
    assert [entry["op"] for entry in place.data("audit", "--pid", 1)] == ["fs.read", "fs.write"]
    assert [entry["code"] for entry in place.data("audit", "--outcome", "denied")] == ["denied.capability"]
    assert len(place.call("audit", "-o", "jsonl").stdout.splitlines()) == 3
    assert "denied" in place.call("log", 2, "--follow").stdout
    head = place.call("audit", "--verify", "-o", "name").stdout.strip()
    assert place.data("audit", "--verify", "--head", head)["ok"]
    store = next((tmp_path / "state").glob("*/store.db"))
    with sqlite3.connect(store) as database:
        database.execute("UPDATE journal SET outcome = 'done' WHERE outcome = 'denied'")
    database.close()
    assert "broken at row" in place.call("audit", "--verify", status=1).stdout
    assert "bad" in place.call("doctor", status=1).stdout


def test_images_policies_and_this_machine_are_checked(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert place.data("image", "ls") == []
    place.call("spawn", "careful.yaml", "--yes")
    assert "careful:1" in place.call("image", "ls", "-o", "name").stdout.split()
    assert place.data("image", "inspect", "careful:1")["digest"] == place.data("image", "inspect", "careful.yaml")["digest"]
    assert "look-first" not in place.call("policy", "check", "careful.policy").stderr
    (tmp_path / "bad.policy").write_text('policy "bad" version 1\nallow fs.write "/src/**" when sizee <= 3\n')
    told = place.call("policy", "check", "careful.policy", "bad.policy", status=2).stdout
    assert "bad.policy:2:31" in told
    assert "^" in told
    assert "careful.policy: ok" in told
    assert {finding["what"] for finding in place.data("doctor")} >= {
        "python",
        "openat2",
        "landlock",
        "store",
        "chain",
        "kernel",
    }
    assert "_AGENTOS_COMPLETE" in place.call("completion", "bash").stdout


def test_a_store_in_the_workspace_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    a_place(tmp_path)
    refused = place.data("--store", "work/s.db", "run", "curious.yaml", status=1)
    assert (refused["code"], refused["fields"]["reason"]) == ("invalid.store", "in_mount")


def test_what_an_application_left_unfinished_does_not_go_on_without_its_policy(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    script = {"kind": "script", "steps": [{"op": "fs.read", "args": {"path": "/in.txt"}}]}
    reader = agentos.Image.from_dict({"name": "reader", "program": script, "capabilities": ["fs.read /in.txt"]})
    options: dict[str, Any] = {"workspace": place.work, "policy": 'policy "app"\nask fs.read "/**"', "control": False}
    with agentos.open_sync(tmp_path / "app.db", **options) as kernel:
        pid = kernel.spawn(reader).pid
        assert kernel.check(pid, "fs.read", path="/in.txt").outcome == "ask"
    asked = place.run("--store", "app.db", "check", pid, "fs.read", "path=/in.txt")
    assert asked.stdout.startswith("allow")
    assert "the policy it opens the store with is not known here" in asked.stderr
    for verb in (("wait", pid), ("run", "job.yaml", "--yes")):
        refused = place.data("--store", "app.db", *verb, status=1)
        assert refused["message"].startswith(f"process {pid} was started by an application")
    assert place.data("--store", "app.db", "audit") == []
    place.run("--store", "app.db", "wait", pid, "--no-policy")


def test_a_process_is_taken_back_forked_compared_and_made_an_image(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("spawn", "job.yaml", "--yes")
    before = place.call("checkpoint", 1, "--note", "before").stdout.strip()
    place.call("wait", 1)
    assert [each["note"] for each in place.data("checkpoints", 1)] == ["before"]
    assert "file" in {item["what"] for item in place.data("diff", before)["items"]}
    assert "+ file /out.txt" in place.call("diff", before).stdout
    told = place.call("restore", before)
    assert "fs.write /out.txt  done  (undo can)" in told.stdout
    assert "living again: 1" in told.stdout
    assert "drive it with" in told.stderr
    assert place.data("wait", 1)["state"] == "exited"
    assert place.data("restore", before, "--new")["pids"] == {"1": 2}
    fork = place.call("fork", "--checkpoint", before, "--grant", "fs.read /in.txt", "-o", "name").stdout.strip()
    assert place.data("wait", fork, status=1)["code"] == "denied.capability"
    assert place.data("fork", status=2)["code"] == "invalid.argument"
    assert place.call("image", "commit", before, "done-job", "2", "-o", "name").stdout == "done-job:2\n"
    place.call("checkpoints", "--drop", before)
    assert place.data("restore", before, status=2)["code"] == "invalid.argument"
