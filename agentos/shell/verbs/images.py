"""image ls, image inspect."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.abi.codec import decode
from agentos.abi.image import AgentImage
from agentos.abi.records import ImageRecord
from agentos.errors import Invalid
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.context import Shell
from agentos.shell.output import Page

__all__ = ["image_inspect", "image_ls", "is_path", "load"]


def image_ls(shell: Shell) -> None:
    """List the images that are registered in the store."""
    now = SystemClock().now()
    records = _records(shell) if shell.has_store or shell.store_given else []
    found = [{"name": each.name, "version": each.version, "digest": each.digest, "registered": each.at} for each in records]
    columns: list[tuple[str, Any]] = [
        ("image", lambda each: f"{each['name']}:{each['version']}"), ("digest", lambda each: each["digest"][:16]),
        ("age", lambda each: words.age(each["registered"], now)),
    ]  # fmt: skip
    shell.output.emit(
        Page(found, columns, name=lambda each: f"{each['name']}:{each['version']}", empty="no images are registered")
    )


def image_inspect(
    shell: Shell, image: Annotated[str, typer.Argument(help="A manifest's path, NAME:VERSION or a digest.")]
) -> None:
    """Show an image: what it runs, what it requests, its limits."""
    found = load(shell, image)
    shell.output.emit(
        Page({"digest": found.digest, **found.to_data()}, text="\n".join(_described(found)), name=lambda _: found.ref)
    )


def is_path(name: str) -> bool:
    """Say whether an IMAGE argument means a file; the rule is that of `kernel.spawn`."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def load(shell: Shell, name: str) -> AgentImage:
    """Return the image that an argument means: a manifest, or one that the store has.

    Raises:
        Invalid: `invalid.manifest`, or there is no such image.
    """
    if is_path(name):
        return AgentImage.load(name, parents=lambda ref: _registered(shell, ref))
    found = _registered(shell, name)
    if found is None:
        hint = "give the path of its manifest, or see `agentos image ls`"
        raise Invalid("argument", f"there is no image `{name}`", hint=hint, field="image")
    return found


def _registered(shell: Shell, name: str) -> AgentImage | None:
    if not shell.has_store:
        return None
    for record in reversed(_records(shell)):
        if name in (f"{record.name}:{record.version}", record.name, record.digest):
            return AgentImage.from_data(decode(record.manifest))
    return None


def _records(shell: Shell) -> list[ImageRecord]:
    """Read the images of the store, beside whoever has it."""
    from agentos.store import open_store  # noqa: PLC0415 - a manifest given by path needs no store

    with open_store(shell.store, clock=SystemClock(), writer=False) as store:
        return list(store.current(ImageRecord))


def _described(image: AgentImage) -> list[str]:
    body = image.body
    lines = [
        f"image    {image.ref}",
        f"digest   {image.digest}",
        f"program  {body.kind}" + (f" {body.name}" if body.name else ""),
    ]
    lines += ["requests"] + [f"  {text}" for text in image.capabilities] if image.capabilities else ["requests nothing"]
    if image.policy is not None:
        lines.append(f"policy   {image.policy.source}")
    if image.limits:
        lines.append("limits   " + ", ".join(f"{name} {words.amount(bound)}" for name, bound in sorted(image.limits.items())))
    lines.append(f"asks     wait {words.span(image.ask_timeout_s)}, then {image.on_timeout}")
    return lines
