"""README.md is true: its program runs, its session is what the main job prints, and a killed job goes on."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
pytestmark = [pytest.mark.timeout(120)]


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no block `{name}`"
    return found.group(1)


@pytest.fixture
def job(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """The README's main job, on a copy of the incident, with a state folder of its own."""
    shutil.copytree(ROOT / "demos/incident", tmp_path / "incident", ignore=shutil.ignore_patterns("report.md"))
    (tmp_path / "state").mkdir(mode=0o700)
    words = shlex.split(block("run-command").split("&& .venv/bin/agentos ", 1)[1])
    words[words.index("demos/incident")] = str(tmp_path / "incident")
    environment = {**os.environ, "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    return [sys.executable, "-m", "agentos", *words], environment


def test_the_session_is_what_the_main_job_prints(job: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = job
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = iter(done.stderr.splitlines())
    for wanted in (line for line in block("session").splitlines() if line != "..."):
        pattern = re.compile(re.escape(wanted).replace(r"\.\.\.", ".*"))
        assert any(pattern.fullmatch(line) for line in lines), (
            f"`{wanted}` is not in the session, in this order:\n{done.stderr}"
        )
    assert json.loads(done.stdout)["component"] == "postgresql"
    assert (tmp_path / "incident/report.md").read_text().startswith("# `postgresql` failed first")


def test_a_killed_job_goes_on_and_writes_one_report(job: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = job
    for delay_s in (0.4, 0.5, 0.6, 0.7):
        child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        if child.wait() == 0:
            break
    else:
        subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True)
    place = ["--workspace", str(tmp_path / "incident"), "-o", "json"]
    agentos = [sys.executable, "-m", "agentos"]
    audit = json.loads(subprocess.check_output([*agentos, "audit", "--op", "fs.write", *place], env=environment, cwd=ROOT))
    assert [entry["outcome"] for entry in audit if entry["resource"] == "/report.md"] == ["done"]
    subprocess.run([*agentos, "audit", "--verify", *place], env=environment, cwd=ROOT, check=True, capture_output=True)


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_question_of_the_readme_is_answered(tmp_path: Path) -> None:
    environment = {**os.environ, "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", programs()[0]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "31.5\n"


def test_the_program_of_the_readme_runs(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/template.txt").write_text("Hello, {name}!")
    environment = {**os.environ, "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", programs()[1]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "Exit(state='exited', value=14, error=None)\n"
    assert (tmp_path / "work/greeting.txt").read_text() == "Hello, Ada!"
