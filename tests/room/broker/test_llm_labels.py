"""What a model may be told, and what its words are worth: clearance, labels, redaction, provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentos.abi.labels import names
from agentos.abi.model import ModelReply, ModelRequest, Usage, Vectors
from agentos.devices.llm.profile import Profile
from agentos.devices.llm.scripted import ScriptedModel
from tests.builders import alive, host, opened, refused, rows, value_of

pytestmark = pytest.mark.anyio

ALL = ("fs.*", "obj.*", "llm.*")
POLICY = """policy "p"
let vault = "/vault/**"
let house = "/house/**"
let inbox = "/inbox/**"
label $vault secret
label $house internal
label $inbox untrusted
allow * any *
"""


class Both:
    """Says yes, and makes vectors."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        return ModelReply("yes", usage=Usage(5, 1))

    async def embed(self, texts: list[str], timeout_s: float) -> Any:
        return Vectors([[1.0] for _ in texts])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("vault", "house", "inbox"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"what the {name} holds")
    return tmp_path


def kernel(place: Path, **options: Any) -> Any:
    models = {level: Profile(Both(), clearance=level) for level in ("public", "internal", "secret")}
    return opened(workspace=place, **{"policy": POLICY, "models": models, **options})


CALLS: dict[str, dict[str, Any]] = {
    "llm.complete": {"messages": [{"role": "user", "content": "hello"}]},
    "llm.embed": {"texts": ["hello"]},
}


@pytest.mark.parametrize("op", CALLS)
@pytest.mark.parametrize(
    ("folder", "taken"), [("vault", {"secret"}), ("house", {"internal", "secret"}), ("inbox", {"public", "internal", "secret"})]
)
async def test_a_model_is_told_what_it_is_cleared_for_and_a_dry_run_says_the_same(
    place: Path, op: str, folder: str, taken: set[str]
) -> None:
    async with kernel(place) as k:
        process = await host(k, *ALL)
        await process.call("fs.read", path=f"/{folder}/a.txt")
        for profile in ("public", "internal", "secret"):
            decision = k.check(process.pid, op, profile=profile, **CALLS[op])
            if profile in taken:
                assert decision.outcome == "allow"
                await process.call(op, profile=profile, **CALLS[op])
            else:
                assert (decision.outcome, decision.code) == ("deny", "denied.label")
                assert f"takes up to {profile}" in decision.explain()
                assert await refused(process.call(op, profile=profile, **CALLS[op])) == "denied.label"


async def test_a_profile_that_the_host_has_not_got_is_told_nothing_above_public(place: Path) -> None:
    async with kernel(place) as k:
        process = await host(k, *ALL)
        assert await refused(process.call("llm.complete", profile="other", **CALLS["llm.complete"])) == "unavailable.missing"
        await process.call("fs.read", path="/house/a.txt")
        assert await refused(process.call("llm.complete", profile="other", **CALLS["llm.complete"])) == "denied.label"


async def test_an_answer_carries_the_label_of_its_prompt(place: Path) -> None:
    async with kernel(place) as k:
        process = await host(k, *ALL)
        await process.call("fs.read", path="/house/a.txt")
        await process.call("fs.read", path="/inbox/a.txt")
        await process.call("llm.complete", profile="secret", **CALLS["llm.complete"])
        assert set(names(rows(k, process.pid)[-1].labels)) == {"internal", "untrusted"}


async def test_no_statement_makes_what_a_model_says_of_untrusted_text_trusted(place: Path) -> None:
    policy = POLICY + "label result(llm.complete).text trusted\nlabel result(llm.complete) trusted\n"
    async with kernel(place, policy=policy) as k:
        process = await host(k, *ALL)
        await process.call("fs.read", path="/inbox/a.txt")
        said = await process.call("llm.complete", profile="secret", **CALLS["llm.complete"])
        assert "untrusted" in names(alive(k, process).label)
        await process.call("obj.put", name="n", value=said["text"])
        assert "untrusted" in names(rows(k, process.pid)[-1].labels)


FROM = """policy "p"
label result(llm.complete).text trusted
allow llm.*, fs.read any *
allow fs.write "/**" when path from { result(llm.complete).*, result(fs.read) } any text
"""


async def test_the_words_of_a_model_ground_no_argument(place: Path) -> None:
    invented = ScriptedModel(["/house/made-up.txt"])
    async with kernel(place, policy=FROM, models={"default": invented}) as k:
        process = await host(k, *ALL)
        said = await process.call("llm.complete", **CALLS["llm.complete"])
        assert said["text"] == "/house/made-up.txt"
        assert await refused(process.call("fs.write", path=said["text"], text="x")) == "denied.policy"
        (place / "house" / "list.txt").write_text("/house/made-up.txt")
        await process.call("fs.read", path="/house/list.txt")
        await process.call("fs.write", path=said["text"], text="x")


async def test_redaction_reaches_into_messages(place: Path) -> None:
    model = ScriptedModel(["ok"])
    policy = 'policy "p"\nallow llm.complete any messages\nrequire redact for llm.complete\n'
    key = "sk-" + "a1B2" * 8
    messages = [
        {"role": "system", "content": "the token is house-token-77"},
        {"role": "user", "content": [{"type": "text", "text": f"use {key}"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": f'{{"k": "{key}"}}'}}],
        },
    ]
    async with kernel(place, policy=policy, models={"default": model}, secrets={"HOUSE": "house-token-77"}) as k:
        process = await host(k)
        await process.call("llm.complete", messages=messages)
        told = str(model.requests[0].messages)
        assert key not in told
        assert "house-token-77" not in told
        assert told.count("[redacted]") == 2


async def test_a_secret_that_a_model_says_is_in_no_row(place: Path) -> None:
    async with kernel(
        place, policy=None, models={"default": ScriptedModel(["it is house-token-77"])}, secrets={"HOUSE": "house-token-77"}
    ) as k:
        process = await host(k)
        said = await process.call("llm.complete", **CALLS["llm.complete"])
        assert said["text"] == value_of(rows(k, process.pid)[-1])["text"] == "it is [secret HOUSE]"
