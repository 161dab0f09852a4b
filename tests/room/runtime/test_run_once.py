"""`agentos.run`: three lines of Python, the real kernel behind them."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_validator
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

import agentos
from agentos.abi.model import model_failed
from agentos.testing import ModelRequest, ScriptedModel
from tests.builders import settled
from tests.room.runtime.control_builders import Place, a_place


class Summary(BaseModel):
    title: str
    words: int


@dataclass
class Point:
    x: int
    y: int


class Pair(TypedDict):
    left: str
    right: int


def lookup(word: str, times: int = 1) -> str:
    """Look a word up."""
    return f"{word} means water; " * times


class Shelf:
    def __init__(self) -> None:
        self.books = ["Dune"]

    def count(self, of: str = "") -> int:
        """Count the books."""
        return sum(of in book for book in self.books)


def told(model: ScriptedModel) -> str:
    """What the model was told last."""
    return str(model.requests[-1].messages[-1]["content"])


def shown(model: ScriptedModel) -> dict[str, Any]:
    """The tools that the model saw first, by name."""
    return {tool["function"]["name"]: tool["function"] for tool in model.requests[0].tools}


@pytest.fixture
def place() -> Iterator[Place]:
    with a_place() as made:
        yield made


@pytest.fixture(autouse=True)
def no_host_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


# --- the answer -------------------------------------------------------------------------------------------------------------


def test_a_run_returns_the_text_of_the_model() -> None:
    assert agentos.run("say hello", model=["hello"]) == "hello"


@pytest.mark.parametrize(
    ("result", "said", "value"),
    [
        (Summary, '{"title": "T", "words": 3}', Summary(title="T", words=3)),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (Pair, '{"left": "a", "right": 2}', {"left": "a", "right": 2}),
        (list[Point], '[{"x": 1, "y": 2}]', [Point(1, 2)]),
        (int | None, "null", None),
        (set[int], "[1, 2]", {1, 2}),
        (str, "plain", "plain"),
        ({"type": "object", "required": ["n"]}, '{"n": 1}', {"n": 1}),
    ],
)
def test_a_run_returns_an_instance_of_its_result(result: Any, said: str, value: Any) -> None:
    assert agentos.run("describe", model=[said], result=result) == value


def test_the_model_is_told_the_schema_and_asked_again_for_what_does_not_fit() -> None:
    summary = ScriptedModel(['{"title": "T"}', '{"title": "T", "words": 1}'])
    assert agentos.run("describe", model=summary, result=Summary) == Summary(title="T", words=1)
    assert "'words' is a required property" in told(summary)


def test_what_a_validator_refuses_is_an_error_and_no_instance() -> None:
    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def even(cls, n: int) -> int:
            assert n % 2 == 0
            return n

    with pytest.raises(agentos.Invalid, match="refused by its type") as caught:
        agentos.run("an even number", model=['{"n": 3}'], result=Even)
    assert caught.value.field == "n"


def test_a_result_that_pydantic_cannot_describe_is_refused_before_anything_runs() -> None:
    model = ScriptedModel(["x"])
    with pytest.raises(agentos.Invalid, match="describes no result"):
        agentos.run("go", model=model, result=threading.Lock)
    assert model.requests == []


# --- tools ------------------------------------------------------------------------------------------------------------------


def test_offering_a_function_gives_the_model_its_name_text_and_types_and_the_right_to_call_it() -> None:
    model = ScriptedModel([[("lookup", {"word": "aqua"})], "water"])
    assert agentos.run("what is aqua?", tools=[lookup], model=model) == "water"
    declared = shown(model)["tools__lookup"]
    assert declared["description"] == "Look a word up."
    assert declared["parameters"]["properties"] == {"word": {"type": "string"}, "times": {"default": 1, "type": "integer"}}
    assert told(model).startswith("aqua means water")


@pytest.mark.parametrize("name", ["lookup", "tools.lookup", "tools__lookup"])
def test_a_model_may_call_a_tool_by_any_of_its_names(name: str) -> None:
    model = ScriptedModel([[(name, {"word": "aqua"})], "done"])
    agentos.run("go", tools=[lookup], model=model)
    assert told(model).startswith("aqua means water")


def test_nothing_but_the_tools_is_offered() -> None:
    model = ScriptedModel([[("fs.read", {"path": "/etc/passwd"})], "done"])
    agentos.run("go", tools=[lookup], model=model)
    assert set(shown(model)) == {"tools__lookup", "obj__get"}
    assert "denied.capability" in told(model)


def test_methods_coroutines_partials_and_dataclasses_are_tools() -> None:
    async def double(n: int) -> int:
        """Double a number."""
        return n * 2

    def shift(ctx: agentos.Call, by: int, point: Point) -> Point:
        """Shift a point."""
        assert ctx.pid == 1
        return Point(point.x + by, point.y)

    calls = [("double", {"n": 2}), ("count", {}), ("shift", {"point": {"x": 1, "y": 1}}), ("lookup", {"word": "a", "times": 9})]
    model = ScriptedModel([calls, "done"])
    shift.__annotations__["point"] = Point  # a local function sees no module of its own
    bound = functools.partial(shift, by=5)
    agentos.run("go", tools=[double, Shelf().count, bound, functools.partial(lookup, times=1)], model=model)
    answers = [message["content"] for message in model.requests[-1].messages[-4:]]
    assert answers[:3] == ["4", "1", '{"x":6,"y":1}']
    assert "no argument `times`" in answers[3]  # what a partial binds is the app's
    assert list(shown(model)["tools__shift"]["parameters"]["properties"]) == ["point"]


def test_a_device_and_built_in_ops_are_tools(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a file")
    bank = agentos.Device("bank")

    @bank.op(resource="acct/{account}", effect="pure")
    def balance(account: str) -> int:
        """Return the balance."""
        return 42

    model = ScriptedModel([[("bank.balance", {"account": "7"}), ("fs.read", {"path": "/a.txt"})], "done"])
    agentos.run("go", tools=[bank, "fs.read /*.txt"], workspace=tmp_path, model=model)
    assert [message["content"].partition("\n")[0] for message in model.requests[-1].messages[-2:]] == ["42", "from a file"]


def test_a_workspace_alone_may_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a file")
    model = ScriptedModel([[("fs.read", {"path": "/a.txt"}), ("fs.write", {"path": "/a.txt", "text": "x"})], "done"])
    agentos.run("go", workspace=tmp_path, model=model)
    read, written = (message["content"] for message in model.requests[-1].messages[-2:])
    assert read == "from a file"
    assert "denied.capability" in written
    assert (tmp_path / "a.txt").read_text() == "from a file"


def test_what_would_be_asked_is_denied_and_told() -> None:
    model = ScriptedModel([[("lookup", {"word": "a"}), ("human.ask", {"question": "may I?"})], "gave up"])
    policy = 'policy "p" version 1\nask tools.lookup because "careful"\n'
    assert agentos.run("go", tools=[lookup], model=model, policy=policy) == "gave up"
    asked, question = (message["content"] for message in model.requests[-1].messages[-2:])
    assert "denied.human" in asked
    assert "error" in question


def test_an_exception_in_a_tool_is_told_and_ends_nothing() -> None:
    def broken(path: str) -> str:
        """Break."""
        raise ValueError(f"no such thing: {path}")

    model = ScriptedModel([[("broken", {"path": "x"})], "it is broken"])
    assert agentos.run("go", tools=[broken], model=model) == "it is broken"
    assert "unavailable.device" in told(model)
    assert "ValueError: no such thing: x" in told(model)


def test_an_exception_in_a_device_does_not_tell_its_secrets() -> None:
    vault = agentos.Device("vault", secrets={"token": "s3cr3t-value"})

    @vault.op
    def fetch(ctx: agentos.Call) -> str:
        """Fetch."""
        raise ConnectionError(f"401 for {ctx.secrets['token']}")

    model = ScriptedModel([[("fetch", {})], "no"])
    agentos.run("go", tools=[vault], model=model)
    assert "401 for [secret token]" in told(model)
    assert "s3cr3t" not in str(model.requests)


def naked(word):  # type: ignore[no-untyped-def]
    """Have no types."""
    return word


def generator(word: str) -> Iterator[str]:
    """Have no end."""
    yield word


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (lambda word: word, "a lambda has neither name nor types"),
        (naked, "declares no type for `word`"),
        (generator, "is a generator"),
        (42, "a `int` is no tool"),
        ((), "a `tuple` is no tool"),
        ((lookup, {"efect": "pure"}), "unknown option `efect`"),
        ("not an op!!", "capability"),
        ("fs.raed", "there is no op `fs.raed`"),
    ],
)
def test_what_is_no_tool_is_refused_before_anything_runs(tool: Any, said: str) -> None:
    model = ScriptedModel(["x"])
    with pytest.raises(agentos.Invalid) as caught:
        agentos.run("go", tools=[tool], model=model)
    assert said in str(caught.value)
    assert caught.value.hint
    assert model.requests == []


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(agentos.Invalid, match="two tools are called `lookup`"):
        agentos.run("go", tools=[lookup, lookup], model=["x"])


# --- models -----------------------------------------------------------------------------------------------------------------


def test_a_file_of_turns_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "turns.yaml").write_text("- [[lookup, {word: aqua}]]\n- it is water\n")
    assert agentos.run("go", tools=[lookup], model=f"scripted:{tmp_path / 'turns.yaml'}") == "it is water"


def test_without_a_model_the_error_names_the_three_ways_to_give_one() -> None:
    with pytest.raises(agentos.AgentOSError) as caught:
        agentos.run("go")
    assert all(way in caught.value.hint for way in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "scripted:FILE"))


def test_what_the_model_fails_with_is_what_the_caller_gets() -> None:
    def refused(request: ModelRequest) -> str:
        raise model_failed("request", "the model does not exist", hint="name another")

    with pytest.raises(agentos.Unavailable, match="the model does not exist") as caught:
        agentos.run("go", model=ScriptedModel(refused))
    assert (caught.value.code, caught.value.hint, caught.value.pid) == ("unavailable.device", "name another", 1)


def test_a_budget_ends_it_with_the_denial() -> None:
    with pytest.raises(agentos.Denied) as caught:
        agentos.run(
            "go",
            tools=[lookup],
            model=ScriptedModel(lambda request: [("lookup", {"word": "a" * request.turn})]),
            budget={"calls": 12},
        )
    assert caught.value.code == "denied.budget"


# --- its end ----------------------------------------------------------------------------------------------------------------


def test_a_timeout_ends_it(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(agentos.Unavailable) as caught:
        agentos.run("go", model=ScriptedModel(["late"], delay_s=30), timeout_s=0.2)
    assert caught.value.code == "unavailable.timeout"
    assert time.monotonic() - began < 5


@pytest.mark.anyio
async def test_inside_an_event_loop_it_says_what_to_use_and_arun_works_there() -> None:
    with pytest.raises(agentos.Invalid, match="event loop"):
        agentos.run("go", model=["x"])
    assert await agentos.arun("go", model=["x"]) == "x"


def test_it_runs_in_other_threads_at_once() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(agentos.run("go", model=[f"{n}"]))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == ["0", "1", "2", "3"]


def test_ctrl_c_raises_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(request: ModelRequest) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()
        return "never"

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    try:
        with pytest.raises(KeyboardInterrupt):
            agentos.run("go", model=ScriptedModel(interrupted))
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= threads


KILLED = """
import os, sys
import agentos
from agentos.abi.model import model_failed
from agentos.testing import ScriptedModel

def work(part: int) -> str:
    '''Do a part.'''
    with open(sys.argv[2], "a") as file:
        file.write(f"{part}\\n")
    if part == 2 and len(sys.argv) > 3:
        os.kill(os.getpid(), 9)
    return "done"

turns = [[("work", {"part": 1})], [("work", {"part": 2})], [("work", {"part": 3})], "all done"]
print(agentos.run("do the parts", tools=[(work, {"effect": "repeatable"})], model=ScriptedModel(turns), store=sys.argv[1]))
"""


def test_with_a_store_the_same_call_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "run.db"), str(tmp_path / "done.txt")]
    killed = subprocess.run([*command, "die"], capture_output=True, text=True, check=False, timeout=60)
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert again.stdout == "all done\n", again.stderr
    assert (tmp_path / "done.txt").read_text().split() == ["1", "2", "2", "3"]  # only what was under way was done again


def test_with_a_store_other_unfinished_processes_stay_as_they_are(tmp_path: Path) -> None:
    store = tmp_path / "run.db"

    async def leave_one() -> None:
        model = ScriptedModel(["late"], delay_s=30)
        options: dict[str, Any] = {"models": {"default": model}, "grace_s": 0, "control": False}
        async with agentos.open(store, workspace=tmp_path / "ws", **options) as kernel:
            await kernel.spawn(agentos.Image.from_dict({"name": "other", "prompt": {"text": "x"}}), goal="other")
            await settled(kernel, lambda: model.requests)

    (tmp_path / "ws").mkdir()
    anyio.run(leave_one)
    model = ScriptedModel(["mine"])
    assert agentos.run("mine", model=model, store=store) == "mine"
    assert len(model.requests) == 1
    with agentos.open_sync(store, workspace=tmp_path / "ws", resume=False) as kernel:
        assert [info.goal for info in kernel.ps()] == ["other"]


async def asked(store: Path) -> None:
    """Wait until somebody is asked something in a store."""
    while True:
        with contextlib.suppress(agentos.AgentOSError):  # it is not there yet, or being opened
            async with agentos.connect(store) as kernel:
                if await kernel.asks():
                    return
        await anyio.sleep(0.05)


ASKING = """
import sys
import agentos

def lookup(word: str) -> str:
    '''Look a word up.'''
    return "water"

policy = 'policy "p" version 1\\nask tools.lookup because "careful"\\n'
model = [[("lookup", {"word": "a"})], "done"]
try:
    print(agentos.run("go", tools=[lookup], policy=policy, model=model, store=sys.argv[1], mode=sys.argv[2]))
except agentos.Invalid as error:
    print(error.ask, error.message)
"""


def test_a_run_that_waits_for_a_person_says_so_where_nobody_is_there(place: Place) -> None:
    command = [sys.executable, "-c", ASKING, str(place.store)]
    waiting = subprocess.Popen([*command, "ask"])
    try:
        anyio.run(asked, place.store)
    finally:
        waiting.kill()
        waiting.wait(10)
    again = subprocess.run([*command, "noninteractive"], capture_output=True, text=True, check=False, timeout=60)
    assert again.stdout == "1 process 1 of an earlier call waits for a person\n", again.stderr
    with agentos.open_sync(place.store, workspace=place.workspace, resume=False) as kernel:
        kernel.answer(1, "approve", by="ann")
    last = subprocess.run([*command, "noninteractive"], capture_output=True, text=True, check=False, timeout=60)
    assert last.stdout == "done\n", last.stderr


def test_an_image_brings_its_own_instructions_and_tools(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a file")
    manifest = {
        "name": "reader",
        "prompt": {"text": "You read."},
        "capabilities": ["fs.read /**"],
        "model": {"profile": "small"},
    }
    model = ScriptedModel([[("fs.read", {"path": "/a.txt"}), ("lookup", {"word": "a"})], "done"])
    image = agentos.Image.from_dict(manifest)
    assert agentos.run("go", image=image, tools=[lookup], workspace=tmp_path, model=model) == "done"
    assert [message["content"][:6] for message in model.requests[-1].messages[-2:]] == ["from a", "a mean"]
    assert model.requests[0].messages[0]["content"].startswith("You read.")
