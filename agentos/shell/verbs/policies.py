"""policy check, fmt, explain, diff: looking at policies."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentos.abi.limits import POLICY_BYTES_MAX
from agentos.errors import Invalid
from agentos.policy import Layer, Policy, Problem, check_text, load_layer, render_errors
from agentos.runtime.policies import read_policy
from agentos.shell import status
from agentos.shell.context import Shell
from agentos.shell.devicefile import table_with
from agentos.shell.escape import line
from agentos.shell.output import Page
from agentos.shell.verbs.authority import Arguments, OpName, Pid, explain

if TYPE_CHECKING:
    from agentos.abi.op import OpTable
    from agentos.policy.narrow import OpDifference
    from agentos.policy.trace import Change

__all__ = ["Devices", "layer_of", "policy_check", "policy_diff", "policy_explain", "policy_fmt", "read_given"]

Devices = Annotated[
    list[Path] | None, typer.Option("--devices", help="Declarations of an app's ops, YAML or JSON.", metavar="FILE")
]
Files = Annotated[list[Path], typer.Argument(help="Policy files; `-` is stdin.", metavar="FILE...")]
_STDIN = Path("-")


def read_given(file: Path) -> Policy:
    """Return the policy of a FILE argument; ``-`` reads stdin, from which nothing can be used.

    Raises:
        Invalid: `invalid.policy`, it cannot be read, is too large or not UTF-8.
    """
    if file != _STDIN:
        return read_policy(file)
    data = sys.stdin.read(POLICY_BYTES_MAX + 1)
    if len(data.encode(errors="surrogatepass")) > POLICY_BYTES_MAX:
        raise Invalid("policy", f"stdin holds over {POLICY_BYTES_MAX} bytes", hint="split the file", where="<stdin>")
    return Policy(data, source="<stdin>")


def layer_of(file: Path, table: OpTable) -> Layer:
    """Return the layer that a FILE argument describes.

    Raises:
        Invalid: `invalid.policy`, as `load_layer`.
    """
    policy = read_given(file)
    return load_layer(policy.text, source=policy.source, table=table, use=policy.use)


def policy_check(
    shell: Shell,
    files: Files,
    devices: Devices = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
) -> int:
    """Check policy files: each error with its line and a caret, and what never matches. Status 2 when there are errors."""
    table = table_with(devices, beside=files)
    errors: list[Problem] = []
    warnings: list[Problem] = []
    checked: list[dict[str, Any]] = []
    for file in files:
        policy = read_given(file)
        report = check_text(policy.text, source=policy.source, table=table, use=policy.use)
        errors += report.errors
        warnings += report.warnings
        layer = report.layer
        about = {"kind": layer.kind, "name": layer.name, "rules": len(layer.rules), "digest": layer.digest} if layer else {}
        checked.append({"file": policy.source, "ok": layer is not None, **about})
    is_ok = not errors and not (strict and warnings)
    data = {
        "ok": is_ok, "files": checked, "errors": [problem.to_data() for problem in errors],
        "warnings": [problem.to_data() for problem in warnings],
    }  # fmt: skip
    lines = [f"{each['file']}: ok, {each['kind']} `{each['name']}`, {each['rules']} rules" for each in checked if each["ok"]]
    text = "\n".join([*(render_errors(found) for found in (errors, warnings) if found), *lines])
    shell.output.emit(Page(data, text=text, name=lambda _: "ok" if is_ok else "invalid"))
    return status.OK if is_ok else status.USAGE


def policy_fmt(
    shell: Shell,
    files: Files,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; status 1 when a file would change.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Replace the files instead of printing them.")] = False,
) -> int:
    """Print policy files in their canonical spelling. What they mean, their comments and the order of their lines stay."""
    from agentos.policy.format import format_text  # noqa: PLC0415 - only formatting needs it
    from agentos.shell.writing import hand_out, replace_file  # noqa: PLC0415

    if check and write:
        raise Invalid("argument", "--check and --write exclude each other", hint="leave one out", field="check")
    if write and _STDIN in files:
        raise Invalid("argument", "stdin cannot be written", hint="leave --write out", field="write")
    policies = [(file, read_given(file)) for file in files]
    made = [(file, policy, format_text(policy.text, source=policy.source)) for file, policy in policies]
    data = [{"file": policy.source, "changed": text != policy.text, "text": text} for _, policy, text in made]
    changing = [each["file"] for each in data if each["changed"]]
    if write:
        for file, policy, text in made:
            if text != policy.text:
                replace_file(file, text)
    words = "rewritten" if write else "would change"
    shown = (
        "\n".join(f"{file}: {words}" for file in changing)
        if check or write
        else "".join(text for _, _, text in made).rstrip("\n")
    )
    page = Page(data if len(data) > 1 else data[0], text=shown, name=lambda each: each["file"])
    if check or write:
        shell.output.emit(page)
    else:
        hand_out(shell.output, f"{shown}\n", page)
    return status.ERROR if check and changing else status.OK


async def policy_explain(shell: Shell, pid: Pid, op: OpName, args: Arguments = None) -> int:
    """Decide a call without making it, and say which capability and which rules decide. The same as `explain`."""
    return await explain(shell, pid, op, args)


def policy_diff(
    shell: Shell,
    old: Annotated[Path, typer.Argument(help="A policy file.", metavar="A")],
    new: Annotated[Path, typer.Argument(help="Another.", metavar="B")],
    trace: Annotated[str | None, typer.Option(help="A recorded run: STORE, STORE:PID or FILE.jsonl.", metavar="RUN")] = None,
    devices: Devices = None,
) -> int:
    """Say what B lets through that A does not, and the other way round; with --trace, which recorded calls change verdict.

    Status 0 when there is no difference, 1 when there is one.
    """
    table = table_with(devices, beside=(old, new))
    first, second = layer_of(old, table), layer_of(new, table)
    if trace is not None:
        return _diff_by_trace(shell, first, second, table, trace)
    from agentos.policy.narrow import diff  # noqa: PLC0415 - only comparing needs it

    found = diff(first, second, table)
    text = "\n".join(each.text() for each in found) or "no difference"
    data = {"equal": not found, "differences": [_difference(each) for each in found]}
    shell.output.emit(Page(data, text=text, name=lambda _: "different" if found else "equal"))
    return status.ERROR if found else status.OK


def _difference(found: OpDifference) -> dict[str, Any]:
    """Return one difference as plain data: a call for each direction in which B differs from A."""
    wider, narrower = (None if witness is None else witness.text() for witness in (found.wider, found.narrower))
    return {"op": found.op, "wider": wider, "narrower": narrower, "undecided": found.undecided}


def _diff_by_trace(shell: Shell, old: Layer, new: Layer, table: OpTable, trace: str) -> int:
    from agentos.policy.trace import changed  # noqa: PLC0415 - only comparing needs it
    from agentos.shell.tracefile import read_run  # noqa: PLC0415

    run = read_run(trace, table)
    found = changed(run.calls, old, new, run.origins)
    data = {"equal": not found, "calls": len(run.calls), "skipped": run.skipped, "changes": found}
    head = f"{len(found)} of {len(run.calls)} recorded calls change verdict"
    lines = [head if found else f"no difference in {len(run.calls)} recorded calls", *_shown(found)]
    shell.output.note("\n".join(line(f"journal {each.seq} left out: {each.op}: {each.why}") for each in run.skipped))
    shell.output.emit(Page(data, text="\n".join(lines), name=lambda _: "different" if found else "equal"))
    return status.ERROR if found else status.OK


def _shown(changes: Iterable[Change]) -> Iterable[str]:
    for each in changes:
        verdicts = f"{each.old} {each.old_rule} -> {each.new} {each.new_rule}"
        yield line(f"journal {each.seq}  {each.op} {each.resource}  {verdicts}")
