"""policy check: what is wrong or doubtful in policy files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentos.abi.ops import builtin
from agentos.policy import Problem, check_text, render_errors
from agentos.runtime.policies import read_policy
from agentos.shell import status
from agentos.shell.context import Shell
from agentos.shell.output import Page

__all__ = ["policy_check"]


def policy_check(shell: Shell, files: Annotated[list[Path], typer.Argument(help="Policy files.", metavar="FILE...")]) -> int:
    """Check policy files: each error with its line and a caret, and what never matches. Status 2 when there are errors."""
    table = builtin()
    errors: list[Problem] = []
    warnings: list[Problem] = []
    lines: list[str] = []
    for file in files:
        policy = read_policy(file)
        report = check_text(policy.text, source=policy.source, table=table, use=policy.use)
        errors += report.errors
        warnings += report.warnings
        if report.layer is not None:
            lines.append(f"{file}: ok, {report.layer.kind} `{report.layer.name}`, {len(report.layer.rules)} rules")
    data = {
        "ok": not errors, "errors": [problem.to_data() for problem in errors], "warnings": [problem.to_data() for problem in warnings],
    }  # fmt: skip
    text = "\n".join([*([render_errors(errors)] if errors else []), *([render_errors(warnings)] if warnings else []), *lines])
    shell.output.emit(Page(data, text=text, name=lambda _: "ok" if not errors else "invalid"))
    return status.USAGE if errors else status.OK
