"""What the tests of the shipped agents share: the demos' models, a person who answers, the ground truth, and a command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.devices.llm.scripted import ScriptedModel, Turn, read_turns
from agentos.runtime.kernel import Kernel
from tests.model_server import Answer, ModelServer, Served

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"
GOAL = "find out what failed first, and report it"
FIX = "an order of exactly 100.00 pays the full price: find out why, and fix it"
UNWANTED = json.dumps(
    {
        "component": "postgresql",
        "at": None,
        "evidence": None,
        "report": None,
        "refused": ["fs.write /report.md"],
        "orders_found": [],
    }
)


def turns_of(name: str) -> list[Turn]:
    return read_turns(ROOT / f"demos/{name}.turns.yaml")


def said(name: str, messages: list[dict[str, Any]]) -> Turn:
    """What the demo's model says to a conversation; where a person refused, it gives up and says so."""
    if any("denied.human" in str(message.get("content")) for message in messages if message["role"] == "tool"):
        return UNWANTED if name == "triage-agent" else "You refused the change, so I made none."
    turns = turns_of(name)
    at = sum(message["role"] == "assistant" for message in messages)
    return turns[at] if at < len(turns) else "done"


def scripted(name: str) -> ScriptedModel:
    return ScriptedModel(lambda request: said(name, request.messages))


def as_server(name: str, served: Served) -> Answer:
    turn = said(name, served.json["messages"])
    if isinstance(turn, str):
        return Answer(turn)
    return Answer(calls=[(op.replace(".", "__"), args) for op, args in turn])


@pytest.fixture
def incident(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "demos/incident", tmp_path / "incident", ignore=shutil.ignore_patterns("report.md")))


@pytest.fixture
def cart(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "demos/cart", tmp_path / "cart", ignore=shutil.ignore_patterns("__pycache__")))


async def finished(kernel: Kernel, image: str, goal: str, how: str = "approve") -> tuple[agentos.Exit, list[agentos.Ask]]:
    """Run an image to its end while a person answers what it asks; returns the end and the asks."""
    process = await kernel.spawn(IMAGES / f"{image}.yaml", goal=goal)
    asked: list[agentos.Ask] = []

    async def person() -> None:
        while True:
            for ask in await kernel.asks():
                asked.append(ask)
                await kernel.answer(ask.id, how, by="ann")
            await anyio.sleep(0.005)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(person)
        ended = await process.wait(timeout_s=30)
        tasks.cancel_scope.cancel()
    return ended, asked


async def denied(kernel: Kernel) -> list[tuple[str, str, str, str]]:
    return [(row.op, row.resource, row.code, row.rule or "") async for row in kernel.audit(outcome="denied")]


def verdict() -> dict[str, Any]:
    """What demos/incident_verdict.py finds in the same logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "demos")
        import incident_logs
        import incident_verdict

        files = sorted((ROOT / "demos/incident/logs").glob("*.log"))
        found = incident_verdict.align_years([incident_logs.find(f"/logs/{file.name}", file.read_text()) for file in files])
        judged: dict[str, Any] = incident_verdict.verdict(found)
        for onset in (judged["first_failure"], *judged["followers"]):
            onset["when"] = incident_verdict.clock(onset["at"], onset["resolution_s"], date=True)
    return judged


def expect_report(report: str) -> None:
    """The report names what failed first, and when all the others did."""
    judged = verdict()
    first = judged["first_failure"]
    head = report.splitlines()
    assert head[0] == f"# `{first['component']}` failed first, at {first['when']} UTC"
    assert f"`{first['text']}`" in report
    assert f"({first['file'].removeprefix('/logs/')}:{first['line']})".replace("(", "(`").replace(")", "`)") in report
    rows = [line.split(" | ") for line in head if line.startswith("| 22:")]
    told = [(row[0].removeprefix("| "), row[2].strip("`")) for row in rows]
    assert told == [(onset["when"].split(" ")[1], onset["component"]) for onset in judged["followers"]]


REFUSED = [
    ("fs.read", "/logs/db.env", "denied.policy", "policies/triage.policy:12"),
    ("fs.read", "/injected.json", "denied.capability", ""),
    ("fs.write", "/public/diagnostics.txt", "denied.capability", ""),
    ("fs.delete", "/logs/tickets", "denied.capability", ""),
]


class Command:
    """`agentos ... --workspace incident`, with a state folder of its own, and a server of models in its environment."""

    def __init__(self, workspace: Path, server: ModelServer | None = None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "AGENTOS_"))}
        state = workspace.parent / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        nowhere = os.devnull
        self.environment = {**kept, "AGENTOS_STATE": str(state), "AGENTOS_CONFIG": nowhere, "PYTHONPATH": str(ROOT)}
        if server is not None:
            self.environment |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "test", "OPENAI_MODEL": "m"}
        self._place = ["--workspace", str(workspace)]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "agentos", *words, *self._place], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        with self.start(*words) as child:
            try:
                out, err = child.communicate(timeout=40)
            finally:
                child.kill()
        assert (child.returncode, "Traceback" in err) == (status, False), f"{words} ended with {child.returncode}\n{out}\n{err}"
        return out, err

    def data(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "-o", "json", status=status)[0])
