"""The pages about policies are true: every policy shown loads, and every code, statement and test is on the reference page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentos.abi.ops import builtin
from agentos.policy import load_layer, parse_capability
from agentos.policy.attributes import FACTS, FLOW
from agentos.policy.flow import COSTS
from agentos.policy.parse import _CLAUSES, _LABELS, _OBLIGATIONS, _STATEMENTS
from agentos.policy.parse_expr import _VERBS, COMPARISONS

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs/reference/policy-language.md").read_text()
HOWTO = (ROOT / "docs/howto/write-a-policy.md").read_text()
TABLE = builtin()


def blocks(page: str) -> list[str]:
    return re.findall(r"```text\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize(
    "text", [block for page in (REFERENCE, HOWTO) for block in blocks(page) if block.startswith(("policy", "restrict"))]
)
def test_a_policy_that_a_page_shows_loads(text: str) -> None:
    assert load_layer(text, source="page.policy", table=TABLE).text == text


def test_the_lines_of_the_howto_make_one_policy() -> None:
    steps = [block for block in blocks(HOWTO) if not block.startswith("restrict")]
    body = "".join(steps[1:])
    assert len(load_layer(body, source="howto.policy", table=TABLE).rules) == 4


def test_the_capabilities_that_the_reference_shows_parse() -> None:
    shown = next(block for block in blocks(REFERENCE) if block.startswith("fs.read, fs.list /docs"))
    assert [parse_capability(line, TABLE).text for line in shown.splitlines()] == shown.splitlines()


def test_every_code_is_on_the_reference_page() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "agentos/policy").glob("*.py"))
    codes = set(re.findall(r'"([EW]\d{3})"', sources))
    assert len(codes) > 10
    assert {code for code in codes if code not in REFERENCE} == set()


def test_every_comparison_is_on_the_reference_page() -> None:
    assert [verb for verb in COMPARISONS if verb not in REFERENCE] == []


def test_every_word_of_the_language_is_used_in_an_example() -> None:
    examples = "".join(block for block in blocks(REFERENCE) if block.startswith(("policy", "restrict")))
    words = {*_CLAUSES, *_LABELS, *_OBLIGATIONS, *_STATEMENTS} - {"public", "use", "any", "as"}
    assert {word for word in words if not re.search(rf"\b{word}\b", examples)} == set()


def test_every_test_attribute_and_cost_is_on_the_reference_page() -> None:
    words = [*_VERBS, *FACTS, *FLOW, *COSTS, "body.length", "body.links", "count(", "sum(", "after(", "every", "some"]
    assert [word for word in words if f"`{word}" not in REFERENCE] == []
