"""The command line on a PostgreSQL store: the same verbs, and a password that is never shown."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos.store import open_store
from tests.acceptance.cli_place import ROOT, a_place
from tests.room.store.builders import FixedClock, spawned


def test_a_run_is_asked_answered_looked_at_and_verified(tmp_path: Path, postgres: Callable[[], str]) -> None:
    place = a_place(tmp_path)
    address = postgres().replace("postgres@", "postgres:hunter2@")
    store = ("--store", address)
    assert place.data("ps", *store, status=1)["fields"]["reason"] == "missing"
    waiting = place.call("run", "careful.yaml", "--yes", *store, status=4)
    assert [ask["op"] for ask in place.data("asks", *store)] == ["fs.write"]
    answered = place.call("approve", 1, *store)
    finished = place.call("wait", 1, *store)
    shown = [
        place.call(*words, *store)
        for words in (("ps", "--all"), ("audit", "--verify"), ("status",), ("doctor",), ("image", "ls"))
    ]
    assert "exited" in shown[0].stdout
    assert place.data("audit", "--verify", *store)["ok"]
    for said in (waiting, answered, finished, *shown):
        assert "hunter2" not in said.stdout + said.stderr
    assert b"hunter2" not in b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())


def test_a_writer_without_a_socket_here_is_named_to_who_would_change_something(
    tmp_path: Path, postgres: Callable[[], str]
) -> None:
    """As if its kernel ran on another machine: the store can be looked at, and says who has it."""
    place, address = a_place(tmp_path), postgres()
    with open_store(address, clock=FixedClock()) as store:
        spawned(store)
        store.journal.flush()
        assert [info["pid"] for info in place.data("ps", "--store", address)] == [1]
        held = place.data("grant", 1, "fs.read /in.txt", "--store", address, status=1)
        assert (held["fields"]["reason"], bool(held["fields"]["host"])) == ("held", True)
        assert place.data("status", "--store", address)["kernel"]
        assert f"running on {socket.gethostname()}" in place.call("doctor", "--store", address).stdout
    assert not place.data("status", "--store", address)["kernel"]


def test_the_page_about_it_runs_as_written(
    postgres: Callable[[], str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path.parent / "elsewhere"))
    page = (ROOT / "docs/howto/postgresql.md").read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    shown = re.search(r'STORE = "(.*)"', code)
    assert shown is not None
    exec(code.replace(shown[1], postgres()), names)
    assert capsys.readouterr().out == "kept\n"
