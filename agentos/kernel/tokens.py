"""Whole words and numbers: which values a text says, so that they count as the choice of whoever wrote it.

The rule, for a text value:

1. The text is cut into tokens at white space. The value has to occur in it exactly as it stands: same case, same characters (compared in
   Unicode normal form C), from the beginning of a token to the end of one. White space inside is as in the text or single spaces.
2. Before it, its first token may have opening brackets and quotes; after it, its last token may have ``.,;:!?``, closing brackets,
   quotes and a possessive ``'s``. Nothing else separates: ``alice@evil.example`` does not say `alice`, ``./etc`` does not say `/etc`.
   A bracket belongs to the value when its partner does (``f(x)``), dots after a slash to the path (``a/..``).
3. It holds a letter or digit, and no character that cannot be seen: controls, zero-width and direction marks, private use. A letter that
   only looks like another (also one that Unicode calls equal to an ASCII character, such as the Kelvin sign) is another letter.
4. White space around the value does not matter, up to EDGE_CHARS_MAX characters of it.
5. A token that is a number between currency signs or before ``%`` also says the number's digits: ``$50`` says `50`.

A number is said by a token that is that number: ``50``, ``-5``, ``50.00``, ``1,000``, ``$50``, ``50%``, ``#50``. The exact value counts,
so ``50.00`` says 50. Not numbers, because they are something else or can be read in two ways: ``1.000`` and ``1.000,00`` (a thousand,
or one?), ``007``, ``+1555``, ``1e3``, ``10:30``, ``2022-04-01``, ``1.2.3``, ``A50B``, digits of other scripts.

This grounds values, it does not judge them: a word that the author only quoted or forbade is a word of the author.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from agentos.abi.limits import WORDS_CHARS_MAX, WORDS_TEXT_CHARS_MAX

__all__ = ["EDGE_CHARS_MAX", "Words", "bare", "number_key"]

EDGE_CHARS_MAX: Final = 2
"""White space that may surround a value: more could carry a message of its own."""

_TEXT_COSTS_CHARS: Final = 256  # what an empty text is counted as: no text is free
_PEELS_MAX: Final = 8  # characters that are taken off one side of a token
_TRIES_MAX: Final = 64  # occurrences of a run that are looked at: one that often begins inside a word is given up
_DIGITS_MAX: Final = 40
_INT_END: Final = 10**_DIGITS_MAX

_QUOTES: Final = "\"'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"
_OPENING: Final = frozenset("([{<\u00bf\u00a1\u300c\u300e\u300a\u3008\u3010\uff08\uff3b" + _QUOTES)
_CLOSING: Final = frozenset(
    ".,;:!?)]}>\u2026\u3002\u3001\uff0c\uff0e\uff01\uff1f\uff1a\uff1b\uff09\uff3d\u300d\u300f\u300b\u3009\u3011" + _QUOTES
)
_PARTNER: Final = dict(
    zip(")]}>\uff09\uff3d\u300d\u300f\u300b\u3009\u3011", "([{<\uff08\uff3b\u300c\u300e\u300a\u3008\u3010", strict=True)
)
_POSSESSIVES: Final = ("'s", "\u2019s")
_UNSEEN: Final = re.compile(  # of those that `isprintable` passes: nothing is drawn, or (the first line) an ASCII character is
    "[\u212a\u037e\u1fef\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_NUMBER_BEGINS: Final = frozenset("0123456789-$\u20ac\u00a3#")
_NUMBER: Final = re.compile(
    r"(?P<sign>-?)(?P<before>[$\u20ac\u00a3#]?)(?P<inner>-?)(?P<whole>0|[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*)(?:\.(?P<part>[0-9]+))?"
    r"(?P<after>[$\u20ac\u00a3%]?)"
)


class Words:
    """Texts whose words count as their author's own. The oldest are forgotten when they are over WORDS_CHARS_MAX together.

    INVARIANT whole-words-only: a value that is not one of the texts' runs of whole tokens, character by character, is not held.

    Cost: `holds` looks one token up in a table, and searches the texts only for a run of tokens of which the first and last are there.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: deque[_Text] = deque()
        self._unread = 0
        self._chars = 0
        self._forms: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text, of which the first WORDS_TEXT_CHARS_MAX characters are read (when somebody first asks)."""
        kept = _Text(text)
        self._texts.append(kept)
        self._unread += 1
        self._chars += kept.chars
        while self._chars > WORDS_CHARS_MAX:
            self._forget(self._texts.popleft())

    def holds(self, value: Any) -> bool:
        """Say whether the texts say `value`, a text or number. Anything else is never held."""
        if self._unread:
            self._read()
        if isinstance(value, str):
            return self._holds_text(value)
        key = number_key(value)
        return key is not None and key in self._numbers

    def _holds_text(self, value: str) -> bool:
        if len(value) > WORDS_TEXT_CHARS_MAX:
            return False
        text = bare(value)
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if text in self._forms:
            return _is_seen(value)
        ends = text.split(None, 1)
        if len(ends) < 2 or ends[0] not in self._forms:
            return False
        last = text.rsplit(None, 1)[-1]
        return last in self._forms and any(kept.has_run(text, last) for kept in self._texts) and _is_seen(value)

    def _read(self) -> None:
        for at in range(len(self._texts) - self._unread, len(self._texts)):
            kept = self._texts[at]
            kept.read()
            for said, counts in ((kept.forms, self._forms), (kept.numbers, self._numbers)):
                for word in said:
                    counts[word] = counts.get(word, 0) + 1
        self._unread = 0

    def _forget(self, kept: _Text) -> None:
        self._chars -= kept.chars
        self._unread = min(self._unread, len(self._texts))
        for said, counts in ((kept.forms, self._forms), (kept.numbers, self._numbers)):
            for word in said:
                counts[word] -= 1
                if not counts[word]:
                    del counts[word]


class _Text:
    """One text: its characters, and once it was read what single tokens of it say."""

    __slots__ = ("_flat", "_text", "chars", "forms", "numbers")

    def __init__(self, text: str) -> None:
        self._text = _beginning(text)
        self._flat = ""
        self.chars = len(self._text) + _TEXT_COSTS_CHARS
        self.forms: set[str] = set()
        self.numbers: set[str] = set()

    def read(self) -> None:
        """Find the tokens."""
        self._text = unicodedata.normalize("NFC", self._text)
        tokens = self._text.split()
        self._flat = " ".join(tokens)
        for token in set(tokens):
            for form in _forms(token):
                self.forms.add(form)
                self._read_number(form)

    def _read_number(self, form: str) -> None:
        found = _NUMBER.fullmatch(form) if form[0] in _NUMBER_BEGINS and len(form) <= _DIGITS_MAX else None
        if found is None or _is_ambiguous(found):
            return
        whole, part = found["whole"], found["part"]
        sign = found["sign"] + found["inner"]
        self.numbers.add(_canonical(f"{sign}{whole.replace(',', '')}.{part or 0}"))
        if not sign:
            self.forms.add(f"{whole}.{part}" if part else whole)

    def has_run(self, run: str, last: str) -> bool:
        """Say whether `run`, of which `last` is the last token, goes from the beginning of a token to the end of one."""
        return _has_run(self._text, run, last) or _has_run(self._flat, run, last)


def bare(value: str) -> str:
    """Return a value without the white space around it; nothing, if that is more than EDGE_CHARS_MAX."""
    text = str.strip(value)
    return text if len(value) - len(text) <= EDGE_CHARS_MAX else ""


def number_key(value: Any) -> str | None:
    """Return the same text for equal numbers, whatever their type; None for what is no number, not finite, or has too many digits.

    A float is the shortest decimal that reads as it, so 0.1 equals ``Decimal("0.1")``. A bool is no number.
    """
    if isinstance(value, int):
        return str(int(value)) if not isinstance(value, bool) and -_INT_END < value < _INT_END else None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        text = float.__repr__(value)
        return number_key(Decimal(text)) if "e" in text else _canonical(text)
    if isinstance(value, Decimal) and value.is_finite():
        _, digits, exponent = value.as_tuple()
        if len(digits) <= _DIGITS_MAX and abs(int(exponent)) <= _DIGITS_MAX:
            return _canonical(format(value, "f"))
    return None


def _canonical(text: str) -> str:
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _is_ambiguous(number: re.Match[str]) -> bool:
    """Say whether signs contradict each other, or a point could separate thousands."""
    sign, before, inner, whole, part, after = number.groups()
    if (sign and inner) or (inner and not before) or (before and after):
        return True
    if before == "#" and (sign or inner or part):
        return True
    return part is not None and len(part) == 3 and len(whole) <= 3 and whole != "0"


def _is_seen(value: str) -> bool:
    drawn = "".join(value.split())
    return drawn.isprintable() and (drawn.isascii() or not _UNSEEN.search(drawn)) and any(map(str.isalnum, drawn))


def _beginning(text: str) -> str:
    """Return what is read of a text. A token that the cut would shorten is left out: its beginning is another word."""
    kept = text[:WORDS_TEXT_CHARS_MAX]
    if len(kept) == len(text) or text[len(kept)].isspace() or kept[-1:].isspace():
        return kept
    return kept[: len(kept) - len(kept.split()[-1])] if kept else ""


def _forms(token: str) -> Iterator[str]:
    """Yield a token, and what is left of it when punctuation is taken off its ends, step by step."""
    yield token
    if token[0].isalnum() and token[-1].isalnum() and not token.endswith(_POSSESSIVES):
        return
    for at in range(_PEELS_MAX + 1):
        form = token[at:]
        for _ in range(_PEELS_MAX + 1):
            if form:
                yield form
            peeled = _peeled(form)
            if peeled == form:
                break
            form = peeled
        if at >= len(token) or token[at] not in _OPENING:
            return


def _peeled(token: str) -> str:
    """Return a token without its last mark of punctuation, or as it is when it ends in what may be part of a value."""
    if len(token) > 2 and token.endswith(_POSSESSIVES):
        return token[:-2]
    last = token[-1:]
    if last not in _CLOSING or (last in _PARTNER and _PARTNER[last] in token):
        return token
    if last == ".":
        rest = token.rstrip(".")
        return token if not rest or rest[-1] in "/\\" else token[:-1]
    return token[:-1]


def _has_run(text: str, run: str, last: str) -> bool:
    at = text.find(run)
    for _ in range(_TRIES_MAX):
        if at < 0:
            return False
        if _begins(text, at) and _ends(text, at + len(run), last):
            return True
        at = text.find(run, at + 1)
    return False


def _begins(text: str, at: int) -> bool:
    for before in range(at - 1, at - 2 - _PEELS_MAX, -1):
        if before < 0 or text[before].isspace():
            return True
        if text[before] not in _OPENING:
            return False
    return False


def _ends(text: str, at: int, last: str) -> bool:
    tail = text[at : at + 2 * _PEELS_MAX + 1].split(None, 1)[0] if at < len(text) and not text[at].isspace() else ""
    token = last + tail
    for _ in range(_PEELS_MAX + 1):
        if len(token) <= len(last):
            return token == last
        peeled = _peeled(token)
        if peeled == token:
            return False
        token = peeled
    return False
