"""The shipped policies as files: they load through the command line, have one spelling, test themselves, and are explained on a page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from agentos.abi.op import Op
from agentos.policy import check_text
from agentos.policy.attributes import type_of
from agentos.policy.format import format_text
from agentos.shell.devicefile import declared, table_with
from tests.acceptance.cli_place import Place
from tests.acceptance.test_docs import Session, blocks
from tests.acceptance.test_docs import reader as reader  # noqa: PLC0414 - a fixture
from tests.policies.builders import DECLARED, DEVICES, POLICIES

NAMES = sorted(path.stem for path in POLICIES.glob("*.policy"))
FILES = sorted((POLICIES / "devices").iterdir())
PAGE = "reference/policies.md"
OLDER = {"default", "read-only", "triage"}  # a policy that speaks about effects only, or has a tutorial of its own


def text_of(name: str) -> str:
    return (POLICIES / f"{name}.policy").read_text()


def test_there_is_one_for_each_kind_of_agent() -> None:
    kinds = {"banking", "careful", "coding", "editing", "operator", "research", "speculative", "support", "toolmaker"}
    assert set(NAMES) == kinds | OLDER


def test_the_command_line_finds_no_fault_but_one_that_is_meant(tmp_path: Path) -> None:
    shutil.copytree(POLICIES, tmp_path / "policies")
    devices = [word for file in FILES for word in ("--devices", f"policies/devices/{file.name}")]
    checked = Place(tmp_path).data("policy", "check", *(f"policies/{name}.policy" for name in NAMES), *devices)
    assert (checked["ok"], [each["ok"] for each in checked["files"]]) == (True, [True] * len(NAMES))
    assert [(found["code"], Path(found["where"].partition(":")[0]).stem) for found in checked["warnings"]] == [
        ("W131", "research")
    ]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"triage"}))
def test_a_policy_is_in_its_one_spelling(name: str) -> None:
    assert format_text(text_of(name), source=name) == text_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_tests_itself_and_mostly_what_it_refuses(name: str) -> None:
    expected = re.findall(r"^expect +(\w+)", text_of(name), re.MULTILINE)
    assert len(expected) >= (9 if name in OLDER else 18)
    assert name == "default" or expected.count("allow") <= len(expected) // 2


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_can_be_lost_without_an_expectation_that_notices(name: str) -> None:
    statements = re.split(r"\n(?=\S)", text_of(name))
    rules = [each for each in statements if each.startswith(("allow", "ask", "deny"))]
    assert [rule for rule in rules if failing(statements, rule) == failing(statements, rule, kept=True)] == []


def failing(statements: list[str], rule: str, *, kept: bool = False) -> list[str]:
    """The expectations that fail without a rule, or with it. A deny is looked at under `allow *`: else the default may deny the same."""
    lines = [each if kept or each != rule else "\n" * each.count("\n") for each in statements]
    more = ["allow * any *"] if rule.startswith("deny") and statements[0].startswith("policy") else []
    report = check_text("\n".join([*lines, *more]), source="x", table=table_with(FILES))
    assert {problem.code for problem in report.errors} <= {"E018"}
    return [problem.message for problem in report.errors]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_a_device_that_the_tests_mount_is_what_the_file_declares(file: Path) -> None:
    written = {op.name: shape(op) for op in declared(file.read_bytes(), file.name)}
    mounted = {call.op.name: shape(call.op) for name in DECLARED[file.name] for call in DEVICES[name]().syscalls()}
    assert written == mounted


def shape(op: Op) -> tuple[object, ...]:
    result = type_of(op.hints["return"])
    fields = (result.item or result).fields
    names = sorted(name for name, _ in fields or () if name)
    arguments = {name: (type_of(op.hints[name]).kind, op.defaults.get(name)) for name in op.arg_names}
    return (
        arguments,
        op.effect,
        [(each.kind, each.text) for each in op.resources],
        op.sinks,
        op.trusted,
        op.untrusted,
        result.kind,
        names,
    )


def test_the_page_explains_every_policy() -> None:
    page = "\n".join((Path(__file__).parents[2] / "docs" / PAGE).read_text().splitlines())
    assert [name for name in NAMES if f"\n## {name}\n" not in page or f"(#{name})" not in page] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_the_page_says_that_a_policy_stops_is_stopped(reader: Session) -> None:
    shutil.copytree(POLICIES, reader.folder / "policies")
    for block in blocks(PAGE):
        reader.follow(block)
    assert len(reader.used) == len([block for block in blocks(PAGE) if block.language == "console"]) > 8
