"""image verify, image diff: looking at images before they run. Nothing is registered and nothing is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.abi.image import AgentImage
from agentos.abi.op import OpTable, closest
from agentos.errors import Invalid
from agentos.policy import check_text, parse_capability, render_errors
from agentos.shell import status
from agentos.shell.context import Shell
from agentos.shell.devicefile import table_with
from agentos.shell.escape import line
from agentos.shell.output import Page
from agentos.shell.verbs.images import is_path, load
from agentos.shell.verbs.policies import Devices

__all__ = ["image_diff", "image_verify"]

Image = Annotated[str, typer.Argument(help="A manifest's path, NAME:VERSION or a digest.")]
_SHOWN_CHARS = 200


def image_verify(shell: Shell, image: Image, devices: Devices = None) -> int:
    """Check all that an image says: its manifest and files, what it requests, its tools, its policy with its tests. Status 2 when wrong."""
    found = load(shell, image)
    table = table_with(devices, beside=_policy_files(image, found))
    problems = [*_capabilities(found, table), *_tools(found, table), *_policy(found, table)]
    data = {"ok": not problems, "image": found.ref, "digest": found.digest, "problems": problems}
    text = "\n".join(problems) if problems else f"{found.ref}: ok, {found.digest}"
    shell.output.emit(Page(data, text=text, name=lambda _: found.digest))
    return status.USAGE if problems else status.OK


def image_diff(shell: Shell, a: Image, b: Image) -> int:
    """Show in what two images differ, key by key. Status 1 when they do."""
    before, after = load(shell, a), load(shell, b)
    old, new = before.to_data(), after.to_data()
    differing = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    data = {
        "equal": before.digest == after.digest, "a": before.digest, "b": after.digest,
        "differences": [{"key": key, "a": old.get(key), "b": new.get(key)} for key in differing],
    }  # fmt: skip
    text = "\n".join(told for key in differing for told in _differences(key, old.get(key), new.get(key)))
    shell.output.emit(Page(data, text=text or "the images are equal", name=lambda _: "equal" if not differing else "differing"))
    return status.ERROR if differing else status.OK


def _policy_files(image: str, found: AgentImage) -> list[Path]:
    """Return where the image's policy file may be, beside which devices are declared."""
    if found.policy is None or not is_path(image):
        return []
    folder = Path(image).parent
    return [place for place in (folder / found.policy.source, folder.parent / found.policy.source) if place.is_file()]


def _capabilities(image: AgentImage, table: OpTable) -> list[str]:
    problems = []
    for text in image.capabilities:
        try:
            parse_capability(text, table)
        except Invalid as error:
            problems.append(f"capability `{line(text)}`: {error.message}{f'; {error.hint}' if error.hint else ''}")
    return problems


def _tools(image: AgentImage, table: OpTable) -> list[str]:
    named = [tool.name for tool in image.tools if tool.kind == "op"]
    missing = [name for name in named if not table.matching(name)]
    return [
        f"tool `{name}`: there is no such op; {closest(name, [op.name for op in table]) or 'mount its device'}"
        for name in missing
    ]


def _policy(image: AgentImage, table: OpTable) -> list[str]:
    if image.policy is None:
        return []
    report = check_text(image.policy.text, source=image.policy.source, table=table)
    return [render_errors(report.errors)] if report.errors else []


def _differences(key: str, a: Any, b: Any) -> list[str]:
    """Return a key's difference in lines: of lists, what only one of them has."""
    if isinstance(a or [], list) and isinstance(b or [], list):
        gone, come = [x for x in a or [] if x not in (b or [])], [x for x in b or [] if x not in (a or [])]
        if gone or come:
            return [f"- {key}: {_shown(x)}" for x in gone] + [f"+ {key}: {_shown(x)}" for x in come]
    return [f"- {key}: {_shown(a)}", f"+ {key}: {_shown(b)}"]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return line(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...")
