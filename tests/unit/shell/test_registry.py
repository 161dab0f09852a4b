"""The table of verbs is what the parser, the docs and these tests read."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentos.shell.main import main
from agentos.shell.parser import command
from agentos.shell.registry import VERBS, Verb

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_is_documented_with_its_options(verb: Verb) -> None:
    section = PAGE.partition(f"### {verb.name}\n")[2].partition("\n### ")[0]
    assert section, f"docs/reference/cli.md has no section `{verb.name}`"
    own = [name for param in command(verb).params for name in param.opts if name.startswith("--")]
    missing = [name for name in own if name not in section and name not in ("--output", "--store", "--workspace", "--help")]
    assert not missing


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_says_what_it_does(verb: Verb) -> None:
    assert inspect.getdoc(verb.load())
    assert verb.summary == verb.summary.strip().rstrip(".")


def test_the_docs_name_no_verb_that_does_not_exist() -> None:
    named = {line[4:] for line in PAGE.splitlines() if line.startswith("### ")}
    assert named == {verb.name for verb in VERBS}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pss"], "did you mean `ps`?"), (["policy", "chek"], "did you mean `check`?"), (["ps", "--al"], "no such option"),
        (["kill"], "missing argument"), (["kill", "x"], "whole number"), (["ps", "-o", "xml"], "xml"),
    ],
)  # fmt: skip
def test_misuse_is_status_2_and_says_what_was_meant(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_misuse_is_a_document_when_json_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-o", "json", "pss"]) == 2
    assert '"code": "invalid.argument"' in capsys.readouterr().out


def test_looking_loads_no_device_no_schema_and_no_terminal_library(tmp_path: Path) -> None:
    heavy = ("sqlalchemy", "openai", "lark", "chromadb", "agentos.devices", "agentos.broker", "rich", "prompt_toolkit")
    code = "import sys; from agentos.shell.main import main; import agentos.runtime.client, agentos.runtime.offline;"
    code += f"main(['ps']); print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_a_verb_of_the_table_that_has_no_function_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Verb("no such thing", "signals", "").load()


def test_help_is_status_0_and_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb.name.split()[0]} " in out for verb in VERBS)


def test_an_image_that_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "no/such/image.yaml"]) == 2
    assert "no such file" in capsys.readouterr().err
