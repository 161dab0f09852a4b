"""The docs run as written: the blocks of a page are executed in order, in an empty folder, and what they print is compared.

    ```python                    a complete small program
    ```python continued          goes on where the program before it stopped
    ```python title=NAME.py      a file, used by a later block or command; any other language may be a file too
    ```console                   lines `$ python ...` and `$ agentos ...`, each followed by what it prints
    ```output                    what the block before it printed

In what is printed `...` stands for anything in a line, a line of only `...` for any lines; runs of blanks count as one, empty lines as
none. Blocks of other languages are not run. `EXCERPTS` are pages that tests of their own run: a demo shows its own code, a database is
needed. `ELSEWHERE` are pages that need the files of a checkout: the tests of those files run them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from agentos.programs import registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXCERPTS = {"tutorial/triage.md", "howto/postgresql.md"}
ELSEWHERE = {"howto/run-the-triage-agent.md"}
RUN = ("python", "console")
FENCE = re.compile(r"^```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    options: str
    text: str

    @property
    def title(self) -> str:
        return self.options.partition("title=")[2].split(" ")[0]

    @property
    def where(self) -> str:
        return f"docs/{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"], found["options"].strip(), found["text"])
        for found in FENCE.finditer(text)
    ]


def pages() -> list[str]:
    folders = (DOCS / folder for folder in ("tutorial", "howto", "concepts"))
    return sorted(str(path.relative_to(DOCS)) for folder in folders for path in folder.glob("*.md"))


RUNNABLE = [
    page for page in pages() if page not in EXCERPTS | ELSEWHERE and any(block.language in RUN for block in blocks(page))
]


@dataclass
class Session:
    """A reader who follows one page in a folder of their own."""

    folder: Path
    module: ModuleType
    printed: str = ""
    used: list[str] = field(default_factory=list)

    def follow(self, block: Block) -> None:
        if block.title:
            (self.folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.title).write_text(block.text)
        elif block.language == "python":
            self.used.append(block.text)
            self.printed = self.run(block)
        elif block.language == "console":
            self.used.append(block.text)
            for command, expected in commands(block.text):
                compare(block, expected, self.shell(command))
        elif block.language == "output":
            compare(block, block.text, self.printed)

    def run(self, block: Block) -> str:
        if block.options != "continued":
            self.module.__dict__.clear()
            self.module.__dict__["__name__"] = "__main__"
        out = io.StringIO()
        lines = "\n" * block.line  # so that a traceback names the line of the page
        with contextlib.redirect_stdout(out):
            exec(compile(lines + block.text, str(DOCS / block.page), "exec"), self.module.__dict__)
        return out.getvalue()

    def shell(self, command: str) -> str:
        words = shlex.split(command)
        run = {"python": [sys.executable], "agentos": [sys.executable, "-m", "agentos"]}[words[0]]
        done = subprocess.run([*run, *words[1:]], capture_output=True, text=True, cwd=self.folder, check=False, timeout=20)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr + ("Killed\n" if done.returncode == -signal.SIGKILL else "")


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield (command, what it prints)."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def compare(block: Block, expected: str, printed: str) -> None:
    assert re.fullmatch(pattern(expected), plain(printed)), f"{block.where} printed\n{printed}\nand the page says\n{expected}"


def pattern(expected: str) -> str:
    lines = plain(expected).splitlines()
    return "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*?") + r"\n" for line in lines)


def plain(text: str) -> str:
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines() if line.strip())


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    folder = tmp_path / "folder"
    folder.mkdir()
    module = ModuleType("page")
    before = set(sys.modules)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(registry, "_declared", {})
    yield Session(folder, module)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.timeout(120)  # a page of processes that are killed and started again, on a busy machine
@pytest.mark.parametrize("page", RUNNABLE)
def test_what_a_page_shows_happens(reader: Session, page: str) -> None:
    shown = blocks(page)
    for block in shown:
        reader.follow(block)
    files = [block.title for block in shown if block.title.endswith(".py")]
    used = "\n".join([*reader.used, *(block.text for block in shown if block.title)])
    assert [name for name in files if not re.search(rf"\b{Path(name).stem}\b", used)] == [], "a file that nothing runs"


def test_most_pages_show_something_that_runs() -> None:
    assert len(RUNNABLE) >= len(pages()) - len(EXCERPTS | ELSEWHERE) - 2


@pytest.mark.parametrize("page", sorted(EXCERPTS))
def test_an_excerpt_is_python(page: str) -> None:
    assert [ast.parse(block.text) for block in blocks(page) if block.language == "python"]


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    everything = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert sorted(name for name in everything if f"({name})" not in index) == []


def test_the_glossary_explains_every_word_of_the_architecture() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## Words")[2].partition("\n## ")[0]
    words = [
        word for row in re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE) for word in row.split(", ") if word != "word"
    ]
    glossary = (DOCS / "glossary.md").read_text()
    assert len(words) > 10
    assert [word for word in words if f"**{word}**" not in glossary] == []
