"""Provenance: noting results and asking where a value comes from, beside a plain dict that does as many inserts and lookups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from agentos.abi.limits import PROVENANCE_LEAVES_MAX, RESULT_LEAVES_MAX, WORDS_TEXT_CHARS_MAX
from agentos.kernel.provenance import Provenance
from agentos.kernel.tokens import Words
from tests.bench.harness import Size, Spent, Table, each_us

__all__ = ["run"]

_WORDS = "Please pay Bob's rent ($1,200) from the 'home' account, then write (politely) to alice@x.example about invoice 17. "


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield lookups, then noting, then reading words."""
    yield _asking(size)
    yield _noting(size)
    yield _reading(size)


def _public(op: str, path: str) -> int:
    return 0


def _mails(count: int, number: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{number}-{at}",
            "from": f"u{at}@m{number}.example",
            "subject": f"letter {number}/{at}",
            "size": number + at / 8,
        }
        for at in range(count // 4)
    ]


def _asking(size: Size) -> Table:
    table = Table("origin of an argument, a full index and 10 kB of the user's words", ("argument", "ns", "x dict lookup"))
    index = Provenance()
    for number in range(size.of(PROVENANCE_LEAVES_MAX) // RESULT_LEAVES_MAX + 1):
        index.note_result("mail.list", _mails(RESULT_LEAVES_MAX, number), seq=number)
    index.prompt.add(_WORDS * (10_000 // len(_WORDS)))
    sender = "u7@m0.example"
    plain = {sender: 0}
    floor = each_us(lambda: plain.get(sender), size.of(200_000))
    arguments = {
        "a field": sender, "a number that is a field": 0.875, "a word of the user": "alice@x.example", "a number of the user": 1200,
        "five words of the user": "rent ($1,200) from the 'home'", "nothing known": "eve@evil.example",
        "a list of ten fields": [sender] * 10, "a text of 10 kB, not known": "x " * 5_000,
    }  # fmt: skip
    for name, value in arguments.items():
        spent = each_us(partial(index.origin, value, _public, 0), size.of(20_000))
        table.add(name, f"{spent * 1000:.0f}", f"{spent / floor:.0f}" if floor else "-")
    return table


def _noting(size: Size) -> Table:
    table = Table("noting results", ("results", "fields", "ms", "ns a field", "x dict insert"))
    leaves = size.of(RESULT_LEAVES_MAX)
    text = "a line of a file\n" * (size.of(1_000_000) // 17 + 8)
    shapes = {
        "one of small fields": [_mails(leaves + 3)], "the same again and again": [_mails(leaves + 3)] * 8,
        "more than the index keeps": [_mails(leaves + 3, number) for number in range(20)], "one text of 1 MB": [[text]],
    }  # fmt: skip
    for name, results in shapes.items():
        spent = min(_once(partial(_note, results)) for _ in range(size.rounds + 1))
        fields = sum(
            min(RESULT_LEAVES_MAX, sum(len(row) if isinstance(row, dict) else 1 for row in result)) for result in results
        )
        floor = min(_once(partial(_insert, results)) for _ in range(size.rounds + 1))
        table.add(
            name, f"{fields}", f"{spent * 1e3:.2f}", f"{spent / fields * 1e9:.0f}", f"{spent / floor:.1f}" if floor else "-"
        )
    return table


def _note(results: list[Any]) -> None:
    index = Provenance()
    for number, result in enumerate(results):
        index.note_result("mail.list", result, seq=number)


def _insert(results: list[Any]) -> None:
    plain: dict[Any, str] = {}
    for result in results:
        for row in result:
            plain.update((value, name) for name, value in (row.items() if isinstance(row, dict) else [("", row)]))


def _reading(size: Size) -> Table:
    table = Table("reading words, once, when somebody first asks", ("text", "ms"))
    for name, chars in {"10 kB": 10_000, "as long as is read": WORDS_TEXT_CHARS_MAX}.items():
        prose = _WORDS * (size.of(chars) // len(_WORDS) + 1)
        table.add(f"{name} of prose", f"{_once(partial(_read, prose)) * 1e3:.2f}")
        listed = " ".join(f"'item-{at}'," for at in range(size.of(chars) // 14))
        table.add(f"{name}, no word twice", f"{_once(partial(_read, listed)) * 1e3:.2f}")
    return table


def _read(text: str) -> None:
    assert not Words([text]).holds("eve")


def _once(work: Callable[[], None]) -> float:
    with Spent() as spent:
        work()
    return spent.cpu_s
