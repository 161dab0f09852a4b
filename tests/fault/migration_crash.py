"""An opening of an old store that is killed at its n-th statement, for every n or one in STEP. Run by `test_migration_crash`.

For each n the old store is unpacked to FOLDER/n, a child opens it for writing and dies by SIGKILL just before its n-th statement, or just
after it where n is negative. Prints one n a line and ends with the first that the child outlived.
"""

from __future__ import annotations

import gzip
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from agentos.store.sqlite import Connection
from tests.room.store.builders import file_store


def killed_at(number: int, *, after: bool) -> None:
    """Kill this process at its statement `number`; pages that are changed go to the file at once, as if memory were short."""
    execute, count = Connection.execute, itertools.count(1)

    def counted(connection: Connection, *args: Any) -> Any:
        at = next(count)
        if at == 1:
            execute(connection, "PRAGMA cache_size = 1")
        if at == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = execute(connection, *args)
        if at == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Connection.execute = counted  # type: ignore[method-assign]


def outlives(folder: Path, packed: Path, number: int, *, after: bool) -> bool:
    """Open the old store in a child that is killed; say whether it came to its end."""
    folder.mkdir()
    (folder / "store.db").write_bytes(gzip.decompress(packed.read_bytes()))
    pid = os.fork()
    if pid == 0:
        killed_at(number, after=after)
        file_store(folder, durability="strict").close()
        os._exit(0)
    return os.WIFEXITED(os.waitpid(pid, 0)[1])


def main(folder: Path, packed: Path, step: int) -> None:
    """Kill before and after one statement in `step`, until there is none left."""
    for number in itertools.count(1, step):
        ended = outlives(folder / str(-number), packed, number, after=True)
        ended &= outlives(folder / str(number), packed, number, after=False)
        sys.stdout.write(f"{-number}\n{number}\n")
        if ended:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
