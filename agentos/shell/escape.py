"""Making agent-written text safe to show: control characters become visible, nothing else changes.

INVARIANT agent-text-is-inert: what `block`, `line` and `json_text` return holds no character that moves a cursor, starts an escape
sequence, reorders text or hides it: no C0 or C1 control, DEL, bidirectional or zero-width format character, line or paragraph separator,
tag character or lone surrogate. `block` keeps newlines, and only newlines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

__all__ = ["block", "json_text", "line", "wrapped"]

_CONTROLS: Final = "\x00-\x1f\x7f-\x9f\ud800-\udfff"
_FORMATS: Final = "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_IN_LINE: Final = re.compile(f"[{_CONTROLS}{_FORMATS}]")
_NAMES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e"}


def line(text: object) -> str:
    """Return `text` as one line that is safe in a terminal."""
    return _IN_LINE.sub(_visible, str(text))


def block(text: object) -> str:
    """Return `text` with its lines kept and its tabs as spaces, safe in a terminal."""
    return "\n".join(line(each) for each in str(text).replace("\r\n", "\n").expandtabs(8).split("\n"))


def wrapped(text: str, columns: int, *, at_spaces: bool = False) -> Iterator[str]:
    """Yield one line in pieces that are at most `columns` terminal columns wide; wide characters count two.

    Joined, the pieces are the line again. With `at_spaces` they end with a space where there is one in their second half.
    """
    if text.isascii() and len(text) <= columns:
        yield text
        return
    piece, width = "", 0
    for char in text:
        wide = _columns(char)
        if width + wide > columns:
            end = piece.rfind(" ") + 1 if at_spaces and char != " " else 0
            end = end if end > len(piece) // 2 else len(piece)
            yield piece[:end]
            piece = piece[end:]
            width = sum(map(_columns, piece))
        piece += char
        width += wide
    yield piece


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def json_text(text: str) -> str:
    r"""Return a JSON document with what JSON itself leaves raw written as ``\uXXXX``; its newlines are layout and stay."""
    return _IN_LINE.sub(lambda found: found[0] if found[0] == "\n" else _unicode_escape(found[0]), text)


def _visible(found: re.Match[str]) -> str:
    char = found[0]
    if char in _NAMES:
        return _NAMES[char]
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def _unicode_escape(char: str) -> str:
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
