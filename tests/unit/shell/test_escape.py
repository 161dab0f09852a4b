"""Agent-written text cannot touch the terminal."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from agentos.shell.escape import block, json_text, line, wrapped

HOSTILE = "\x1b[2J\x07\x9b31m\u202egnp\u2066\u200b\u2028\x00\x7f\r"


def is_inert(text: str) -> bool:
    return not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text if char not in KNOWN_HARMLESS)


KNOWN_HARMLESS = {
    chr(code)
    for code in (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440),
                 *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B))
}  # fmt: skip


@given(st.text())
def test_agent_text_is_inert(text: str) -> None:
    assert is_inert(line(text))
    assert is_inert(block(text).replace("\n", ""))


def test_escapes_become_visible_and_ordinary_text_stays() -> None:
    assert line("caf\u00e9 \x1b[31mred\n") == "caf\u00e9 \\e[31mred\\n"
    assert block("a\tb\r\nc\x9b") == "a       b\nc\\x9b"


@given(st.text(st.characters(codec="utf-8")))
def test_a_json_document_keeps_its_meaning_when_it_is_made_inert(text: str) -> None:
    document = json_text(json.dumps({"value": text + HOSTILE}, ensure_ascii=False))
    assert is_inert(document)
    assert json.loads(document) == {"value": text + HOSTILE}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n")), st.integers(2, 40))
def test_wrapping_loses_nothing_and_keeps_the_width(text: str, columns: int) -> None:
    pieces = list(wrapped(text, columns))
    assert "".join(pieces) == text
    assert all(len(piece) <= columns for piece in pieces if not any(map(unicodedata.combining, piece)))


def test_wide_characters_count_two_columns() -> None:
    assert list(wrapped("\u4e16\u754c\u4e16", 4)) == ["\u4e16\u754c", "\u4e16"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n")), st.integers(2, 40))
def test_pieces_broken_at_spaces_are_the_line_again(text: str, columns: int) -> None:
    assert "".join(wrapped(text, columns, at_spaces=True)) == text


def test_a_piece_ends_with_a_space_where_one_is_near() -> None:
    assert list(wrapped("allow fs.write when it is trusted", 20, at_spaces=True)) == ["allow fs.write when ", "it is trusted"]
