"""Formats: one document, aligned columns, nothing interpreted."""

from __future__ import annotations

import json

import pytest
import yaml

from agentos.errors import Denied
from agentos.shell.output import Format, Output, Page

ITEMS = [{"pid": 1, "goal": "a\x1b[31m"}, {"pid": 22, "goal": "[bold]b[/bold]"}]
PAGE = Page(ITEMS, [("pid", lambda item: item["pid"]), ("goal", lambda item: item["goal"])], name=lambda item: item["pid"])


def shown(capsys: pytest.CaptureFixture[str], format_: Format, page: Page, *, is_tty: bool = False) -> str:
    Output(format_, is_tty=is_tty).emit(page)
    return capsys.readouterr().out


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, Format.JSON, PAGE)) == ITEMS


def test_jsonl_is_one_line_per_item(capsys: pytest.CaptureFixture[str]) -> None:
    assert [json.loads(line) for line in shown(capsys, Format.JSONL, PAGE).splitlines()] == ITEMS


def test_yaml_holds_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, Format.YAML, PAGE)
    assert yaml.safe_load(out) == ITEMS
    assert "\x1b" not in out


def test_name_is_one_identity_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Format.NAME, PAGE) == "1\n22\n"


def test_a_pipe_gets_plain_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Format.TABLE, PAGE) == "PID  GOAL\n1    a\\e[31m\n22   [bold]b[/bold]\n"


def test_markup_in_data_is_not_interpreted_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "[bold]b[/bold]" in shown(capsys, Format.TABLE, PAGE, is_tty=True)


def test_an_error_is_one_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    Output(Format.JSON, is_tty=False).error(Denied("policy", "no", hint="ask", rule="a.policy:1", seq=7))
    found = json.loads(capsys.readouterr().out)
    assert found == {"code": "denied.policy", "message": "no", "hint": "ask", "fields": {"rule": "a.policy:1"}, "seq": 7}


def test_an_error_for_people_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_tty=False).error(Denied("policy", "no `\x1b[2J`", hint="ask", seq=7))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: no `\\e[2J`  [denied.policy]  (journal 7)\n  ask\n"


def test_an_empty_list_is_said_on_stderr_and_is_an_empty_document(capsys: pytest.CaptureFixture[str]) -> None:
    empty = Page([], PAGE.columns, empty="nothing here")
    assert shown(capsys, Format.JSON, empty) == "[]\n"
    Output(is_tty=False).emit(empty)
    assert capsys.readouterr() == ("", "nothing here\n")
