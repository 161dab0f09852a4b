"""How long a question is: counted once for each call, and forgotten with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentos.abi.counting import count_messages
from agentos.devices.llm import device
from agentos.runtime.kernel import Kernel
from tests.agents import answering, image
from tests.builders import opened

pytestmark = pytest.mark.anyio


def sizes(kernel: Kernel) -> dict[int, Any]:
    """What the device keeps of questions that were estimated and not asked yet."""
    models: device.LanguageModels = kernel.broker.door.served["llm.complete"].handler.__self__
    return models._sizes


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("this is a")
    return tmp_path


async def test_a_question_is_counted_once_and_told_to_the_driver(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def counting(messages: Any, tools: Any = ()) -> int:
        counted.append(len(tuple(messages)))
        return count_messages(messages, tools)

    monkeypatch.setattr(device, "count_messages", counting)
    talker = answering(lambda request: [("fs.read", {"path": "/a.txt"})] if request.turn < 4 else "done")
    async with opened(":memory:", workspace=place, models={"default": talker}) as kernel:
        assert (await (await kernel.spawn(image(), goal="read")).wait(5)).value == "done"
        assert sizes(kernel) == {}
    assert [size for size in counted if size] == [len(request.messages) for request in talker.requests]
    assert [request.tokens for request in talker.requests] == [count_messages(r.messages, r.tools) for r in talker.requests]


async def test_questions_that_are_never_asked_are_kept_up_to_a_bound(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_SIZES_MAX", 3)
    async with opened(":memory:", workspace=place, models={"default": answering(lambda request: "done")}) as kernel:
        estimate = kernel.broker.door.served["llm.complete"].estimate
        for number in range(9):
            args = {
                "messages": [{"role": "user", "content": "x" * number}],
                "tools": None,
                "profile": "default",
                "tokens_max": None,
            }
            estimate(args)
            assert estimate(args) == estimate(args)
        assert len(sizes(kernel)) == 3
