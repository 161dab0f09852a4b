"""The other verbs, each group in one session."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.acceptance.cli_place import Place, a_place


def test_looking_before_there_is_a_store_finds_nothing_and_says_where(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert place.json("ps") == []
    assert "there is no store" in place.run("ps").stderr
    assert place.json("audit", status=1)["fields"]["reason"] == "missing"


def test_processes_are_listed_drawn_paused_and_killed(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert place.run("spawn", "slow.yaml", "--yes", "--name", "first", "-o", "name").stdout == "1\n"
    assert place.run("ps").stdout.splitlines()[1].split()[:5] == ["1", "-", "slow:1", "first", "ready"]
    place.run("pause", 1)
    assert place.json("status", 1)["process"]["state"] == "paused"
    assert place.json("wait", 1, "--program", "slow.py", status=1)["code"] == "invalid.state"
    place.run("resume", 1)
    assert "drive it with: agentos wait 1 --workspace work" in place.run("resume", 1).stderr
    place.run("send", 1, '{"a": 1}', "--json")
    place.run("kill", 1)
    assert place.run("ps", "-o", "name").stdout == ""
    assert place.run("tree", "--all").stdout.split()[:4] == ["1", "slow:1", "first", "killed"]
    assert place.run("wait", 1, status=1).stdout == ""
    assert place.json("status")["processes"] == {"killed": 1}


def test_authority_is_granted_explained_and_revoked(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.run("spawn", "careful.yaml", "--yes")
    assert [cap["text"] for cap in place.json("caps", 1)] == ["fs.write /out.txt"]
    assert place.json("check", 1, "fs.read", "path=/in.txt", status=3)["code"] == "denied.capability"
    assert place.json("check", 1, "fs.write", "path=/out.txt", "text=x", status=4)["outcome"] == "ask"
    assert "careful.policy:2" in place.run("explain", 1, "fs.write", "path=/out.txt", "text=x", status=4).stdout
    cap = int(place.run("grant", 1, "fs.read /in.txt", "-o", "name").stdout)
    assert place.json("check", 1, "fs.read", "path=/in.txt", status=3)["code"] == "denied.policy"
    assert place.json("revoke", cap)["ended"] == 1
    assert place.json("revoke", cap, status=2)["code"] == "invalid.argument"


def test_the_journal_is_shown_followed_and_verified(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.run("run", "job.yaml", "--yes")
    place.run("run", "curious.yaml", status=1)
    assert [entry["op"] for entry in place.json("audit", "--pid", 1)] == ["fs.read", "fs.write"]
    assert [entry["code"] for entry in place.json("audit", "--outcome", "denied")] == ["denied.capability"]
    assert len(place.run("audit", "-o", "jsonl").stdout.splitlines()) == 3
    assert "denied" in place.run("log", 2, "--follow").stdout
    head = place.run("audit", "--verify", "-o", "name").stdout.strip()
    assert place.json("audit", "--verify", "--head", head)["ok"]
    store = next((tmp_path / "state").glob("*/store.db"))
    with sqlite3.connect(store) as database:
        database.execute("UPDATE journal SET outcome = 'done' WHERE outcome = 'denied'")
    database.close()
    assert "broken at row" in place.run("audit", "--verify", status=1).stdout
    assert "bad" in place.run("doctor", status=1).stdout


def test_images_policies_and_this_machine_are_checked(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert place.json("image", "ls") == []
    place.run("spawn", "careful.yaml", "--yes")
    assert "careful:1" in place.run("image", "ls", "-o", "name").stdout.split()
    assert place.json("image", "inspect", "careful:1")["digest"] == place.json("image", "inspect", "careful.yaml")["digest"]
    assert "look-first" not in place.run("policy", "check", "careful.policy").stderr
    (tmp_path / "bad.policy").write_text('policy "bad" version 1\nallow fs.write "/src/**" when sizee <= 3\n')
    told = place.run("policy", "check", "careful.policy", "bad.policy", status=2).stdout
    assert "bad.policy:2:31" in told
    assert "^" in told
    assert "careful.policy: ok" in told
    assert {finding["what"] for finding in place.json("doctor")} >= {
        "python",
        "openat2",
        "landlock",
        "store",
        "chain",
        "kernel",
    }
    assert "_AGENTOS_COMPLETE" in place.run("completion", "bash").stdout


def test_a_store_in_the_workspace_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    a_place(tmp_path)
    refused = place.json("--store", "work/s.db", "run", "curious.yaml", status=1)
    assert (refused["code"], refused["fields"]["reason"]) == ("invalid.store", "in_mount")
