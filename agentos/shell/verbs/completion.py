"""completion: scripts that make a shell complete verbs and options."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from agentos.shell.context import Shell
from agentos.shell.output import Page

__all__ = ["completion"]


class ShellName(StrEnum):
    """Shells there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Shell, name: Annotated[ShellName | None, typer.Argument(help="Which shell; none: yours.", metavar="[SHELL]")] = None
) -> None:
    """Print a completion script: `eval "$(agentos completion)"`."""
    yours = os.environ.get("SHELL", "").rpartition("/")[2]
    chosen = name or (ShellName(yours) if yours in set(ShellName) else ShellName.BASH)
    script = get_completion_script(prog_name="agentos", complete_var="_AGENTOS_COMPLETE", shell=chosen.value)
    shell.output.emit(Page({"shell": chosen.value, "script": script}, text=script, name=lambda _: chosen.value))
