"""Output: one page of data in the format that was asked for; notes and progress go to stderr.

    table    for people: rich tables in a terminal, plain aligned columns elsewhere
    json     exactly one document     jsonl  one line per item     yaml  one document     name  one identity per line

INVARIANT one-document: with `-o json` a command writes exactly one JSON document to stdout, also when it ends with an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentos.errors import AgentOSError
from agentos.shell.escape import block, json_text, line

__all__ = ["Column", "Format", "Output", "Page", "plain_data"]


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


Column = tuple[str, Callable[[Any], Any]]
"""Heading, and how the cell follows from the item."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a verb shows. `data` is the document; a list of items is a table with `columns`, anything else shows `text`.

    Attributes:
        data: Plain data, dataclasses or lists of them.
        columns: Columns of the table, for a list.
        text: What people read instead of a table; may have several lines.
        name: Gives the identity that `-o name` prints for an item (for `data` itself when it is no list).
        empty: What people read when the list is empty.
    """

    data: Any
    columns: Sequence[Column] = ()
    text: str | None = None
    name: Callable[[Any], Any] = field(default=str)
    empty: str = ""


class Output:
    """Where a command writes.

    Args:
        format: Format of stdout.
        is_tty: Whether stdout is a terminal; None asks it.
    """

    def __init__(self, format: Format = Format.TABLE, *, is_tty: bool | None = None) -> None:  # noqa: A002 - the option's name
        self.format = format
        self.is_tty = sys.stdout.isatty() if is_tty is None else is_tty

    @property
    def for_people(self) -> bool:
        """True when stdout is read by people."""
        return self.format is Format.TABLE

    def emit(self, page: Page) -> None:
        """Write a page to stdout."""
        if self.format is not Format.TABLE:
            self._write(self._document(page))
        elif page.text is not None:
            self._write(block(page.text))
        elif not page.data:
            self.note(page.empty)
        elif self.is_tty:
            _rich_table(page)
        else:
            self._write(_aligned(page))

    def emit_line(self, data: Any) -> None:
        """Write one item of a stream as a line of JSON."""
        self._write(_json(data, indent=0))

    def say(self, text: str) -> None:
        """Write one line for people to stdout."""
        self._write(line(text))

    def error(self, error: AgentOSError, **more: Any) -> None:
        """Report an error: the document on stdout in a format for programs, else lines on stderr."""
        if self.format in (Format.TABLE, Format.NAME):
            seq = f"  (journal {error.seq})" if error.seq is not None else ""
            self.note(f"error: {error.message}  [{error.code}]{seq}")
            if error.where and str(error.where) not in error.message:
                self.note(f"  at {error.where}")
            if error.hint:
                self.note(f"  {error.hint}")
            return
        seq_of = {"seq": error.seq} if error.seq is not None else {}
        data = error.to_data()
        head = {"code": data.pop("code"), "message": data.pop("message"), "hint": data.pop("hint", "")}
        self.emit(Page({**head, **data, **seq_of, **more}))

    def note(self, text: str) -> None:
        """Write a line for people to stderr."""
        if text:
            print(block(text), file=sys.stderr, flush=True)

    def _document(self, page: Page) -> str:
        data = page.data
        if self.format is Format.NAME:
            return "\n".join(line(page.name(item)) for item in (data if isinstance(data, list) else [data]))
        if self.format is Format.YAML:
            return _yaml(data)
        if self.format is Format.JSONL and isinstance(data, list):
            return "\n".join(_json(item, indent=0) for item in data)
        return _json(data, indent=0 if self.format is Format.JSONL else 2)

    def _write(self, text: str) -> None:
        if text:
            print(text, flush=True)


def plain_data(value: Any) -> Any:
    """Return dataclasses and what they hold as JSON-like data; bytes become base64 text."""
    import msgspec  # noqa: PLC0415 - only the formats for programs need it

    return msgspec.to_builtins(value, enc_hook=str)


def _json(data: Any, *, indent: int) -> str:
    import json  # noqa: PLC0415 - only the formats for programs need it

    text = json.dumps(plain_data(data), ensure_ascii=False, indent=indent or None)
    return json_text(text)


def _yaml(data: Any) -> str:
    import yaml  # noqa: PLC0415 - only this format needs it

    plain = plain_data(data)
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    if block(text) != text:
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=False, width=120)
    return text.rstrip("\n")


def _cells(page: Page) -> list[list[str]]:
    return [[line(cell(item)) for _, cell in page.columns] for item in page.data]


def _aligned(page: Page) -> str:
    rows = [[heading.upper() for heading, _ in page.columns], *_cells(page)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(page.columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _rich_table(page: Page) -> None:
    from rich.console import Console  # noqa: PLC0415 - only terminals need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for heading, _ in page.columns:
        table.add_column(Text(heading.upper()), overflow="fold")
    for row in _cells(page):
        table.add_row(*[Text(cell) for cell in row])
    Console(highlight=False, markup=False, emoji=False, no_color="NO_COLOR" in os.environ).print(table)
