"""The parser: verbs become typer commands when they are named, each with the options that all of them have.

    agentos [-o FORMAT] [--store FILE] [--workspace DIR] VERB [the same options again, and the verb's own]

Only the module of the named verb is imported; `--help` imports them all. What is wrong in a command line is `Misuse`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import agentos
from agentos.abi.op import closest
from agentos.errors import Invalid
from agentos.shell.context import Shell
from agentos.shell.output import Format, Output
from agentos.shell.registry import VERBS, Verb, find

__all__ = ["UsageError", "command", "misuse", "parser"]

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for a command line that does not parse; which module has it differs between versions."""

_SETTINGS = {"help_option_names": ["-h", "--help"]}
OutputOption = Annotated[Format | None, typer.Option("-o", "--output", help="Format of stdout.", show_default=False)]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="FILE", help="The store's file, or postgresql://...", show_default=False)
]
WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder that processes see as /.", show_default=False)
]
_COMMON = {"output": OutputOption, "store": StoreOption, "workspace": WorkspaceOption}


class VerbGroup(TyperGroup):
    """A group of verbs that come from the registry. `words` are those before its own, ``()`` for the root."""

    words: tuple[str, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the next words that exist after this group's."""
        depth = len(self.words)
        paths = [verb.name.split() for verb in VERBS]
        return list(dict.fromkeys(path[depth] for path in paths if tuple(path[:depth]) == self.words))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command or subgroup of a word, or None."""
        words = (*self.words, cmd_name)
        verb = find(" ".join(words))
        if verb is not None:
            return command(verb)
        return _group(words) if cmd_name in self.list_commands(ctx) else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which one was meant."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            given = " ".join((*self.words, args[0]))
            hint = closest(args[0], known) or f"`{' '.join(('agentos', *self.words, '--help'))}` lists all of them"
            raise Invalid("argument", f"there is no verb `{given}`", hint=hint, field="verb")
        return super().resolve_command(ctx, args)


def parser() -> Any:
    """Return the root command."""
    app = typer.Typer(
        cls=VerbGroup, add_completion=False, no_args_is_help=True, context_settings=_SETTINGS, rich_markup_mode=None
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def command(verb: Verb) -> Any:
    """Return the typer command of a verb."""
    app = typer.Typer(add_completion=False, context_settings=_SETTINGS, rich_markup_mode=None)
    app.command(verb.name.split()[-1], short_help=verb.summary)(_entry(verb.load()))
    return typer.main.get_command(app)


def misuse(error: Exception) -> Invalid:
    """Return typer's complaint as one of ours."""
    said = str(getattr(error, "format_message", error.__str__)()).rstrip(".").replace("Value error, ", "")
    said = said.replace("Input should be a valid integer, unable to parse string as an integer", "it is not a whole number")
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` shows what it takes" if context is not None else "see `agentos --help`"
    return Invalid(
        "argument", said[:1].lower() + said[1:], hint=hint, field=getattr(error, "param_hint", None) or "command line"
    )


def _group(words: tuple[str, ...]) -> Any:
    cls = type("VerbGroup", (VerbGroup,), {"words": words})
    app = typer.Typer(cls=cls, add_completion=False, no_args_is_help=True, context_settings=_SETTINGS, rich_markup_mode=None)
    app.callback(help="; ".join(verb.summary for verb in VERBS if verb.name.startswith(f"{' '.join(words)} ")))(lambda: None)
    group = typer.main.get_command(app)
    group.name = words[-1]
    return group


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agentos {agentos.__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    output: OutputOption = None,
    store: StoreOption = None,
    workspace: WorkspaceOption = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Run LLM agents as processes: capabilities, policies, durable approvals, a journal of everything."""
    del version
    ctx.obj = {"output": output, "store": store, "workspace": workspace}


def _entry(function: Callable[..., Any]) -> Callable[..., int]:
    """Return what typer calls: the verb with the common options, which go into its `Shell`."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    @wraps(function)
    def entry(ctx: typer.Context, **values: Any) -> int:
        before = ctx.obj or {}
        common = {name: before.get(name) if (own_value := values.pop(name)) is None else own_value for name in _COMMON}
        shell = Shell(
            Output(common["output"] or Format.TABLE), store=common["store"], workspace=common["workspace"],
            argv=ctx.find_root().meta.get("argv", ()),
        )  # fmt: skip
        ctx.find_root().meta["shell"] = shell
        return _run(shell, partial(function, shell, **values))

    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in _COMMON.items()]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(parameter.replace(kind=keyword) for parameter in own), *common]
    entry.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    entry.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del entry.__wrapped__
    return entry


def _run(shell: Shell, verb: Callable[[], Any]) -> int:
    if not inspect.iscoroutinefunction(verb.func):  # type: ignore[attr-defined]
        return verb() or 0
    import anyio  # noqa: PLC0415 - verbs that touch no store do without

    return anyio.run(verb) or 0
