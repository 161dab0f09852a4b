"""The Ledger and the crash points, as a test of somebody's agent would use them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentos.abi import probe
from agentos.abi.syscall import NOT_STARTED
from agentos.errors import Invalid, Unavailable
from agentos.testing import crash
from agentos.testing.ledger import Ledger
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio

EFFECTS = ["pure", "repeatable", "keyed", "probeable", "once"]

CHILD = """
import sys
import anyio
from agentos.testing.ledger import Ledger
from tests.room.devices.door import Door

async def main(path, op):
    door = Door(Ledger(path).device.syscalls())
    for n in range(3):
        await door(f"ledger.{op}", value=str(n), call_key=f"k{n}")

anyio.run(main, *sys.argv[1:])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.mark.parametrize("effect", EFFECTS)
async def test_every_execution_is_a_line(path: Path, effect: str) -> None:
    door = Door(Ledger(path).device.syscalls())
    assert door.served[f"ledger.{effect}"].op.effect == effect
    assert await door(f"ledger.{effect}", value="a", call_key="k1") == {"value": "a", "when": 1}
    await door(f"ledger.{effect}", value="b", call_key="k2")
    first, second = Ledger.read(path)
    assert first == {"op": effect, "value": "a", "key": "k1", "attempt": 1, "pid": 1, "when": 1}
    assert (second["value"], second["when"]) == ("b", 2)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_only_keyed_deduplicates(path: Path, effect: str) -> None:
    door = Door(Ledger(path).device.syscalls())
    for _ in range(2):
        await door(f"ledger.{effect}", value="a", call_key="k")
    assert len(Ledger.read(path)) == (1 if effect == "keyed" else 2)


async def test_probeable_knows_what_happened_also_after_reopening(path: Path) -> None:
    await Door(Ledger(path).device.syscalls())("ledger.probeable", value="a", call_key="k")
    door = Door(Ledger(path).device.syscalls())
    assert await door.reconcile("ledger.probeable", value="a", call_key="k") == {"value": "a", "when": 1}
    assert await door.reconcile("ledger.probeable", value="a", call_key="other") is NOT_STARTED


async def test_a_told_failure_has_no_effect(path: Path) -> None:
    with pytest.raises(Unavailable, match="was told to fail"):
        await Door(Ledger(path).device.syscalls())("ledger.once", value="a", fail=True)
    assert Ledger.read(path) == []


async def test_a_line_that_a_kill_cut_never_happened(path: Path) -> None:
    await Door(Ledger(path).device.syscalls())("ledger.once", value="a")
    with path.open("a") as file:
        file.write('{"op": "once", "val')
    assert [entry["value"] for entry in Ledger.read(path)] == ["a"]
    await Door(Ledger(path).device.syscalls())("ledger.once", value="b")
    assert [entry["value"] for entry in Ledger.read(path)] == ["a", "b"]


def test_a_missing_ledger_has_no_effects(path: Path) -> None:
    assert Ledger.read(path) == []


def run_child(path: Path, op: str, **environ: str) -> int:
    return subprocess.run([sys.executable, "-c", CHILD, str(path), op], env={**os.environ, **environ}, check=False).returncode


@pytest.mark.parametrize(("point", "lines"), [("before", 1), ("after", 2)])
def test_a_child_killed_around_an_effect_left_what_had_happened(path: Path, point: str, lines: int) -> None:
    assert run_child(path, "once", AGENTOS_CRASH_AT=f"ledger.once.{point}:2") == -signal.SIGKILL
    assert [entry["value"] for entry in Ledger.read(path)] == ["0", "1"][:lines]


def test_a_trace_lists_every_point_with_its_count(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert run_child(path, "keyed", AGENTOS_CRASH_TRACE=str(trace)) == 0
    assert crash.crash_points_seen(trace) == {"ledger.keyed.before": 3, "ledger.keyed.after": 3}


@pytest.mark.parametrize("at", ["name", "name:", ":1", "name:0", "name:x"])
def test_a_crash_point_that_is_malformed_is_refused(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    monkeypatch.setenv(crash.AT, at)
    with pytest.raises(Invalid, match="is no crash point"):
        crash.install()


def test_a_second_ledger_does_not_reset_the_counts_or_a_probe_of_the_test(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    probe.set_probe(seen.append)
    Ledger(path)
    probe.reached("mine")
    assert seen == ["mine"]
    monkeypatch.setenv(crash.TRACE, str(tmp_path / "trace"))
    crash.install()
    probe.reached("mine")
    Ledger(path)
    assert crash.crash_points_seen() == {"mine": 1}
    monkeypatch.delenv(crash.TRACE)
    crash.install()


def test_without_the_environment_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crash.AT, raising=False)
    monkeypatch.delenv(crash.TRACE, raising=False)
    assert crash.install() is False
    assert probe._probe is None
    crash.crash_point("mine")
    assert crash.crash_points_seen() == {"mine": 1}
