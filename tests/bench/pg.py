"""PostgreSQL for benches: a server that is there (``AGENTOS_TEST_POSTGRES``) or one of our own, stores in it, and its raw floor.

The server has its usual settings: fsync and synchronous_commit are on, so what it has committed survives a power cut. On a server that is
not our own the schemas and databases of a run are left behind.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bench.harness import PAYLOAD, Raw, Spent

__all__ = ["database_of", "raw_rate", "schema_of", "server"]


@contextmanager
def server() -> Iterator[str]:
    """Give the address of a server, or an empty text where there is none."""
    given = os.environ.get("AGENTOS_TEST_POSTGRES", "")
    if given or find_spec("psycopg") is None:
        yield given
        return
    from tests import postgres

    try:
        own = postgres.started(fsync="on")
    except pytest.skip.Exception:
        yield ""
        return
    try:
        yield own.address
    finally:
        postgres.removed(own)


def schema_of(address: str, folder: Path) -> str:
    """Return the address of a store that belongs to `folder`: a schema, made if it is missing."""
    import psycopg

    name = _name(folder)
    with psycopg.connect(address, autocommit=True) as raw:
        raw.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
    return f"{address}?options=-csearch_path%3D{name}"


def database_of(address: str, folder: Path) -> str:
    """Return the address of a database that belongs to `folder`; whoever uses it makes it."""
    return urlsplit(address)._replace(path=f"/{_name(folder)}").geturl()


def _name(folder: Path) -> str:
    return f"bench_{zlib.crc32(str(folder).encode()):08x}"


def raw_rate(address: str, seconds: float, busy_s: Callable[[], float] = float) -> Raw:
    """Measure single commits of plain psycopg: what the server gives to one who waits for every row."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as raw:
        raw.execute("CREATE TABLE IF NOT EXISTS raw (a bigserial PRIMARY KEY, b bytea)")
        count, spent = 0, Spent(busy_s)
        with spent:
            while not count or spent.so_far_s < seconds:
                raw.execute("INSERT INTO raw (b) VALUES (%s)", (PAYLOAD,))
                count += 1
    return Raw(count / spent.wall_s, spent.cpu_s / count * 1e6)
