"""A place to run the real command line in: a folder with images, a workspace, and a state folder of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentos.shell.main import main

ROOT = Path(__file__).parents[2]
FILES = {
    "job.yaml": """
agentos: 1
name: job
program: {kind: script, steps: [{op: fs.read, args: {path: /in.txt}}, {op: fs.write, args: {path: /out.txt, text: done}}]}
capabilities: ["fs.read /in.txt", "fs.write /out.txt"]
""",
    "careful.yaml": """
agentos: 1
name: careful
program: {kind: script, steps: [{op: fs.write, args: {path: /out.txt, text: done}}]}
capabilities: [fs.write /out.txt]
policy: careful.policy
""",
    "careful.policy": """
policy "careful" version 1
ask fs.write "/**" as look-first because "someone looks first"
""",
    "slow.yaml": """
agentos: 1
name: slow
program: {kind: python, name: slow}
capabilities: [fs.write /**, clock.sleep]
""",
    "slow.py": """
import agentos

@agentos.program("slow")
async def slow(sys):
    for number in range(8):
        await sys.fs.write(path="/steps.txt", text=f"{number}\\n", mode="append")
        await sys.clock.sleep(seconds=0.4)
    return "slept"
""",
    "ask.yaml": """
agentos: 1
name: ask
program: {kind: script, steps: [{op: human.ask, args: {question: "blue or \\x1b[31mred?"}}]}
""",
    "greedy.yaml": """
agentos: 1
name: greedy
program: {kind: script, steps: [{op: fs.read, args: {path: /in.txt}}, {op: fs.read, args: {path: /in.txt}}]}
capabilities: [fs.read /**]
limits: {calls: 1}
""",
    "late.yaml": """
agentos: 1
name: late
program: {kind: script, steps: [{op: clock.sleep, args: {seconds: 60}}]}
limits: {wall: 300ms}
""",
    "curious.yaml": """
agentos: 1
name: curious
program: {kind: script, steps: [{op: fs.read, args: {path: /secret.txt}}]}
""",
}


@dataclass(frozen=True)
class Place:
    """`folder` holds the images; `folder/work` is the workspace."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("AGENTOS_STATE", "COLUMNS")}
        return {
            **kept,
            "AGENTOS_STATE": str(self.folder / "state"),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }

    def words(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "agentos", "--workspace", "work", *map(str, words)]

    def run(self, *words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.words(*words), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def call(self, *words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command line in this process: the same entry point, without the start of an interpreter."""
        given = self.words(*words)
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setenv("AGENTOS_STATE", self.environment["AGENTOS_STATE"])
            patch.setattr("sys.path", [*sys.path])
            patch.setattr("sys.stdin", io.StringIO())
            code = main(given[3:])
        done = subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())
        assert code == status, f"{words} ended with {code}:\n{done.stdout}\n{done.stderr}"
        return done

    def data(self, *words: object, status: int = 0) -> Any:
        """Run a command line in this process and return its document."""
        return json.loads(self.call("-o", "json", *words, status=status).stdout)

    def json(self, *words: object, status: int = 0) -> Any:
        return json.loads(self.run("-o", "json", *words, status=status).stdout)

    def start(self, *words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def a_place(folder: Path) -> Place:
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip())
    place = Place(folder)
    place.work.mkdir()
    (place.work / "in.txt").write_text("in\n")
    (place.work / "secret.txt").write_text("secret\n")
    return place
