"""SIGKILL at every point of an agent's run: it ends as if nothing had happened, and no answer of the model is asked for twice.

An anomaly loop, as in test_crash_matrix: the n-th point kills. By default it is one change of the disk in STEP, and each kind of point near
the model once; AGENTOS_SOAK=1 kills at every point there is, and once more while recovering.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault import react_cases
from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.react_cases import FLEET_TURNS, LIMITED, TURNS, Requests, is_too_long
from tests.model_server import Answer, Served, serving

pytestmark = [pytest.mark.slow]

CASES = "tests.fault.react_cases"
SOAK = bool(os.environ.get("AGENTOS_SOAK"))
STEP = 1 if SOAK else 4
POINTS = "*" if SOAK else "*.after"
EXACT = {"a", "b", "d", "f", "asked"}
NEAR = [f"model.{where}:{turn}" for where in ("asked", "answered") for turn in (1, 3, 7)]
NEAR += ["admit.before:9", "admit.appended:9", "settle.before:4", "settle.appended:8", "fs.write.renamed:1", "done.appended:5"]
SECONDS = 3600 if SOAK else 60


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(CASES) as started:
        yield started


def live(kernels: Zygote, folder: Path, *, resident: int = 512, url: str = "", crash_at: str = "") -> Any:
    return kernels.run(f"{CASES}:live", str(folder), resident, url, crash_at == "", crash_at=crash_at)


def check(found: dict[str, Any], expected: dict[str, Any], *, kills: int = 1) -> None:
    """Compare a recovered run with the one that was never killed."""
    for same in ("state", "value", "error", "messages", "kept", "answered", "prompts"):
        assert found[same] == expected[same], same
    assert found["chain"]
    assert found["is_replayed"]
    assert (found["asked_again"], found["done_again"]) == ([], []), "what was written down was done again"
    assert {value: found["ledger"][value] for value in EXACT} == dict.fromkeys(EXACT, 1)
    assert found["ledger"].keys() == expected["ledger"].keys()
    assert found["asked"].keys() <= {"approval", "unknown_outcome"}
    assert found["tokens"] >= found["tokens_answered"]
    for turn, count in found["requests"].items():
        assert count <= expected["requests"][turn] + kills


def crashed(kernels: Zygote, folder: Path, resident: int = 512) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield what came of each run that was killed at the n-th point, for every n, and how often it was."""
    again = random.Random(resident)
    for number in itertools.count(1, STEP):
        where = folder / str(number)
        if live(kernels, where, resident=resident, crash_at=f"{POINTS}:{number}") is not None:
            assert number > 3
            return
        kills = 1
        if SOAK:
            kills += live(kernels, where, resident=resident, crash_at=f"*:{again.randint(1, 120)}") is None
        yield live(kernels, where, resident=resident), kills


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("resident", [512, 0])
def test_an_agent_that_is_killed_at_any_point_ends_as_if_nothing_had_happened(
    kernels: Zygote, tmp_path: Path, resident: int
) -> None:
    """INVARIANT intent-before-effect, resume-never-reruns, committed-survives; resident 0 unwinds it whenever it waits."""
    expected = live(kernels, tmp_path / "whole", resident=resident)
    assert (expected["state"], expected["value"]) == ("exited", {"done": True}), expected["error"]
    assert (expected["requests"]["3"], expected["requests"]["4"]) == (2, 2), "one attempt was limited, one too long"
    assert {"results/4.1", "thing"} < set(expected["kept"]), "a result was cut, and pages were put out"
    for found, kills in crashed(kernels, tmp_path, resident):
        check(found, expected, kills=kills)


@pytest.mark.timeout(3600 if SOAK else 120)
def test_it_ends_so_with_a_store_on_postgresql(kernels: Zygote, tmp_path: Path, postgres: Callable[[], str]) -> None:
    def placed(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "address").write_text(postgres())
        return tmp_path / name

    expected = live(kernels, placed("whole"))
    assert expected["state"] == "exited", expected["error"]
    for number in itertools.count(5, 1 if SOAK else 20):
        where = placed(str(number))
        if live(kernels, where, crash_at=f"*.after:{number}") is not None:
            assert number > 13
            return
        check(live(kernels, where), expected)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("point", NEAR)
def test_a_kill_around_a_models_answer_asks_for_that_answer_at_most_once_more(
    kernels: Zygote, tmp_path: Path, whole: dict[str, Any], point: str
) -> None:
    assert live(kernels, tmp_path, crash_at=point) is None
    found = live(kernels, tmp_path)
    check(found, whole)
    again = [turn for turn, count in found["requests"].items() if count > whole["requests"][turn]]
    assert len(again) <= 1, "at most the one answer that was under way, or not yet on the disk, is asked for again"


@pytest.fixture(scope="module")
def whole(kernels: Zygote, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run that nobody kills comes to."""
    return dict(live(kernels, tmp_path_factory.mktemp("whole")))


# --- a real server and the real client ----------------------------------------------------------------------------------------


def script(requests: Callable[[], Requests]) -> Callable[[Served], Answer]:
    """What the server says: the same turns; which one it is stands in the prompt's last line."""

    def answer(served: Served) -> Answer:
        messages = served.json["messages"]
        turn = int(re.findall(r"\[turn (\d+) of ", messages[-1]["content"])[-1])
        if not requests().add(turn, messages) and turn == LIMITED:
            return Answer("too many requests", status=429, headers={"retry-after": "1"})
        if is_too_long(turn, messages):
            return Answer("this exceeds the maximum context length", status=400)
        said = TURNS[turn - 1]
        return Answer(said) if isinstance(said, str) else Answer(calls=[(op.replace(".", "__"), args) for op, args in said])

    return answer


@pytest.mark.timeout(SECONDS)
def test_a_server_gets_no_request_again_whose_answer_was_written_down(kernels: Zygote, tmp_path: Path) -> None:
    """The server outlives the kernels that ask it, and counts."""
    where = tmp_path / "whole"
    with serving(script(lambda: Requests(where / "requests"))) as server:
        expected = live(kernels, where, url=server.url)
        assert expected["state"] == "exited", expected["error"]
        for number in itertools.count(3, 1 if SOAK else 9):
            where = tmp_path / str(number)
            if live(kernels, where, url=server.url, crash_at=f"*.after:{number}") is not None:
                break
            check(live(kernels, where, url=server.url), expected)
        assert number > 20


# --- a conversation -----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("resident", [512, 0])
def test_a_conversation_goes_on_after_a_kill_while_it_waits_or_answers(kernels: Zygote, tmp_path: Path, resident: int) -> None:
    """No message is lost, none is answered twice."""

    def chat(folder: Path, crash_at: str = "") -> Any:
        return kernels.run(f"{CASES}:chat", str(folder), resident, crash_at=crash_at)

    expected = chat(tmp_path / "whole")
    assert [text for text, _ in expected["told"]] == list(react_cases.TELLS.values())
    for number in itertools.count(1 if SOAK else 2, 1 if SOAK else 3):
        where = tmp_path / str(number)
        if chat(where, f"{POINTS}:{number}") is not None:
            assert number > 10
            return
        assert chat(where) == expected


# --- many agents --------------------------------------------------------------------------------------------------------------


def fleet_script(requests: Counter[tuple[str, int]]) -> Callable[[Served], Answer]:
    """What the server says to each agent of a fleet, whose name is its goal."""

    def answer(served: Served) -> Answer:
        messages = served.json["messages"]
        name = re.search(r"agent \d+", str(messages[1]["content"]))
        turn = int(re.findall(r"\[turn (\d+) of ", messages[-1]["content"])[-1])
        assert name is not None
        requests[name.group(), turn] += 1
        if turn > len(FLEET_TURNS):
            return Answer("done", delay_s=0.002)
        value = f"{name.group()}, {turn}"
        args = {"name": "log", "value": value} if FLEET_TURNS[turn - 1] == "obj.append" else {"value": value}
        return Answer(calls=[(FLEET_TURNS[turn - 1].replace(".", "__"), args)], delay_s=0.002)

    return answer


@pytest.mark.timeout(SECONDS)
def test_many_agents_that_are_killed_at_random_act_once_and_repeat_one_question_each_at_most(
    kernels: Zygote, tmp_path: Path
) -> None:
    count, chance, kills = (100, random.Random(8), 0) if SOAK else (24, random.Random(8), 0)
    requests: Counter[tuple[str, int]] = Counter()
    with serving(fleet_script(requests)) as server:
        found = None
        while found is None:
            last = kills == (60 if SOAK else 5)
            after_s = None if last else chance.uniform(0.1, 0.4)
            found = kernels.run(f"{CASES}:fleet", str(tmp_path), count, server.url, kill_after_cpu_s=after_s)
            kills += found is None
    assert kills >= 3
    assert (found["states"], found["errors"], found["chain"]) == ({"exited": count}, [], True)
    assert set(found["ledger"].values()) == set(found["appended"].values()) == {1}
    assert (len(found["ledger"]), len(found["appended"])) == (3 * count, count)
    assert len(requests) == count * (len(FLEET_TURNS) + 1)
    for number in range(count):
        asked = [requests[f"agent {number}", turn] for turn in range(1, len(FLEET_TURNS) + 2)]
        assert sum(asked) <= len(asked) + kills, "a kill costs an agent the one answer that was under way"
