"""What must hold after a crash, a reopening or an unwinding, one story each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.kernel.ask import Ask
from tests.fault.crash_cases import CAPABILITIES, image, lines, opened, versioned
from tests.fault.crash_zygote import Zygote, zygote

pytestmark = pytest.mark.anyio
CASES = "tests.fault.crash_cases"
GATE = 'restrict "g" version 1\nask ledger.keyed\n'


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(CASES) as started:
        yield started


def killed(kernels: Zygote, story: str, *args: Any, at: str) -> None:
    """Run a story that dies at the point `at`."""
    assert kernels.run(f"{CASES}:{story}", *args, crash_at=at) is None, f"`{at}` was not reached"


async def asks_of(kernel: agentos.Kernel) -> list[Ask]:
    await kernel.run_until_idle(5)
    return await kernel.asks()


# --- what was committed is there ------------------------------------------------------------------------------------------


async def test_goal_object_message_label_and_question_survive_a_kill(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "leave_things", str(tmp_path), at="story.told:1")
    async with opened(tmp_path) as kernel:
        waiting = kernel.process(1)
        assert (waiting.info.goal, kernel.process(2).info.goal) == ("find it", "be told")
        assert await waiting.call("obj.get", name="thing", namespace="ours") == {"a": [1, 2]}
        assert kernel.core.processes.find(1).label != 0
        assert (await waiting.call("msg.recv")).value == "hello"
        (question,) = await asks_of(kernel)
        assert (question.kind, question.args["question"]) == ("question", "which?")
        await kernel.answer(question.id, "approve", by="pat", value="that")
        assert (await kernel.process(2).wait(5)).value == "that"
        assert (await kernel.verify_audit()).ok


async def test_a_process_that_did_something_since_it_was_parked_never_looks_parked(kernels: Zygote, tmp_path: Path) -> None:
    """A save, or a raised label, writes the process down anew: what it had waited for before is not what it waits for now."""
    for number in range(1, 20):
        where = str(tmp_path / str(number))
        if kernels.run(f"{CASES}:run_saver", where, crash_at=f"commit.after:{number}") is not None:
            break
        for after in range(1, 3):
            kernels.run(f"{CASES}:run_saver", where, crash_at=f"commit.after:{after}")
        assert kernels.run(f"{CASES}:run_saver", where) == "hello"
        assert lines(Path(where)) == [("keyed", "hello")]
    assert number > 3


# --- calls of the host ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["admit.durable", "ledger.keyed.before", "ledger.keyed.after", "settle.appended"])
async def test_a_keyed_host_call_is_joined_after_a_kill(kernels: Zygote, tmp_path: Path, point: str) -> None:
    killed(kernels, "call_as_host", str(tmp_path), "keyed", "k", None, at=f"{point}:1")
    async with opened(tmp_path) as kernel:
        process = kernel.process(1)
        values = [await process.call("ledger.keyed", value="x", key="k") for _ in range(2)]
        assert values == [{"value": "x", "when": 1}] * 2
    assert lines(tmp_path) == [("keyed", "x")]


async def test_a_key_whose_first_call_was_denied_stays_with_the_call_that_was_made(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        process = await kernel.spawn(agentos.Image.host())
        with pytest.raises(agentos.Denied):
            await process.call("ledger.once", value="x", key="k")
        await kernel.grant(process.pid, "ledger.*")
        assert await process.call("ledger.once", value="x", key="k") == await process.call("ledger.once", value="x", key="k")
    assert lines(tmp_path) == [("once", "x")]


async def test_a_host_call_without_key_has_its_ask_withdrawn_by_a_kill(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "ask_as_host", str(tmp_path), None, at="story.told:1")
    async with opened(tmp_path) as kernel:
        assert await asks_of(kernel) == []
        assert [ask.state for ask in await kernel.asks(None)] == ["withdrawn"]
    assert lines(tmp_path) == []


async def test_a_keyed_host_call_keeps_its_ask_and_uses_the_answer_when_it_is_made_again(
    kernels: Zygote, tmp_path: Path
) -> None:
    killed(kernels, "ask_as_host", str(tmp_path), "k", at="story.told:1")
    async with opened(tmp_path) as kernel:
        (ask,) = await asks_of(kernel)
        await kernel.answer(ask.id, "approve", by="pat")
    async with opened(tmp_path) as kernel:
        assert await kernel.process(1).call("ledger.once", value="x", key="k") == {"value": "x", "when": 1}
        assert [ask.state for ask in await kernel.asks(None)] == ["consumed"]


@pytest.mark.parametrize(
    ("effect", "asked", "done"), [("repeatable", 0, 0), ("keyed", 0, 1), ("probeable", 0, 1), ("once", 1, 0)]
)
@pytest.mark.parametrize("program", [None, "listener"])
async def test_an_open_intent_of_a_host_follows_its_class(
    kernels: Zygote, tmp_path: Path, effect: str, asked: int, done: int, program: str | None
) -> None:
    killed(kernels, "call_as_host", str(tmp_path), effect, None, program, at=f"ledger.{effect}.before:1")
    async with opened(tmp_path) as kernel:
        assert [ask.kind for ask in await asks_of(kernel)] == ["unknown_outcome"] * asked
        await kernel.core.effects_over()
    assert lines(tmp_path) == [(effect, "x")] * done


async def test_an_unknown_outcome_of_a_host_call_is_asked_once_and_settled_for_good(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "call_as_host", str(tmp_path), "once", None, None, at="ledger.once.after:1")
    async with opened(tmp_path) as kernel:
        (ask,) = await asks_of(kernel)
        await kernel.answer(ask.id, "deny", by="pat")
        assert await asks_of(kernel) == []
    async with opened(tmp_path) as kernel:
        assert await asks_of(kernel) == []
        assert [(entry.outcome, entry.code) async for entry in kernel.audit()] == [("unknown", "unavailable.outcome_unknown")]


async def test_calls_of_the_host_are_no_part_of_what_a_program_repeats(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        process = await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
        await process.call("ledger.once", value="by the host", key="k")
        await process.call("ledger.once", value="again")
    async with opened(tmp_path) as kernel:
        await kernel.process(1).send("told")
        assert (await kernel.process(1).wait(5)).value == "told"


# --- what recovery does again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["repeatable", "keyed", "probeable"])
async def test_what_a_person_changed_is_what_runs_again(kernels: Zygote, tmp_path: Path, effect: str) -> None:
    gate = f'restrict "g" version 1\nask ledger.{effect}\n'
    killed(kernels, "run_actor", str(tmp_path), effect, gate, {"value": "small"}, CAPABILITIES, at=f"ledger.{effect}.before:1")
    async with opened(tmp_path) as kernel:
        assert (await kernel.process(1).wait(5)).value == "small"
    assert lines(tmp_path) == [(effect, "small")]


async def test_the_last_use_of_a_capability_pays_for_the_call_that_a_kill_interrupted(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "run_actor", str(tmp_path), "keyed", None, None, ["ledger.keyed uses 1"], at="ledger.keyed.before:1")
    async with opened(tmp_path) as kernel:
        assert (await kernel.process(1).wait(5)).value == "big"


async def test_a_revoked_right_does_not_run_again_and_its_outcome_is_unknown(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "run_actor", str(tmp_path), "keyed", None, None, CAPABILITIES, at="ledger.keyed.after:1")
    async with opened(tmp_path, resume=False) as kernel:
        for cap in await kernel.caps(1):
            await kernel.revoke(cap.id)
    async with opened(tmp_path) as kernel:
        error = (await kernel.process(1).wait(5)).error
        assert error is not None
        assert error.code == "unavailable.outcome_unknown"
        assert "may not `ledger.keyed`" in error.message
    async with opened(tmp_path) as kernel:
        assert kernel.core.store.open_intents(1, 0) == []
    assert lines(tmp_path) == [("keyed", "big")]


async def test_running_again_uses_no_further_budget(kernels: Zygote, tmp_path: Path) -> None:
    for _ in range(4):
        killed(kernels, "run_spender", str(tmp_path), at="ledger.keyed.after:1")
    async with opened(tmp_path) as kernel:
        exit_ = await kernel.process(1).wait(5)
        assert (exit_.state, exit_.value) == ("exited", 3.0), exit_
    assert lines(tmp_path) == [("keyed", "a"), ("keyed", "b")]


async def test_a_fork_repeats_what_its_parent_did_in_its_own_namespace(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        assert (await (await kernel.spawn(image("keeper"))).wait(5)).value == "child"


# --- a program that changed -------------------------------------------------------------------------------------------------


async def one(sys: Any) -> str:
    await sys.ledger.once(value="one")
    await sys.msg.recv()
    return "end"


async def other(sys: Any) -> str:
    try:
        await sys.ledger.once(value="other")
    except agentos.AgentOSError:
        await sys.ledger.once(value="must not happen")
    return "end"


async def many(sys: Any) -> str:
    await sys.gather(sys.ledger.once(value="one"), sys.ledger.once(value="two"))
    return "end"


async def fewer(sys: Any) -> str:
    return "end"


@pytest.mark.parametrize(
    ("changed", "told"),
    [(other, "- value: 'one'\n  + value: 'other'"), (many, "instead of call 1"), (fewer, "ended without making call 1")],
)
async def test_a_program_that_changed_is_stopped_with_a_difference_and_nobody_else_is(
    tmp_path: Path, changed: Any, told: str
) -> None:
    async with opened(tmp_path, programs=[versioned(one)]) as kernel:
        await kernel.spawn(image("changing"))
        await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
    async with opened(tmp_path, programs=[versioned(changed)]) as kernel:
        await kernel.process(1).send("go on")
        exit_ = await kernel.process(1).wait(5)
        assert (exit_.state, exit_.error and exit_.error.code) == ("failed", "invalid.state")
        assert told in str(exit_.error)
        await kernel.process(2).send("go on")
        assert (await kernel.process(2).wait(5)).value == "go on"
    assert lines(tmp_path) == [("once", "one"), ("keyed", "go on")]


async def test_a_kernel_without_the_program_leaves_the_process_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, programs=[versioned(one)]) as kernel:
        process = await kernel.spawn(image("changing"))
        await kernel.run_until_idle(5)
    async with opened(tmp_path) as kernel:
        await kernel.process(process.pid).send("early")
        await kernel.run_until_idle(5)
        assert len(await kernel.ps()) == 1
    async with opened(tmp_path, programs=[versioned(one)]) as kernel:
        assert (await kernel.process(process.pid).wait(5)).value == "end"


async def test_a_result_that_cannot_be_kept_fails_the_process_and_not_the_store(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        exit_ = await (await kernel.spawn(image("unstorable"))).wait(5)
        assert (exit_.state, exit_.error and exit_.error.code) == ("failed", "invalid.argument")
    async with opened(tmp_path) as kernel:
        assert (await kernel.ps(), await kernel.caps()) == ([], [])


# --- resume, pause, unwind --------------------------------------------------------------------------------------------------


async def test_resume_false_leaves_programs_where_they_are_until_they_are_resumed(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        process = await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
    async with opened(tmp_path, resume=False) as kernel:
        process = kernel.process(process.pid)
        await process.send("late")
        await kernel.run_until_idle(5)
        assert lines(tmp_path) == []
        await process.signal("resume")
        assert (await process.wait(5)).value == "late"


async def test_a_paused_process_stays_paused_when_it_is_unwound_and_reopened(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        process = await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
        await process.signal("pause")
        kernel.core.scheduler.resident_max = 0
        await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
    async with opened(tmp_path) as kernel:
        process = kernel.process(process.pid)
        await process.send("held")
        await kernel.run_until_idle(5)
        assert (process.info.state, lines(tmp_path)) == ("paused", [])
        await process.signal("resume")
        assert (await process.wait(5)).value == "held"


async def test_a_process_that_was_just_woken_is_not_unwound(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        kernel.core.scheduler.resident_max = 1
        sleeping = await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
        await kernel.spawn(image("poker"), args={"to": sleeping.pid})
        assert (await sleeping.wait(5)).value == "poked"


async def test_a_process_that_the_host_uses_is_not_unwound(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        kernel.core.scheduler.resident_max = 1
        used = await kernel.spawn(image("listener"))
        await kernel.run_until_idle(5)
        outcomes = await used.calls([("ledger.once", {"value": "x", "delay_s": 0.05})])
        kernel.core.scheduler.resident_max = 0
        assert await used.call("ledger.once", value="y", delay_s=0.01) == {"value": "y", "when": 2}
        await used.send("z")
        assert (outcomes[0].ok, (await used.wait(5)).value) == (True, "z")


async def test_an_unwound_process_with_an_unknown_outcome_waits_for_its_person(kernels: Zygote, tmp_path: Path) -> None:
    killed(kernels, "run_actor", str(tmp_path), "once", None, None, CAPABILITIES, at="ledger.once.after:1")
    for _ in range(2):
        async with opened(tmp_path) as kernel:
            kernel.core.scheduler.resident_max = 0
            (ask,) = await asks_of(kernel)
    async with opened(tmp_path) as kernel:
        await kernel.answer(ask.id, "approve", by="pat", value={"value": "seen", "when": 1})
        assert (await kernel.process(1).wait(5)).value == "seen"
    assert lines(tmp_path) == [("once", "big")]


# --- policy, found on the way -----------------------------------------------------------------------------------------------


async def test_a_condition_is_looked_at_in_every_call_on_the_same_resource(tmp_path: Path) -> None:
    async with opened(tmp_path) as kernel:
        process = await kernel.spawn(
            agentos.Image.host(capabilities=CAPABILITIES),
            policy='restrict "g" version 1\ndeny ledger.pure when value == "bad"\n',
        )
        await process.call("ledger.pure", value="good")
        with pytest.raises(agentos.Denied):
            await process.call("ledger.pure", value="bad")


@pytest.mark.parametrize("point", ["admit.durable", "fs.write.filled", "fs.write.renamed", "settle.before"])
async def test_an_approved_write_is_finished_without_asking_again(kernels: Zygote, tmp_path: Path, point: str) -> None:
    killed(kernels, "write_asked", str(tmp_path), at=f"{point}:1")
    async with opened(tmp_path) as kernel:
        exit_ = await kernel.process(1).wait(5)
        assert (exit_.state, exit_.value) == ("exited", "/report.md"), exit_
        assert (tmp_path / "w/report.md").read_text() == "the report"
        assert [ask.state for ask in await kernel.asks(None)] == ["consumed"]
