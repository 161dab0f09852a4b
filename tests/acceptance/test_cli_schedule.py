"""Schedules and poison on the command line: ordered, listed, carried out by `up`, and what was set aside is said everywhere."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import anyio

import agentos
from agentos.abi.limits import POISON_RESUMES_MAX
from agentos.kernel.poison import resume_all
from tests.acceptance.cli_place import Place, a_place
from tests.builders import opened


def store_of(place: Place) -> Path:
    return Path(place.data("status")["store"])


def wait_for(place: Place, runs: int) -> None:
    """Wait until the first schedule has started so many runs."""
    end = time.monotonic() + 20
    while place.data("schedules")[0]["runs"] < runs:
        assert time.monotonic() < end, "no run was started"
        time.sleep(0.1)


def test_an_order_is_given_listed_paused_and_ended(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    assert (
        place.data("schedule", "job.yaml", "--every", "1h", "--cron", "@daily", "--yes", status=2)["code"] == "invalid.argument"
    )
    assert place.data("schedule", "job.yaml", "--every", "1h", status=2)["fields"]["field"] == "--yes"
    made = place.data("schedule", "job.yaml", "--cron", "0 6 * * 1-5", "--zone", "Europe/Berlin", "--goal", "daily", "--yes")
    assert (made["id"], made["image"], made["goal"], made["state"]) == (1, "job:1", "daily", "live")
    assert place.call("schedule", "job.yaml", "--every", "15m", "--yes", "-o", "name").stdout == "2\n"
    assert "0 6 * * 1-5 Europe/Berlin" in place.call("schedules").stdout
    assert [each["state"] for each in place.data("schedules", "--pause", 1)] == ["paused", "live"]
    assert [each["state"] for each in place.data("schedules", "--resume", 1)] == ["live", "live"]
    assert place.call("unschedule", 1, 2, "-o", "name").stdout == "1\n2\n"
    assert place.data("schedules") == []
    assert [each["state"] for each in place.data("schedules", "--all")] == ["cancelled", "cancelled"]
    assert place.data("unschedule", 1, status=2)["code"] == "invalid.argument"
    assert place.data("up", status=2)["fields"]["field"] == "--output"


def test_up_carries_orders_out_until_it_is_interrupted(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("schedule", "job.yaml", "--every", "1s", "--yes", "--no-policy")
    kernel = place.start("up")
    try:
        wait_for(place, 2)
        assert place.data("up", "-o", "jsonl", status=1)["code"] == "invalid.state"
        place.call("unschedule", 1)
    finally:
        kernel.send_signal(signal.SIGINT)
        said, noted = kernel.communicate(timeout=10)
    assert "1 schedule; Ctrl-C ends it" in noted
    assert "spawned   pid 2 job:1" in said
    assert (place.work / "out.txt").read_text() == "done"
    assert {info["state"] for info in place.data("ps", "--all")} == {"exited"}


def test_a_command_leaves_the_schedules_of_an_application_alone(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("spawn", "job.yaml", "--yes", "--no-policy")
    store = store_of(place)

    async def order() -> None:
        async with agentos.open(store, workspace=place.work, resume=False, control=False) as kernel:
            await kernel.schedule(agentos.Image.load(place.folder / "job.yaml"), every=1)

    anyio.run(order)
    time.sleep(1.1)
    place.call("wait", 1)
    assert [(each["runs"], each["skipped"]) for each in place.data("schedules")] == [(0, 0)]


def test_what_was_set_aside_is_said_by_ps_status_doctor_run_and_wait(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    place.call("spawn", "job.yaml", "--yes")

    async def poison(store: Path) -> None:
        async with opened(store, workspace=place.work, resume=False) as kernel:
            process = kernel.core.processes.find(1)
            process.record.resumes = POISON_RESUMES_MAX
            assert resume_all(kernel.core, [process]) == []

    anyio.run(poison, store_of(place))
    assert "paused on poison" in place.call("ps").stdout
    assert "set aside  it ended its kernel each time it ran" in place.call("status", 1).stdout
    assert "set aside  1: ended their kernel" in place.call("status").stdout
    assert "1 was set aside" in place.call("doctor", status=1).stdout
    for words in (["run", "job.yaml", "--yes"], ["wait", 1]):
        assert "was set aside: it ended its kernel" in place.data(*words, status=1)["message"]
    place.call("resume", 1)
    assert place.call("wait", 1, "--no-policy").returncode == 0
