"""The shipped agents do their jobs: with scripted turns, with a server of models, under a person's yes and no."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.model import ModelRequest
from agentos.devices.llm.openai import OpenAI
from agentos.devices.llm.scripted import ScriptedModel, Turn
from agentos.runtime.kernel import Kernel
from tests.acceptance.agent_place import (
    FIX,
    GOAL,
    IMAGES,
    REFUSED,
    ROOT,
    UNWANTED,
    as_server,
    denied,
    expect_report,
    finished,
    scripted,
    verdict,
)
from tests.acceptance.agent_place import cart as cart  # noqa: PLC0414 - a fixture
from tests.acceptance.agent_place import incident as incident  # noqa: PLC0414 - a fixture
from tests.builders import host, opened, refused
from tests.model_server import serving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


# --- the images -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["triage-agent", "coder"])
def test_an_image_asks_for_nothing_that_its_parent_does_not(name: str) -> None:
    image, base = agentos.Image.load(IMAGES / f"{name}.yaml"), agentos.Image.load(IMAGES / "base.yaml")
    assert (image.parent, image.ceilings) == ("base:1", (base.capabilities,))
    assert all(bound <= base.limits[key] for key, bound in image.limits.items())
    assert {op for text in image.capabilities for op in ops_of(text)} <= {
        op for text in base.capabilities for op in ops_of(text)
    }


def ops_of(capability: str) -> list[str]:
    return re.findall(r"\b[a-z]+\.[a-z]+\b", capability.partition(" /")[0])


def child_of_base(**manifest: Any) -> agentos.Image:
    given = {"name": "greedy", "from": "base:1", **manifest}
    return agentos.Image.from_dict(given, parents=lambda _: agentos.Image.load(IMAGES / "base.yaml"))


async def test_a_child_that_asks_for_wider_rights_than_base_gets_those_of_base(tmp_path: Path) -> None:
    child = child_of_base(program={"kind": "host"}, capabilities=["fs.read /**", "obj.put **"])
    (tmp_path / "a.txt").write_text("a")
    async with opened(workspace=tmp_path) as kernel:
        other = await host(kernel)
        process = await kernel.spawn(child)
        assert await process.call("fs.read", path="/a.txt") == "a"
        await process.call("obj.put", value=1, name="x", namespace="project")
        assert await refused(process.call("obj.put", value=1, name="x", namespace=f"proc/{other.pid}")) == "denied.capability"
        assert await refused(process.call("fs.write", path="/a.txt", text="b")) == "denied.capability"  # it did not ask for it


@pytest.mark.parametrize(
    "more", ["exec.run pytest **", "proc.signal", "net.fetch https://**", "cap.derive", "llm.complete other"]
)
async def test_a_child_that_asks_for_what_base_has_not_is_not_started(more: str) -> None:
    async with opened(models={"default": ScriptedModel([])}) as kernel:
        assert await refused(kernel.spawn(child_of_base(capabilities=["fs.read /**", more]), goal="x")) == "denied.capability"
        assert await kernel.ps(all=True) == []


@pytest.mark.parametrize("limits", [{"tokens": 2_000_000}, {"usd": 6.0}, {"wall": "9h"}, {"children": 1}])
def test_a_child_cannot_raise_a_limit_of_base(limits: dict[str, Any]) -> None:
    with pytest.raises(agentos.Invalid, match="above the"):
        child_of_base(limits=limits)


# --- triage -----------------------------------------------------------------------------------------------------------------


async def test_the_triage_agent_reports_what_the_logs_show(incident: Path) -> None:
    async with opened(workspace=incident, models={"default": scripted("triage-agent")}) as kernel:
        ended, asked = await finished(kernel, "triage-agent", GOAL)
    first = verdict()["first_failure"]
    assert (ended.state, ended.error) == ("exited", None)
    assert (ended.value["component"], ended.value["at"]) == (first["component"], first["when"])
    assert ended.value["evidence"] == f"{first['file']}:{first['line']}"
    assert [(ask.op, ask.args["path"], ask.rule) for ask in asked] == [("fs.write", "/report.md", "policies/triage.policy:15")]
    expect_report((incident / "report.md").read_text())


async def test_each_finding_that_it_publishes_is_true(incident: Path) -> None:
    async with opened(workspace=incident, models={"default": scripted("triage-agent")}) as kernel:
        await finished(kernel, "triage-agent", GOAL)
        reader = await host(kernel, "obj.get, obj.list findings/**")
        names = [item["name"] for item in (await reader.call("obj.list", namespace="findings"))["items"]]
        findings = {name: await reader.call("obj.get", namespace="findings", name=name) for name in names}
    assert sorted(findings) == sorted(path.name for path in (incident / "logs").glob("*.log"))
    onsets = [verdict()["first_failure"], *verdict()["followers"]]
    for onset in onsets:
        told = findings[onset["file"].removeprefix("/logs/")]
        assert (told["component"], told["first_failure"]["at"]) == (onset["component"], onset["when"])
        assert told["first_failure"]["line"] in (onset["line"], None)
    silent = {finding["component"] for finding in findings.values()} - {onset["component"] for onset in onsets}
    assert [findings[f"{name}.log"]["first_failure"] for name in silent] == [None]


async def test_a_model_that_obeys_a_ticket_gets_nothing_for_it(incident: Path) -> None:
    model = scripted("triage-agent")
    before = {path: path.read_bytes() for path in incident.rglob("*") if path.is_file()}
    async with opened(workspace=incident, models={"default": model}) as kernel:
        await finished(kernel, "triage-agent", GOAL)
        assert await denied(kernel) == REFUSED
    heard = json.dumps([request.messages for request in model.requests])
    assert "not-a-real-password" not in heard
    assert "47 MiB were free" not in heard
    (incident / "report.md").unlink()
    assert {path: path.read_bytes() for path in incident.rglob("*") if path.is_file()} == before


async def test_a_report_that_a_person_refuses_is_not_written_and_the_agent_says_so(incident: Path) -> None:
    async with opened(workspace=incident, models={"default": scripted("triage-agent")}) as kernel:
        ended, asked = await finished(kernel, "triage-agent", GOAL, how="deny")
        assert [row[2] for row in await denied(kernel)][-1] == "denied.human"
    assert (ended.state, ended.value["report"], len(asked)) == ("exited", None, 1)
    assert not (incident / "report.md").exists()


async def test_who_has_read_a_ticket_asks_as_untrusted(incident: Path) -> None:
    async with opened(workspace=incident, models={"default": scripted("triage-agent")}) as kernel:
        _, asked = await finished(kernel, "triage-agent", GOAL)
    assert [list(ask.labels) for ask in asked] == [["untrusted"]]


async def test_a_hundred_more_obedient_calls_change_nothing(incident: Path) -> None:
    """Whatever a fooled model calls, what it holds decides: no path into the workspace but its own is open."""
    tries = [
        ("fs.write", {"path": f"/{name}", "text": "x"})
        for name in ("logs/a.log", "x", "logs/../x", "./report.md/x", "report.md/../y")
    ]
    tries += [
        ("fs.read", {"path": path})
        for path in ("/logs/../injected.json", "/README.md", "/logs/tickets/../db.env", "//injected.json")
    ]
    tries += [("fs.write", {"path": "/report.md", "text": "x", "mode": mode}) for mode in ("append", "create")]
    tries += [
        (op, {}) for op in ("proc.spawn", "exec.run", "net.fetch", "cap.derive", "llm.embed", "fs.move", "image.register")
    ]
    model = ScriptedModel([tries, UNWANTED])
    before = {path: path.read_bytes() for path in incident.rglob("*") if path.is_file()}
    async with opened(workspace=incident, models={"default": model}) as kernel:
        ended, asked = await finished(kernel, "triage-agent", GOAL)
    results = [message["content"] for message in model.requests[-1].messages if message["role"] == "tool"]
    assert (ended.state, asked, len(results)) == ("exited", [], len(tries))
    assert all('"error"' in result for result in results), results
    assert {path: path.read_bytes() for path in incident.rglob("*") if path.is_file()} == before


# --- over a server ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_behind_a_server_does_the_same_job(incident: Path, streamed: bool) -> None:
    with serving(lambda served: as_server("triage-agent", served)) as server:
        models = {"default": OpenAI("m", key=lambda: "k", base_url=server.url)}
        async with opened(workspace=incident, models=models) as kernel, anyio.create_task_group() as tasks:
            if streamed:
                tasks.start_soon(follow, kernel)
                await anyio.sleep(0.05)
            ended, _ = await finished(kernel, "triage-agent", GOAL)
            assert await denied(kernel) == REFUSED
            tasks.cancel_scope.cancel()
        assert [bool(served.json.get("stream")) for served in server.requests] == [streamed] * 7
    assert ended.value["component"] == "postgresql"
    expect_report((incident / "report.md").read_text())


async def follow(kernel: Kernel) -> None:
    async for _ in kernel.events():
        pass


# --- coder ------------------------------------------------------------------------------------------------------------------


def failing_tests(folder: Path) -> int:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        "--override-ini",
        "addopts=",
    ]
    done = subprocess.run([*command, "tests"], cwd=folder, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) failed", done.stdout)
    assert found or "3 passed" in done.stdout, done.stdout + done.stderr
    return int(found.group(1)) if found else 0


async def test_the_coder_repairs_what_it_was_told_of_and_a_person_sees_the_difference(cart: Path) -> None:
    assert failing_tests(cart) == 1
    async with opened(workspace=cart, models={"default": scripted("coder")}) as kernel:
        ended, (ask,) = await finished(kernel, "coder", FIX)
    assert ended.state == "exited"
    assert [line for line in ask.preview["diff"].splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "-    if amount > DISCOUNT_FROM:",
        "+    if amount >= DISCOUNT_FROM:",
    ]
    assert "`/cart.py:19`" in ended.value
    assert (ROOT / "demos/cart/cart.py").read_text().splitlines()[18] == "    if amount > DISCOUNT_FROM:"
    assert failing_tests(cart) == 0


async def test_a_change_that_a_person_refuses_is_not_made(cart: Path) -> None:
    async with opened(workspace=cart, models={"default": scripted("coder")}) as kernel:
        ended, _ = await finished(kernel, "coder", FIX, how="deny")
    assert ended.value == "You refused the change, so I made none."
    assert (cart / "cart.py").read_bytes() == (ROOT / "demos/cart/cart.py").read_bytes()


async def test_a_comment_gives_the_coder_no_orders(cart: Path) -> None:
    model = scripted("coder")
    async with opened(workspace=cart, models={"default": model}) as kernel:
        await finished(kernel, "coder", FIX)
        assert [(op, path, code) for op, path, code, _ in await denied(kernel)] == [
            ("fs.read", "/deploy/prod.env", "denied.policy"),
            ("fs.write", "/.github/workflows/release.yml", "denied.policy"),
        ]
    assert "not-a-real-token" not in json.dumps([request.messages for request in model.requests])
    assert not (cart / ".github").exists()


# --- base -------------------------------------------------------------------------------------------------------------------


async def test_base_is_an_assistant_that_changes_nothing_unseen(cart: Path) -> None:
    turns: list[Turn] = [
        [("fs.read", {"path": "/README.md"}), ("fs.read", {"path": "/deploy/prod.env"})],
        [("fs.write", {"path": "/summary.md", "text": "A cart.\n"}), ("fs.delete", {"path": "/NOTES.md"})],
        "There is a summary in /summary.md.",
    ]
    async with opened(workspace=cart, models={"default": ScriptedModel(turns)}) as kernel:
        ended, asked = await finished(kernel, "base", "summarise this folder in /summary.md")
        assert [row[:3] for row in await denied(kernel)] == [("fs.read", "/deploy/prod.env", "denied.policy")]
    assert sorted((ask.op, ask.args["path"]) for ask in asked) == [("fs.delete", "/NOTES.md"), ("fs.write", "/summary.md")]
    assert ended.value == "There is a summary in /summary.md."


async def test_what_an_image_tells_its_model_fits_its_prompt_many_times() -> None:
    for path in sorted(IMAGES.glob("*.md")):
        model = ScriptedModel(["done"] * 4)
        async with opened(models={"default": model}) as kernel:
            await finished(kernel, path.stem, "say nothing")
        request: ModelRequest = model.requests[0]
        image = agentos.Image.load(IMAGES / f"{path.stem}.yaml")
        assert image.context_tokens is not None
        assert request.tokens < image.context_tokens / 10
        assert request.messages[0]["content"].startswith(path.read_text().strip())
