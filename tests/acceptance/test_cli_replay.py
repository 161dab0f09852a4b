"""agentos replay: with and without a running kernel, in both outcomes, and going on from a row."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentos
from tests.acceptance.cli_place import Place, a_place

PROGRAM = """
import agentos

@agentos.program("steps")
async def steps(sys):
    for number in range(3):
        await sys.fs.write(path="/steps.txt", text=f"{number}{WORD}\\n", mode="append")
    return "stepped"
"""
IMAGE = """
agentos: 1
name: steps
program: {kind: python, name: steps}
capabilities: [fs.write /**]
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = a_place(tmp_path)
    (tmp_path / "steps.yaml").write_text(IMAGE.lstrip())
    (tmp_path / "steps.py").write_text(PROGRAM.replace("{WORD}", ""))
    (tmp_path / "other.py").write_text(PROGRAM.replace("{WORD}", "!"))
    return place


@pytest.mark.slow
def test_replay_says_equal_or_the_first_difference_and_changes_nothing(place: Place) -> None:
    place.call("run", "steps.yaml", "--program", "steps.py", "--yes")
    text = (place.work / "steps.txt").read_text()
    assert (
        "process 1 repeats itself: 3 calls in 1 life, and it ends as it did"
        in place.call("replay", 1, "--program", "steps.py").stdout
    )
    report = place.data("replay", 1, "--program", "other.py", status=1)
    assert (report["ok"], report["divergence"]["call"]) == (False, "1")
    assert "+ text: '0!\\n'" in report["divergence"]["message"]
    assert "code has changed" in report["divergence"]["hint"]
    shown = place.call("replay", 1, "--program", "other.py", status=1).stdout
    assert "process 1 differs in life 1" in shown
    assert "at other.py:7, in steps" in shown
    assert (place.work / "steps.txt").read_text() == text
    place.call("replay", 9, status=2)


@pytest.mark.slow
def test_replay_live_after_a_row_goes_on_for_real_from_there(place: Place) -> None:
    place.call("run", "steps.yaml", "--program", "steps.py", "--yes")
    writes = [entry["seq"] for entry in place.data("audit", "--pid", 1)]
    done = place.call("replay", 1, "--live-after", writes[2] - 1, "--program", "steps.py")
    assert done.stdout == "stepped\n"
    assert (place.work / "steps.txt").read_text() == "0\n1\n2\n2\n"
    assert place.data("replay", 2, "--program", "steps.py")["ok"]


@pytest.mark.anyio
async def test_replay_over_the_control_socket_is_the_kernels_own(place: Place) -> None:
    async with agentos.open(place.folder / "own.db", workspace=place.work) as kernel:
        process = await kernel.spawn(
            agentos.Image.from_dict({"name": "s", "program": {"kind": "script", "steps": [{"op": "clock.now"}]}})
        )
        await process.wait(5)
        async with agentos.connect(place.folder / "own.db") as remote:
            report = await remote.replay(process.pid)
            assert report == await kernel.replay(process.pid)
            assert (report.ok, report.calls, report.exit_equal) == (True, 1, True)
            with pytest.raises(agentos.Invalid, match="there is no process 7"):
                await remote.replay(7)


def test_what_goes_on_after_a_row_and_waits_for_a_person_is_waited_for(place: Place) -> None:
    place.call("run", "careful.yaml", "--yes", "--approve", "look-first")
    [write] = [entry["seq"] for entry in place.data("audit", "--pid", 1)]
    shown = place.call("replay", 1, "--live-after", write - 2, status=4).stderr
    assert "go on with: agentos wait 2 --workspace work" in shown, "the same command would start another one"


def test_nothing_is_started_that_cannot_go_on_here(place: Place) -> None:
    place.call("run", "steps.yaml", "--program", "steps.py", "--yes")
    [last] = [entry["seq"] for entry in place.data("audit", "--pid", 1)][-1:]
    error = place.json("replay", 1, "--live-after", last, status=1)
    assert "--program FILE.py" in error["hint"]
    assert place.data("ps") == []


def test_a_row_before_the_life_of_a_process_is_not_taken_for_erased(place: Place) -> None:
    place.call("run", "job.yaml", "--yes")
    assert place.data("replay", 1, "--upto", 1, status=1)["message"] == "process 1 did not exist yet at journal row 1"
