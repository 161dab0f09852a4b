"""Reference pages name everything that the code knows."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from agentos.abi.manifest import BUDGET_KEYS, KEYS
from agentos.errors import Denied, Invalid, Unavailable

DOCS = Path(__file__).parents[3] / "docs"


def test_generated_pages_are_what_the_code_says() -> None:
    for name, page in runpy.run_path(str(DOCS / "generate.py"))["PAGES"].items():
        assert (DOCS / name).read_text() == page(), f"run `python docs/generate.py`: docs/{name} is out of date"


@pytest.mark.parametrize("family", [Denied, Unavailable, Invalid])
def test_every_error_code_is_explained(family: type[Denied]) -> None:
    page = (DOCS / "reference/errors.md").read_text()
    assert [f"{family.family}.{reason}" for reason in family.reasons if f"`{family.family}.{reason}`" not in page] == []


def test_every_key_of_a_manifest_is_explained() -> None:
    page = (DOCS / "reference/manifest.md").read_text()
    assert [key for key in [*KEYS, *BUDGET_KEYS] if f"`{key}`" not in page] == []
