"""`main`: the entry point. One place where errors become words and a status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from agentos.errors import AgentOSError, KernelPanic
from agentos.shell import status
from agentos.shell.groups import leaves
from agentos.shell.output import Format, Output, Page

__all__ = ["main"]


class _Told(logging.Handler):
    """Shows warnings of the runtime on stderr, wherever that leads when they come."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        Output(is_tty=False).note(f"{record.levelname.lower()}: {record.getMessage()}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    Args:
        argv: The words after ``agentos``; None takes those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    told = _Told()
    logging.getLogger("agentos").addHandler(told)
    try:
        return _run(words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away; nothing is left to flush to it
        return status.ERROR
    finally:
        logging.getLogger("agentos").removeHandler(told)


def _run(words: list[str]) -> int:
    from typer import Exit  # noqa: PLC0415 - parsing comes after the streams are ready

    from agentos.shell.parser import UsageError, misuse, parser  # noqa: PLC0415

    meta: dict[str, Any] = {}
    try:
        result = _invoke(parser(), words, meta)
    except Exit as done:
        return done.exit_code
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            Output(is_tty=False).note(str(error))
            return status.USAGE
        return _fail(words, meta, misuse(error))
    except AgentOSError as error:
        return _fail(words, meta, error)
    except BaseExceptionGroup as group:
        return _end_of(group, words, meta)
    except KernelPanic as panic:
        return _panic(words, panic)
    except KeyboardInterrupt:
        return _interrupted(meta)
    return int(result or 0)


def _end_of(group: BaseExceptionGroup[BaseException], words: list[str], meta: dict[str, Any]) -> int:
    """Return what a group of errors means: several tasks may have met the same end. What is not an error of ours is raised."""
    from agentos.shell.people import Interrupted  # noqa: PLC0415 - only on the way to an error

    found = leaves(group)
    panic = next((each for each in found if isinstance(each, KernelPanic)), None)
    if panic is not None:
        return _panic(words, panic)
    if any(isinstance(each, KeyboardInterrupt | Interrupted) for each in found):
        return _interrupted(meta)
    ours = [each for each in found if isinstance(each, AgentOSError)]
    if len(ours) < len(found):
        raise group
    return _fail(words, meta, ours[0])


def _invoke(root: Any, words: list[str], meta: dict[str, Any]) -> Any:
    """Parse and run. The context's `meta` is shared, so that errors can be told in the command's own way."""
    if "_AGENTOS_COMPLETE" in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415 - a shell asks for completions

        completion_init()
        return root.main(words, prog_name="agentos", standalone_mode=True)
    with root.make_context("agentos", list(words)) as context:
        context.meta["argv"] = words
        try:
            return root.invoke(context)
        finally:
            meta.update(context.meta)


def _fail(words: list[str], meta: dict[str, Any], error: AgentOSError) -> int:
    shell = meta.get("shell")
    output = shell.output if shell is not None else Output(_wanted_format(words))
    output.error(error)
    return status.of_error(error)


def _interrupted(meta: dict[str, Any]) -> int:
    shell = meta.get("shell")
    if shell is not None:
        shell.output.note("\n".join(shell.parting))
    return status.INTERRUPTED


def _panic(words: list[str], panic: KernelPanic) -> int:
    output = Output(_wanted_format(words))
    hint = "this is a defect of agentos or of the disk; what was acknowledged is kept, `agentos audit --verify` checks it"
    if output.for_people:
        output.note(f"panic: {panic}\n  {hint}")
    else:
        output.emit(Page({"code": "panic", "message": str(panic), "hint": hint}))
    return status.ERROR


def _wanted_format(words: list[str]) -> Format:
    """Return the format that a command line asks for, also when it does not parse."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        value = following if word in ("-o", "--output") else word.partition("=")[2] if word.startswith("--output=") else ""
        value = value or (word[2:] if word.startswith("-o") and not word.startswith("--") else "")
        if value in set(Format):
            return Format(value)
    return Format.TABLE
