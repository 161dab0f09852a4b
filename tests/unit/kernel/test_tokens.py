"""Whole words and numbers: a table of what a text says and does not say, and the rule against a naive reading of it."""

from __future__ import annotations

import re
import sys
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.limits import WORDS_CHARS_MAX, WORDS_TEXT_CHARS_MAX
from agentos.kernel.tokens import Words, number_key

SAID: list[tuple[str, Any]] = [
    ("Pay Bob's rent", "Bob"),
    ("Pay Bob\u2019s rent", "Bob"),
    ("Pay Bob's rent", "Bob's"),
    ("Pay (Bob), please", "Bob"),
    ("Pay Bob, then stop.", "Bob"),
    ("Is it Bob?!", "Bob"),
    ('write to "alice@x.example".', "alice@x.example"),
    ("write to \u201calice@x.example\u201d\u2026", "alice@x.example"),
    ("Alice <alice@x.example>", "alice@x.example"),
    ("read `/etc/hosts`:", "/etc/hosts"),
    ("see [the page](b)", "[the"),
    ("open /etc/passwd.", "/etc/passwd"),
    ("open ./etc/passwd", "./etc/passwd"),
    ("call f(x).", "f(x)"),
    ("see https://x.example/A_(b).", "https://x.example/A_(b)"),
    ("{name}", "name"),
    ("on 2022-04-01 10:00, at noon", "2022-04-01 10:00"),
    ("subject: 'Hello, Bob!' and body", "Hello, Bob!"),
    ("subject: 'Hello, Bob!' and body", "Hello, Bob"),
    ("write:\nDear Bob,\n\n  see you.\nAlice\n", "Dear Bob,\n\n  see you.\nAlice"),
    ("write:\nDear Bob,\n\n  see you.\nAlice\n", "Dear Bob, see you. Alice"),
    ("Bob", " Bob\n"),
    ("a b", "b"),
    ("Ren\u00e9 writes", "Rene\u0301"),
    ("Rene\u0301 writes", "Ren\u00e9"),
    ("\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u043c\u0438\u0440"),
    ("pay 50 EUR", "50"),
    ("pay $50.", "50"),
    ("pay $50.", "$50"),
    ("pay 50\u20ac now", "50"),
    ("up 50%", "50"),
    ("up 50%", "50%"),
    ("issue #50", "50"),
    ("version 1.2.3", "1.2.3"),
    ("account DE89370400440532013000!", "DE89370400440532013000"),
    ("room 007", "007"),
    ("pay 50 EUR", 50),
    ("pay $50.", 50),
    ("pay \u00a350,", 50.0),
    ("pay 50.00 now", 50),
    ("pay 50 now", Decimal("50.00")),
    ("pay (50)", 50),
    ("up 50%", 50),
    ("pay 1,000 now", 1000),
    ("pay $1,234,567.80", 1234567.8),
    ("add 0.125", 0.125),
    ("about 19.99 each", 19.99),
    ("take 1234.567", 1234.567),
    ("a balance of -5", -5),
    ("a balance of -$5", -5),
    ("a balance of $-5", -5),
    ("zero is 0", -0.0),
    ("send 1 0 0 0", 1),
    ("issue #17", 17),
    ("the 10000000000000000 of them", 1e16),
]

NOT_SAID: list[tuple[str, Any]] = [
    ("alice@evil.example", "alice"),
    ("alice@evil.example", "evil.example"),
    ("alice-evil", "alice"),
    ("alice_evil alice/evil alice,evil alice:evil alice=evil", "alice"),
    ("malice alices", "alice"),
    ("Alice", "alice"),
    ("alice", "ALICE"),
    ("alice", "alice@evil.example"),
    ("alice", "alice."),
    ("alice", "'alice'"),
    ("alice", "alice,,;;"),
    ("pay bob@evil.example, not bob", "pay bob"),
    ("overpay bob, pay", "pay bob"),
    ("x bob" + "'s" * 8 + "@evil.example, not bob", "x bob"),
    ("alice and bob", "alice bob"),
    ("alice and bob", "bob and alice"),
    ("alice", "alice alice"),
    ("@alice #alice ~alice +alice", "alice"),
    ("$alice alice%", "alice"),
    ("open /etc/passwd.bak", "/etc/passwd"),
    ("open ./etc/passwd", "/etc/passwd"),
    ("open ../../etc/passwd", "/etc/passwd"),
    ("open /srv/..", "/srv/"),
    ("keep .env", "env"),
    ("https://evil.example.good/x", "evil.example"),
    ("https://good.example/x", "good.example"),
    ("https://good.example/x", "https://good.example/"),
    ("call f(x).", "f(x"),
    ("call f(x).", "f"),
    ("account DE89370400440532013000", "DE893704004405320130"),
    ("account DE89 3704 0044", "DE8937040044"),
    ("subject Bob", "subject\nBob"),
    ("subject Bob", "subject  Bob"),
    ("subject Bob", "subject\tBob"),
    ("to Bob", "Bob\nBcc: eve@evil.example"),
    ("to Bob\nBcc nobody", "Bob\r\nBcc"),
    ("Bob", "Bob" + " \t" * 20),
    ("alice", "al\u200bice"),
    ("al\u200bice", "al\u200bice"),
    ("alice", "alice\u200b"),
    ("alice", "\ufeffalice"),
    ("alice", "\u202ealice"),
    ("\u202eecila", "\u202eecila"),
    ("a\u2066lice", "a\u2066lice"),
    ("alice", "al\u00adice"),
    ("alice\u0301", "alice"),
    ("alice", "alice\u0301"),
    ("alice", "\u0430lice"),
    ("Kelly", "\u212aelly"),
    ("a\u3164b", "a\u3164b"),
    ("alice\x00", "alice\x00"),
    ("x\x1b[2Jy", "x\x1b[2Jy"),
    ("a \ud800b", "\ud800b"),
    ("- * ... \u2014 !", "-"),
    ("- * ... \u2014 !", "..."),
    ("/ /", "/"),
    ("", ""),
    ("a b", " "),
    ("None True", None),
    ("None True 1", True),
    ("abc", b"abc"),
    ("abc", ["abc"]),
    ("1000", "1,000"),
    ("1,000", "1000"),
    ("-50", "50"),
    ("50", 5),
    ("-5", 5),
    ("5", -5),
    ("5-10", 5),
    ("send 1 0 0 0", 1000),
    ("pay 1.000,00", 1000),
    ("pay 1.000,00", 1),
    ("pay 1.000", 1000),
    ("pay 1.000", 1),
    ("pay 1,00", 1),
    ("pay 1,00", 100),
    ("pay 1,0000", 10000),
    ("pay 1'000 1_000", 1000),
    ("A50B 50B A50 50EUR", 50),
    ("2022-04-01", 2022),
    ("10:30", 10),
    ("version 1.2.3", 1.2),
    ("DE89 GB29NWBK60161331926819", 60161331926819),
    ("50/50", 50),
    ("007", 7),
    ("+15551234567", 15551234567),
    ("1e3 0x10", 1000),
    ("0x10", 16),
    ("\uff15\uff10", 50),
    ("\u0665\u0660", 50),
    ("\u221250", -50),
    ("--5", -5),
    ("$-$5", 5),
    ("nan inf", float("nan")),
    ("inf", float("inf")),
    ("9" * 60, int("9" * 60)),
]


@pytest.mark.parametrize(("text", "value"), SAID)
def test_a_text_says_its_words_and_numbers(text: str, value: Any) -> None:
    assert Words([text]).holds(value)


@pytest.mark.parametrize(("text", "value"), NOT_SAID)
def test_a_text_says_nothing_else(text: str, value: Any) -> None:
    assert not Words([text]).holds(value)


# --- the rule, read naively -----------------------------------------------------------------------------------------------------

TEXTS = st.text(alphabet="ab1 \n.,'s()\"@-/$", max_size=24)
LETTERS = st.characters(categories=["L", "N"])
NAIVE_BEFORE, NAIVE_AFTER = re.compile(r"(?<!\S)[(\"']*$"), re.compile(r"(?:'s|[.,)\"'])*(?!\S)")


def says(text: str, value: str) -> bool:
    """A naive reading: try every position."""
    spots = [at for at in range(len(text)) if text.startswith(value, at)]
    return any(NAIVE_BEFORE.search(text[:at]) and NAIVE_AFTER.match(text, at + len(value)) for at in spots)


@settings(max_examples=500)
@given(TEXTS, st.data())
def test_whole_words_only(text: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(text)))
    value = text[first : data.draw(st.integers(first, len(text)))].strip()
    if Words([text]).holds(value):
        amounts = [f"${value}", f"{value}$"] if value.startswith("1") else []
        assert any(says(read, said) for read in (text, " ".join(text.split())) for said in (value, *amounts))


@given(TEXTS, st.data())
def test_every_run_of_tokens_with_a_letter_is_said(text: str, data: st.DataObject) -> None:
    tokens = text.split()
    first = data.draw(st.integers(0, len(tokens)))
    run = " ".join(tokens[first : data.draw(st.integers(first, len(tokens)))])
    assert Words([text]).holds(run) == any(char.isalnum() for char in run)


@given(st.text(LETTERS, min_size=1, max_size=12), st.text(LETTERS, min_size=1, max_size=3))
def test_what_is_glued_to_a_word_is_another_word(word: str, more: str) -> None:
    text = f"x a{word} y"
    assert not Words([text]).holds(f"a{word}{more}b")
    assert not Words([f"x a{word}{more}b y"]).holds(f"{word}{more}")


def test_characters_that_are_not_seen_are_never_said() -> None:
    hidden = [
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    ]
    values = [f"a{char}b" for char in hidden if not char.isspace()]
    assert len(values) > 1_000
    for start in range(0, len(values), 10_000):
        part = values[start : start + 10_000]
        words = Words([" ".join(part[at : at + 5_000]) for at in range(0, len(part), 5_000)])
        assert not [value for value in part if words.holds(value)]


def test_no_character_passes_for_an_ascii_one() -> None:
    twins = [char for char in map(chr, range(0x80, 0x30000)) if unicodedata.normalize("NFC", char).isascii()]
    assert "\u212a" in twins
    for char in twins:
        plain = f"a{unicodedata.normalize('NFC', char)}b"
        assert Words([plain]).holds(plain)
        assert not Words([plain]).holds(f"a{char}b")


# --- numbers ------------------------------------------------------------------------------------------------------------------


@given(st.integers(-(2**53), 2**53))
def test_a_number_is_the_same_whatever_its_type(number: int) -> None:
    keys = {
        number_key(number),
        number_key(float(number)),
        number_key(Decimal(number)),
        number_key(Decimal(number) + Decimal("0.00")),
    }
    assert keys == {str(number)}


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_two_floats_have_one_key_exactly_when_they_are_equal(one: float, other: float) -> None:
    if all(text is not None for text in (number_key(one), number_key(other))):
        assert (number_key(one) == number_key(other)) is (one == other)
    assert number_key(one) == number_key(Decimal(repr(one)))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=0, max_value=10**9))
def test_a_decimal_that_is_written_is_said(number: Decimal) -> None:
    assert Words([f"pay {number}."]).holds(float(number))
    assert Words([f"pay ${number:,} now"]).holds(number)
    assert not Words([f"pay {number}."]).holds(number + Decimal("0.01"))


# --- bounds -------------------------------------------------------------------------------------------------------------------


def test_a_word_that_the_cut_would_shorten_is_left_out() -> None:
    text = "x " * (WORDS_TEXT_CHARS_MAX // 2 - 3) + "alice@evil.example bob"
    assert text[:WORDS_TEXT_CHARS_MAX].endswith(" alice@")
    words = Words([text])
    assert words.holds("x")
    assert not words.holds("alice@")
    assert not words.holds("alice")
    assert not words.holds("bob")
    assert not Words(["a" * (WORDS_TEXT_CHARS_MAX + 1)]).holds("a" * WORDS_TEXT_CHARS_MAX)


def test_the_oldest_texts_are_forgotten_first() -> None:
    words = Words(["first 1 word"])
    assert words.holds("first")
    words.add("x " * (WORDS_TEXT_CHARS_MAX // 2))
    assert words.holds("first 1")
    words.add("y 1 " * (WORDS_TEXT_CHARS_MAX // 4 - 64))
    assert not words.holds("first")
    assert words.holds("y")
    assert words.holds(1)


def test_texts_nobody_asked_about_are_bounded_too() -> None:
    words = Words()
    for number in range(WORDS_CHARS_MAX // 256 + 500):
        words.add(f"w{number}")
    assert not words.holds("w499")
    assert words.holds(f"w{WORDS_CHARS_MAX // 256 + 499}")
    assert len(words._texts) < WORDS_CHARS_MAX // 256
    words.add("x " * (WORDS_TEXT_CHARS_MAX // 2))
    words.add("y " * (WORDS_TEXT_CHARS_MAX // 2 - 256))
    assert not words.holds(f"w{WORDS_CHARS_MAX // 256 + 499}")


def test_a_run_that_often_begins_inside_a_word_is_given_up() -> None:
    text = "xa b " * 100 + "a b"
    assert Words([f"{text} b a"]).holds("b a")
    assert not Words([f"a {text}"]).holds("a b")


def test_a_token_of_nothing_but_marks_is_read_in_bounded_time() -> None:
    words = Words(["(" * 100_000 + "a" + ")" * 100_000, "'s" * 100_000, "a" + "'s" * 9 + "@evil"])
    assert not words.holds("a")
