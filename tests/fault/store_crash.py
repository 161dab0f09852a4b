"""A writer that is killed at its n-th statement, for every n. Run by `test_store_crash` in a process of its own.

For each n the store in FOLDER/base is copied, a child opens the copy, works, and dies by SIGKILL just before its n-th statement. Prints
``n acknowledged`` per child, and ends with the first n that the child outlived.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

import anyio

from agentos.abi.records import ProcessRecord
from agentos.store import Store
from agentos.store.sqlite import Connection
from tests.room.store.builders import change, file_store, intent, row, spawned

PROCESSES = 3
TURNS = 4


async def work(store: Store, acknowledged: int) -> None:
    """Append in several batches and write each acknowledged number to the file descriptor."""
    processes = [spawned(store, 10 + number) for number in range(PROCESSES)]
    for turn in range(TURNS):
        for process in processes:
            process.state = f"turn {turn}"
            store.journal.append(intent(process.pid, args=bytes([turn]) * 3_000), [change(process)])
        await store.journal.durable(store.journal.head)
        os.write(acknowledged, f"{store.journal.head}\n".encode())
        store.journal.append(row())


def killed_at(number: int) -> None:
    """Kill this process before its statement `number`."""
    execute, count = Connection.execute, itertools.count(1)

    def counted(*args: object) -> object:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*args)

    Connection.execute = counted


def child(folder: Path, number: int, acknowledged: int) -> None:
    """Work until the end or the kill."""
    killed_at(number)
    with file_store(folder, durability="strict") as store:
        anyio.run(work, store, acknowledged)


def run_one(folder: Path, number: int) -> tuple[bool, int]:
    """Return whether the child outlived its work, and the last number it acknowledged."""
    shutil.copytree(folder / "base", folder / str(number))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(folder / str(number), number, write)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        told = lines.read().split()
    _, status = os.waitpid(pid, 0)
    return os.WIFEXITED(status), int(told[-1]) if told else 0


def main(folder: Path) -> None:
    """Kill at every statement, until there is none left."""
    with file_store(folder / "base") as store:
        spawned(store, 1)
        assert store.get(ProcessRecord, 1) is not None
    for number in itertools.count(1):
        outlived, acknowledged = run_one(folder, number)
        sys.stdout.write(f"{number} {acknowledged}\n")
        if outlived:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
