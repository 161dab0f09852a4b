"""A PostgreSQL server for tests: one for the whole session, a schema of its own for each store.

``AGENTOS_TEST_POSTGRES`` names a server to use instead, as an address whose user may create schemas and databases; without it the newest
installed one is started in a temporary folder, without fsync: that is for power cuts, which no test makes, and takes most of the time of
a test. Where there is neither, tests that need one are skipped, and say so.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

_numbers = itertools.count(1)
START_S = 30.0


class Server:
    """A server of our own.

    Attributes:
        address: Of its database ``postgres``.
        process: What runs it.
    """

    def __init__(self, binaries: Path, folder: Path, fsync: str) -> None:
        self._binaries = binaries
        self._fsync = fsync
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        self._data = folder / "data"
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self._port, "unix_socket_directories": self._folder, "fsync": self._fsync,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = (self._folder / "log").open("ab")
        self.process = subprocess.Popen(self._as_user("postgres", "-D", str(self._data), *words), stdout=log, stderr=log)
        log.close()
        end = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.address, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self._folder / "log").read_text()
                assert self.process.poll() is None, (self._folder / "log").read_text()
                time.sleep(0.02)

    def stop(self, sign: int = signal.SIGINT) -> None:
        """Stop it; SIGINT ends its connections, SIGQUIT is a crash of the server."""
        self.process.send_signal(sign)
        self.process.wait(START_S)

    def _run(self, name: str, *words: str) -> None:
        subprocess.run(self._as_user(name, *words), check=True, capture_output=True)

    def _as_user(self, name: str, *words: str) -> list[str]:
        """Return a command line; the server refuses to be root's, and ends with us."""
        command = [str(self._binaries / name), *words]
        whom = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        return ["setpriv", *whom, "--pdeathsig=INT", *command]


def started(fsync: str = "off") -> Server:
    """A new server of our own; skips the test where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql), and AGENTOS_TEST_POSTGRES names no server")
    folder = Path(tempfile.mkdtemp(prefix="agentos-pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    return Server((found[-1] if found else Path(str(on_path))).parent, folder, fsync)


def removed(server: Server) -> None:
    """Stop a server of our own and remove it."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGCONT)
        server.stop()
    shutil.rmtree(server._folder, ignore_errors=True)


def schema_of(address: str) -> str:
    """Make an empty schema and return the address of a store in it."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(address, autocommit=True) as raw:
        raw.execute(f"CREATE SCHEMA {name}")
    return f"{address}?options=-csearch_path%3D{name}"


def database_like(address: str) -> str:
    """Copy the database at `address`, which nobody uses, and return the address of the copy: faster than a schema is filled."""
    server, _, old = address.rpartition("/")
    name = f"d{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as raw:
        raw.execute(f"CREATE DATABASE {name} TEMPLATE {old}")
    return f"{server}/{name}"


def databases_dropped(server: str, made_by: int) -> None:
    """Remove the databases that a process made with `database_like`."""
    with psycopg.connect(f"{server.rpartition('/')[0]}/postgres", autocommit=True) as raw:
        for (name,) in raw.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"d{made_by}\\_%",)).fetchall():
            raw.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dropped(address: str) -> None:
    """Remove the schema of a store; whoever still uses it loses its connection."""
    plain, _, name = address.partition("?options=-csearch_path%3D")
    with psycopg.connect(plain, autocommit=True) as raw:
        raw.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation "
            "WHERE c.relnamespace = %s::regnamespace",
            (name,),
        )
        raw.execute("SET lock_timeout = '10s'")
        raw.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of the session's server."""
    given = os.environ.get("AGENTOS_TEST_POSTGRES")
    if given:
        yield given
        return
    server = started()
    yield server.address
    removed(server)


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes addresses of empty stores."""
    made: list[str] = []

    def make() -> str:
        made.append(schema_of(postgres_server))
        return made[-1]

    yield make
    for address in made:
        dropped(address)
