"""Every bench runs, at a size that only shows that it does: so none of them rots."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES, main
from tests.bench.bench_peers import kill_and_resume
from tests.bench.harness import quick
from tests.bench.peers.child import SUBJECTS, is_here


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_runs_and_fills_its_tables(name: str, tmp_path: Path) -> None:
    tables = list(BENCHES[name](quick(), tmp_path))
    assert tables
    assert all(table.rows for table in tables), [table.title for table in tables if not table.rows]


def test_a_bench_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["speed"])
    assert refused.value.code == 2
    assert "there is no bench `speed`" in capsys.readouterr().err


@pytest.mark.timeout(120)
@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if " agent" not in subject])
def test_a_killed_run_of_effects_is_resumed_to_its_end(subject: str, tmp_path: Path) -> None:
    if not is_here(subject):
        pytest.skip(f"{subject} needs the extra `peers`, or a server")
    killed = kill_and_resume(subject, tmp_path / "run", 12, random.Random(3))
    assert killed.tally.lost == 0
    assert not killed.tally.repeated or not subject.startswith("agentos")
