"""What the command line remembers, and what an image's request needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentos.abi.image import AgentImage
from agentos.errors import Invalid
from agentos.shell import consent, remembered
from agentos.shell.context import Shell
from agentos.shell.output import Output
from agentos.shell.programs import load_programs


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def image(*capabilities: str) -> AgentImage:
    return AgentImage.from_dict({"name": "job", "program": {"kind": "script", "steps": []}, "capabilities": list(capabilities)})


def a_shell(tmp_path: Path) -> Shell:
    return Shell(Output(is_tty=False), workspace=tmp_path)


def test_remembered_grants_nothing_where_nobody_can_be_asked(tmp_path: Path) -> None:
    wanted = image("fs.read /**")
    remembered.confirm(wanted.digest, wanted.ref)
    with pytest.raises(Invalid, match="requests") as caught:
        consent.obtain(a_shell(tmp_path), wanted, yes=False, grant=None)
    assert caught.value.fields["requests"] == ["fs.read /**"]


def test_a_request_of_nothing_needs_no_consent(tmp_path: Path) -> None:
    consent.obtain(a_shell(tmp_path), image(), yes=False, grant=None)
    assert not (tmp_path / "state").exists()


def test_a_damaged_file_counts_as_empty(state: Path) -> None:
    state.mkdir()
    (state / "confirmed.json").write_text("{not json")
    assert not remembered.is_confirmed("d")
    remembered.confirm("d", "job:1")
    assert remembered.is_confirmed("d")


def test_a_run_is_remembered_with_its_workspace(tmp_path: Path) -> None:
    remembered.remember_run(tmp_path / "s.db", 4, tmp_path)
    assert remembered.workspace_of(tmp_path / "s.db", 4) == tmp_path.resolve()
    assert remembered.workspace_of(tmp_path / "s.db", 5) is None
    assert remembered.last_workspace() == str(tmp_path.resolve())


def test_a_run_is_remembered_by_whatever_path_its_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    remembered.remember_run(tmp_path / "s.db", 4, tmp_path)
    for path in (tmp_path / "state" / ".." / "s.db", tmp_path / "link" / "s.db"):
        assert remembered.workspace_of(path, 4) == tmp_path.resolve()


def test_the_default_policy_applies_only_where_there_is_none(tmp_path: Path) -> None:
    own = AgentImage.from_dict(
        {"name": "job", "program": {"kind": "script", "steps": []}, "policy": _policy(tmp_path)}, folder=tmp_path
    )
    assert [layer.source for layer in consent.layers(image(), [], none=False)] == ["default.policy"]
    assert consent.layers(image(), [], none=True) == []
    assert consent.layers(own, [], none=False) == []
    with pytest.raises(Invalid, match="exclude"):
        consent.layers(image(), [Path("a.policy")], none=True)


def _policy(folder: Path) -> str:
    (folder / "own.policy").write_text('policy "own" version 1\nallow fs.read "/**"\n')
    return "own.policy"


def test_only_named_code_is_imported(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("raise SystemError('imported')\n")
    (tmp_path / "named.py").write_text("import json\n")
    load_programs([tmp_path / "named.py"])
    with pytest.raises(Invalid, match="SystemError: imported"):
        load_programs([tmp_path / "beside.py"])
    with pytest.raises(Invalid, match="not a Python file"):
        load_programs([tmp_path / "missing.py"])


def test_what_commands_remember_at_the_same_time_is_all_remembered(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda pid: remembered.remember_run(store, pid, tmp_path), range(1, 65)))
    assert {remembered.workspace_of(store, pid) for pid in range(1, 65)} == {tmp_path.resolve()}
