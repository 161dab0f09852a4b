"""House rules that no linter knows. Every failure says which file breaks which rule and what to do instead."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = {
    ".ci", ".gitignore", "agentos", "demos", "docs", "images", "policies", "schemas", "skills", "tests", "README.md", "ARCHITECTURE.md",
    "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "pyproject.toml",
}  # fmt: skip
ROOMS = {
    "abi", "store", "policy", "kernel", "memory", "devices", "broker", "tools", "programs", "runtime", "shell", "testing", "adapters",
}  # fmt: skip
MODULES = {"__init__.py", "__main__.py", "errors.py", "models.py", "py.typed"}
TEST_FOLDERS = {"unit", "room", "model", "fault", "acceptance", "bench", "policies"}
DOC_FOLDERS = {"tutorial", "howto", "reference", "concepts", "decisions", "policies"}
MAY_CATCH_EVERYTHING = (
    "agentos/broker/",  # settle
    "agentos/kernel/scheduler.py",  # the edge of a process's task
    "agentos/kernel/run.py",
    "agentos/programs/sys.py",  # gather: kept until all have settled, then raised
    "agentos/programs/replay.py",  # how a program ends, compared with how it did
    "agentos/shell/repl",
)
BANNED_WORDS = {"Manager", "Helper", "Helpers", "Util", "Utils", "Service", "Impl"}
LINES_MAX, FUNCTION_LINES_MAX, METHODS_MAX, DOCSTRING_FROM_LINES = 500, 60, 25, 15
FORBIDDEN_TEXT = {
    "a path of one machine": re.compile(r"(?<![\w/.])/(" + "|".join(["wor" + "k", "op" + "t", "hom" + "e/[a-z]+"]) + ")/"),
    "the host of a package index": re.compile(
        "|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + "js", "jsr" + r"\.io"])
    ),
    "a note to self": re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b"),
}


@cache
def files() -> tuple[str, ...]:
    """Names of all files that belong to the project: what git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: nothing says which files belong to the project")
    return tuple(name for name in sorted(set(listed.stdout.splitlines())) if (ROOT / name).is_file())


@cache
def text(name: str) -> str:
    data = (ROOT / name).read_bytes()
    return "" if b"\0" in data[:4096] else data.decode("utf-8", errors="replace")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name), name)


def python(*folders: str) -> list[str]:
    return [name for name in files() if name.endswith(".py") and name.startswith(tuple(f"{folder}/" for folder in folders))]


def nodes(kind: type | tuple[type, ...], *folders: str) -> Iterator[tuple[str, ast.AST]]:
    return ((name, node) for name in python(*folders) for node in ast.walk(tree(name)) if isinstance(node, kind))


def no(offences: list[str], remedy: str) -> None:
    assert not offences, f"{remedy}:\n  " + "\n  ".join(offences)


def test_every_module_has_at_most_500_lines() -> None:
    long = [
        f"{name}: {count} lines"
        for name in python("agentos", "tests", "demos", "docs")
        if (count := text(name).count("\n")) > LINES_MAX
    ]
    no(long, "split by concept")


def test_every_function_has_at_most_60_lines() -> None:
    long = [
        f"{name}:{node.lineno} `{node.name}`: {node.end_lineno - node.lineno + 1} lines"
        for name, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef), "agentos", "tests", "demos")
        if node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]
    no(long, "a function says one thing; split it")


def test_every_class_has_at_most_25_methods() -> None:
    wide = [
        f"{name}:{node.lineno} `{node.name}`"
        for name, node in nodes(ast.ClassDef, "agentos")
        if sum(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) for item in node.body) > METHODS_MAX
    ]
    no(wide, "a class owns one idea; split it")


def test_every_module_says_what_it_is() -> None:
    silent = [
        name
        for name in python("agentos", "tests", "demos", "docs")
        if text(name).count("\n") > DOCSTRING_FROM_LINES and not ast.get_docstring(tree(name))
    ]
    no(silent, "begin with a docstring: what, protocol, what it is not")


def test_every_room_says_what_it_owns_and_what_it_must_never_do() -> None:
    rooms = [name for name in python("agentos") if name.count("/") == 2 and name.endswith("/__init__.py")]
    no([name for name in rooms if not says_both(name)], "the docstring of a room has lines `Owns:` and `Must never:`")
    no(
        [name for name in python("agentos") if not (ROOT / name).with_name("__init__.py").exists()],
        "add `__init__.py`",
    )


def says_both(room: str) -> bool:
    lines = (ast.get_docstring(tree(room)) or "").splitlines()
    return all(any(line.startswith(word) for line in lines) for word in ("Owns:", "Must never:"))


def test_no_class_or_module_has_a_name_that_says_nothing() -> None:
    classes = [
        f"{name}:{node.lineno} `{node.name}`"
        for name, node in nodes(ast.ClassDef, "agentos", "tests", "demos")
        if BANNED_WORDS & set(re.findall(r"[A-Z][a-z]+", node.name))
    ]
    modules = [
        name for name in files() if re.search(r"(^|/|_)(managers?|helpers?|utils?|services?|impl|misc|common)\.py$", name)
    ]
    no(classes + modules, "name the idea, not its role")


def test_imports_are_absolute() -> None:
    no([f"{name}:{node.lineno}" for name, node in nodes(ast.ImportFrom, *TOP) if node.level], "write the whole name")


def test_every_module_has_postponed_annotations() -> None:
    plain = [
        name
        for name in python("agentos", "tests")
        if ast.unparse(tree(name)).count("\n") and "from __future__" not in text(name)
    ]
    no([name for name in plain if len(tree(name).body) > 1], "write `from __future__ import annotations`")


def test_nothing_catches_everything() -> None:
    broad = [
        f"{name}:{node.lineno}"
        for name, node in nodes(ast.ExceptHandler, "agentos")
        if not name.startswith(MAY_CATCH_EVERYTHING) and catches_everything(node) and not raises_again(node)
    ]
    no(broad, "catch the foreign exception by name, once, `from error`")


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in caught)


def raises_again(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise)


def test_every_invariant_has_a_test_of_its_name() -> None:
    claimed = {
        law: name for name in python("agentos") for law in re.findall(r"INVARIANT ([a-z][a-z0-9-]+[a-z0-9])", text(name))
    }
    proofs = "\n".join(proof for name in python("tests") for proof in proofs_in(name)).replace("_", "-")
    no(
        [f"{law} ({name})" for law, name in claimed.items() if law not in proofs],
        "name a test after the law, or say it in a test's docstring",
    )


def proofs_in(name: str) -> Iterator[str]:
    yield ast.get_docstring(tree(name)) or ""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            yield ast.get_docstring(node) or ""


def test_every_limit_is_used() -> None:
    bounds = [node.target.id for node in tree("agentos/abi/limits.py").body if isinstance(node, ast.AnnAssign)]
    own = text("agentos/abi/limits.py")
    rest = "\n".join(text(name) for name in python("agentos") if name != "agentos/abi/limits.py")
    used = [bound for bound in bounds if re.search(rf"\b{bound}\b", rest) or len(re.findall(rf"\b{bound}\b", own)) > 1]
    no([bound for bound in bounds if bound not in used], "a limit that nothing enforces is a lie; use it or drop it")


def test_every_test_can_fail() -> None:
    idle = [
        f"{name}:{node.lineno} `{node.name}`"
        for name, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef), "tests")
        if node.name.startswith("test_")
        and not re.search(r"\b(assert\w*|raises|fail|no|check\w*|run_state_machine\w*)\b", ast.unparse(node))
    ]
    no(idle, "assert something")


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_file_holds(what: str) -> None:
    pattern = FORBIDDEN_TEXT[what]
    held = [
        f"{name}:{number}"
        for name in files()
        if pattern.search(text(name))
        for number, line in enumerate(text(name).splitlines(), 1)
        if pattern.search(line)
    ]
    no(held, f"remove {what}")


def test_every_file_has_a_known_place() -> None:
    parts = [(name, name.split("/")) for name in files()]
    lost = [name for name, part in parts if part[0] not in TOP]
    lost += [name for name, part in parts if part[0] == "agentos" and part[1] not in (ROOMS if len(part) > 2 else MODULES)]
    lost += [name for name, part in parts if part[0] == "tests" and len(part) > 2 and part[1] not in TEST_FOLDERS]
    lost += [name for name, part in parts if part[0] == "docs" and len(part) > 2 and part[1] not in DOC_FOLDERS]
    no(lost, "put it into a room or folder that exists, or add the new one here and in ARCHITECTURE.md")


@pytest.mark.parametrize(("name", "lines_max"), [("README.md", 120), ("ARCHITECTURE.md", 150)])
def test_the_pages_that_are_read_first_are_short(name: str, lines_max: int) -> None:
    assert name not in files() or text(name).count("\n") <= lines_max, f"{name} has over {lines_max} lines: move detail to docs"


def test_links_between_pages_lead_somewhere() -> None:
    dead = [
        f"{name}: {target}"
        for name in files()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(name))
        if "://" not in target and not target.startswith("mailto:") and not (ROOT / name).parent.joinpath(target).exists()
    ]
    no(dead, "mend the link")
