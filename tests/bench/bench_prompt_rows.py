"""Model calls whose arguments are the whole prompt: bytes and CPU of a row as the conversation gets longer, and of a saved state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from agentos.abi import codec
from agentos.abi.records import Row
from agentos.store import Store
from tests.bench.harness import Size, Spent, Table, store_bytes
from tests.room.store.builders import file_store

__all__ = ["run"]

_WINDOW = 200  # messages of a prompt, at most
_CHARS = 400  # of a message
_READ = 20  # rows that are read again


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield what rows cost, then what packing a growing list does."""
    head = (
        "turns",
        "KB an argument",
        "bytes a row",
        "of them new",
        "CPU us a row",
        "last ten",
        "CPU us a read",
        "verify us a row",
    )
    note = f"a turn is two messages of {_CHARS} characters more, {_WINDOW} at most; one commit a row"
    table = Table("rows whose arguments are a prompt", head, note=note)
    for turns in (10, size.of(1_000), size.of(10_000)):
        table.add(*_rows(folder / f"rows-{turns}", turns))
    yield table
    table = Table("packing a list that grows by one dict of 1 KB", ("elements", "CPU us a step"))
    for elements in (size.of(100), size.of(1_000)):
        table.add(f"{elements}", f"{_step_us(folder / f'list-{elements}', elements):.0f}")
    yield table


def _rows(folder: Path, turns: int) -> list[str]:
    noise = random.Random(1)
    talk: list[dict[str, str]] = []
    spent_s: list[float] = []
    file_store(folder).close()
    empty = store_bytes(folder / "store.db")
    with file_store(folder) as store:
        for _ in range(turns):
            talk = [*talk, _message(noise), _message(noise)][-_WINDOW:]
            args = codec.encode({"messages": [{"role": "system", "content": "s" * 2_000}, *talk], "model": "m"})
            with Spent() as spent:
                store.journal.append(_row(args))
                store.journal.flush()
            spent_s.append(spent.cpu_s)
        rows = min(turns, _READ)
        with Spent() as reading:
            assert store.rows(store.journal.head - rows, rows)[-1].args == args
        with Spent() as checking:
            assert store.verify().ok
    taken = (store_bytes(folder / "store.db") - empty) / turns
    return [
        f"{turns}", f"{len(args) / 1024:.0f}", f"{taken:.0f}", f"{2 * len(codec.encode(talk[-1]))}", f"{median(spent_s) * 1e6:.0f}",
        f"{median(spent_s[-10:]) * 1e6:.0f}", f"{reading.cpu_s / rows * 1e6:.0f}", f"{checking.cpu_s / turns * 1e6:.0f}",
    ]  # fmt: skip


def _row(args: bytes) -> Row:
    return Row(pid=1, number="1", kind="intent", op="llm.complete", args=args)


def _message(noise: random.Random) -> dict[str, str]:
    """A message of words, which shrink as words do."""
    words = (
        noise.choice(("the", "kernel", "writes", "every", "call", "down", "before", "it", "happens")) for _ in range(_CHARS)
    )
    return {"role": "user", "content": f"{noise.randbytes(8).hex()} {' '.join(words)}"[:_CHARS]}


def _step_us(folder: Path, elements: int) -> float:
    """Return the CPU time of packing a list of that many elements and one more, which was packed without it."""
    noise = random.Random(2)
    grown = [{"n": number, "text": noise.randbytes(500).hex()} for number in range(elements)]
    spent_s = []
    with file_store(folder) as store:
        _save(store, grown)
        for number in range(10):
            grown.append({"n": elements + number, "text": noise.randbytes(500).hex()})
            with Spent() as spent:
                _save(store, grown)
            spent_s.append(spent.cpu_s)
    return median(spent_s) * 1e6


def _save(store: Store, grown: list[dict[str, object]]) -> bytes:
    return store.objects.pack({"log": grown, "turn": len(grown)})
