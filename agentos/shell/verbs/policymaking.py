"""policy learn, policy import progent: making policies from something else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentos.errors import Invalid
from agentos.policy import check_text
from agentos.shell import status
from agentos.shell.context import Shell
from agentos.shell.devicefile import table_with
from agentos.shell.escape import line
from agentos.shell.output import Page
from agentos.shell.verbs.policies import Devices, read_given

if TYPE_CHECKING:
    from agentos.abi.op import OpTable

__all__ = ["policy_import_progent", "policy_learn"]

Out = Annotated[Path | None, typer.Option("--out", help="Write it there instead of printing it.", metavar="FILE")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the policy.")]


def policy_learn(
    shell: Shell,
    trace: Annotated[str, typer.Option(help="A recorded run: STORE, STORE:PID or FILE.jsonl.", metavar="RUN")],
    name: Name = None,
    out: Out = None,
    generalise: Annotated[
        bool, typer.Option("--generalise", help="Write FOLDER/* for three or more names of one folder.")
    ] = False,
    devices: Devices = None,
) -> int:
    """Write the narrowest readable policy that admits a recorded run: what was denied stays denied, what was asked is asked."""
    from agentos.policy.learn import learn  # noqa: PLC0415 - only learning needs it
    from agentos.shell.tracefile import read_run  # noqa: PLC0415

    table = table_with(devices)
    run = read_run(trace, table)
    learned = learn(run.calls, name=name or "learned", table=table, generalise=generalise)
    remarks = [*learned.remarks, *(f"journal {each.seq} left out: {each.op}: {each.why}" for each in run.skipped)]
    data = {"calls": learned.calls, "rules": len(learned.layer.rules), "remarks": remarks, "digest": learned.layer.digest}
    _give(shell, learned.text, out, remarks, data)
    return status.OK


def policy_import_progent(  # noqa: PLR0913, PLR0917 - one option per choice
    shell: Shell,
    file: Annotated[Path, typer.Argument(help="A Progent policy, JSON or Python literals; `-` is stdin.", metavar="FILE")],
    device: Annotated[str, typer.Option("--device", help="Device that its tools are ops of.", metavar="NAME")],
    compat: Annotated[bool, typer.Option("--compat", help="Answer as Progent does, also where that is unsafe.")] = False,
    name: Name = None,
    out: Out = None,
    devices: Devices = None,
) -> int:
    """Translate a Progent policy: safely, or as exactly as it can be said. What cannot be said is an error, never left out."""
    from agentos.policy.progent import import_progent  # noqa: PLC0415 - only importing needs it

    table = table_with(devices)
    policy = read_given(file)
    made = import_progent(
        policy.text, source=policy.source, table=table, device=device, name=name or _stem(file), is_compat=compat
    )
    _loads(made.text, table)
    remarks = [str(doubt) for doubt in made.doubts]
    _give(shell, made.text, out, remarks, {"compat": compat, "doubts": made.doubts})
    return status.OK


def _stem(file: Path) -> str:
    return "imported" if file == Path("-") else file.stem


def _loads(text: str, table: OpTable) -> None:
    """Check what is about to be handed out.

    Raises:
        Invalid: `invalid.policy`, for example two rules too many for one file.
    """
    report = check_text(text, source="imported", table=table)
    if report.errors:
        first = report.errors[0]
        errors = [problem.to_data() for problem in report.errors]
        raise Invalid("policy", first.message, hint=first.hint, where=first.where, errors=errors)


def _give(shell: Shell, text: str, out: Path | None, remarks: list[str], data: dict[str, Any]) -> None:
    """Print a policy or write it to a file; what is doubtful about it goes to stderr."""
    from agentos.shell.writing import hand_out, replace_file  # noqa: PLC0415 - only where a text is made

    shell.output.note("\n".join(map(line, remarks)))
    if out is None:
        hand_out(shell.output, text, Page({**data, "text": text}, text=text.rstrip("\n"), name=lambda _: "-"))
        return
    replace_file(out, text)
    shell.output.emit(Page({**data, "file": str(out)}, text=f"{out}: written", name=lambda _: str(out)))
