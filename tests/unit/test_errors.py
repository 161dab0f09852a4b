"""The error tree, as its readers see it."""

from __future__ import annotations

import traceback

from agentos.errors import Invalid, from_data


def test_a_traceback_says_what_to_do() -> None:
    error = Invalid("argument", "no model is configured", hint="set OPENAI_API_KEY")
    shown = "".join(traceback.format_exception(error))
    assert shown.endswith("invalid.argument: no model is configured\nhint: set OPENAI_API_KEY\n")


def test_an_error_from_the_journal_says_what_to_do_once() -> None:
    again = from_data(Invalid("argument", "no", hint="do that").to_data(), seq=3)
    assert "".join(traceback.format_exception(again)).count("do that") == 1
