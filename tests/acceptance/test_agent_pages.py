"""The pages about the shipped agents are true: what they show happens, and their table is what the manifests say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import agentos
from tests.acceptance.agent_place import FIX, GOAL, IMAGES, ROOT, finished, scripted
from tests.acceptance.test_docs import Session, blocks
from tests.acceptance.test_docs import reader as reader  # noqa: PLC0414 - a fixture
from tests.builders import opened

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
PAGES = ["howto/run-the-triage-agent.md", "reference/images.md"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_about_the_shipped_agents_shows_happens(reader: Session, page: str) -> None:
    for folder in ("images", "policies", "demos"):
        shutil.copytree(ROOT / folder, reader.folder / folder, ignore=shutil.ignore_patterns("__pycache__", "report.md"))
    for block in blocks(page):
        reader.follow(block)
    assert reader.used


def shown(image: agentos.Image) -> list[str]:
    """The row of the page's table that an image should have, but for what it is for."""
    assert image.policy is not None
    limits = image.limits
    policy = Path(image.policy.source).stem
    return [
        f"`{image.ref}`",
        "; ".join(f"`{text}`" for text in image.capabilities),
        f"[{policy}](policies.md#{policy})",
        f"{image.body.turns}",
        f"{limits['tokens']:,}",
        f"{limits['usd']:g}",
        f"{limits['wall_s'] / 3600:g}h",
        f"{limits['calls']:,}",
    ]


@pytest.mark.parametrize("name", ["base", "triage-agent", "coder"])
def test_the_table_of_images_is_what_their_manifests_say(name: str) -> None:
    page = (ROOT / "docs/reference/images.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in page.splitlines() if line.startswith(f"| `{name}:")
    ]
    image = agentos.Image.load(IMAGES / f"{name}.yaml")
    assert [[row[0], *row[2:]] for row in rows] == [shown(image)]
    assert (image.context_tokens, image.limits["children"], image.profile) == (60_000, 0, "default")
    assert (image.ask_timeout_s, image.on_timeout) == (4 * 3600, "deny")


def test_every_agent_that_is_shipped_has_its_prompt_and_its_place_on_the_page() -> None:
    agents = {path.stem for path in IMAGES.glob("*.yaml") if agentos.Image.load(path).body.kind == "react"}
    assert agents == {path.stem for path in IMAGES.glob("*.md")} == {"base", "coder", "triage-agent"}
    page = (ROOT / "docs/reference/images.md").read_text()
    assert [name for name in agents if f"\n## {name}\n" not in page] == []


@pytest.mark.parametrize(
    ("image", "workspace", "goal", "tokens"), [("triage-agent", "incident", GOAL, 92_000), ("coder", "cart", FIX, 14_000)]
)
async def test_what_a_run_costs_is_what_the_page_says(
    tmp_path: Path, image: str, workspace: str, goal: str, tokens: int
) -> None:
    shutil.copytree(ROOT / f"demos/{workspace}", tmp_path / "w", ignore=shutil.ignore_patterns("report.md", "__pycache__"))
    async with opened(workspace=tmp_path / "w", models={"default": scripted(image)}) as kernel:
        await finished(kernel, image, goal)
        spent = sum([row.cost.get("tokens", 0) async for row in kernel.audit(op="llm.complete")])
    assert spent == pytest.approx(tokens, rel=0.1)
    assert f"| {tokens:,} |" in (ROOT / "docs/reference/images.md").read_text()
