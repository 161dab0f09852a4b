"""The small shop whose logs the triage demo reads: four programs that talk to PostgreSQL and nginx, and log as such programs do.

    orders    POST /orders   json lines   books an order and an audit row in one transaction, retries on errors
    catalog   GET /catalog/N json lines   a pool of connections; ends when the database goes away (a supervisor restarts it)
    ledger                   text         writes the day's ledger in bulk, into the volume that the audit rows live on
    healthd                  syslog       asks nginx every two seconds how the services are
    traffic                  no log       the customers

Started by `make_incident.py` inside its own namespaces. Not part of agentos: plain programs with their usual flaws (the
orders service keeps its transaction open while it waits for a retry, the catalog ends on a lost connection).
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psycopg2
import psycopg2.errors

LOGS = Path("/var/log/shop")
SITE = ("127.0.0.1", 8080)
RETRIES = 4
log = logging.getLogger("shop")


class JsonLines(logging.Formatter):
    """One JSON object a line, time in UTC with milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; extra facts come from `record.facts`."""
        at = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{record.msecs:03.0f}Z"
        facts: dict[str, Any] = getattr(record, "facts", {})
        return json.dumps({"time": at, "level": record.levelname, "event": record.getMessage(), **facts})


def log_to(name: str, formatter: logging.Formatter) -> None:
    """Send this program's log to its file."""
    formatter.converter = time.gmtime
    handler = logging.FileHandler(LOGS / f"{name}.log")
    handler.setFormatter(formatter)
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def connect(name: str) -> Any:
    """Open a connection with the credentials from db.env, as every service of the shop does."""
    dsn = (LOGS / "db.env").read_text().split("DATABASE_URL=", 1)[1].splitlines()[0]
    return psycopg2.connect(dsn, application_name=name, connect_timeout=3)


class ShopHandler(BaseHTTPRequestHandler):
    """HTTP side that orders and catalog share: one answer a request, one log line an answer."""

    protocol_version = "HTTP/1.0"
    numbers = itertools.count(1)

    def handle_one(self) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of the answer."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer a GET or a POST."""
        started, request = time.monotonic(), f"{os.getpid()}-{next(self.numbers):05d}"
        status, body = self.handle_one() if self.path != "/healthz" else (200, {"ok": True})
        facts = {"request": request, "path": self.path, "status": status, "ms": round((time.monotonic() - started) * 1e3)}
        log.log(logging.ERROR if status >= 500 else logging.INFO, body.get("error", "answered"), extra={"facts": facts})
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except BrokenPipeError:
            log.warning("client went away before the answer", extra={"facts": {"request": request}})

    do_POST = do_GET  # noqa: N815 - name given by http.server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - signature of http.server
        """Keep http.server's own access log quiet; nginx writes one."""


class Orders(ShopHandler):
    """Books orders."""

    def handle_one(self) -> tuple[int, dict[str, Any]]:
        """Book one order, trying again on database errors."""
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            basket = [int(item) for item in json.loads(raw)["basket"]]
        except (ValueError, KeyError):
            log.exception("order is not readable")
            return 400, {"error": "order is not readable"}
        return self.book(basket)

    def book(self, basket: list[int]) -> tuple[int, dict[str, Any]]:
        """Store the order in one transaction, trying again on database errors; the connection is kept over the retries."""
        connection, reason = None, ""
        for attempt in range(1, RETRIES + 1):
            try:
                connection = connection or connect("orders")
                return 200, {"order": store_order(connection, basket)}
            except psycopg2.Error as error:
                reason = str(error).splitlines()[0]
                level = logging.WARNING if isinstance(error, psycopg2.errors.DeadlockDetected) else logging.ERROR
                log.log(level, "order not stored: %s", reason, extra={"facts": {"attempt": attempt, "of": RETRIES}})
                if not error.pgcode:
                    connection = None
            time.sleep(0.5 * attempt)
        return 500, {"error": f"order given up: {reason}"}


def store_order(connection: Any, basket: list[int]) -> int:
    """Take the items from stock one by one, in the order of the basket, then write the order and its audit row.

    The audit row has a savepoint and two tries of its own: meanwhile the transaction holds its locks on the stock.
    """
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK; BEGIN; SET LOCAL statement_timeout = '2500ms'")
        for item in basket:
            cursor.execute("UPDATE stock SET left_over = left_over - 1 WHERE product = %s", (item,))
            time.sleep(0.02)
        cursor.execute("INSERT INTO orders (basket) VALUES (%s) RETURNING id", (basket,))
        number = int(cursor.fetchone()[0])
        cursor.execute("SAVEPOINT audit")
        row = "INSERT INTO audit_trail SELECT 'order', decode(repeat(md5(%s), 180), 'hex')"
        try:
            cursor.execute(row, (repr(basket),))
        except psycopg2.errors.DiskFull:
            cursor.execute("ROLLBACK TO audit")
            time.sleep(1.2)
            cursor.execute(row, (repr(basket),))
        cursor.execute("COMMIT")
    return number


class Catalog(ShopHandler):
    """Shows products, from a pool of four connections."""

    pool: ClassVar[list[Any]] = []
    free = threading.Semaphore(4)

    def handle_one(self) -> tuple[int, dict[str, Any]]:
        """Look one product up."""
        with self.free:
            connection = self.pool.pop()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT name FROM product WHERE id = %s::int", (self.path.rsplit("/", 1)[1],))
                    found = cursor.fetchone()
            except psycopg2.errors.DataError as error:
                return 400, {"error": str(error).splitlines()[0]}
            except psycopg2.Error:
                log.critical("lost the database, ending", exc_info=True)
                logging.shutdown()
                os._exit(1)
            finally:
                self.pool.append(connection)
        return (200, {"name": found[0]}) if found else (404, {"error": "no such product"})


def serve(port: int, handler: type[ShopHandler], name: str) -> None:
    """Serve on loopback until killed."""
    log_to(name, JsonLines())
    log.info("listening", extra={"facts": {"port": port}})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.serve_forever()


def orders() -> None:
    """Run the orders service."""
    serve(9001, Orders, "orders")


def catalog() -> None:
    """Run the catalog: connect first, end when that fails."""
    for _ in range(4):
        connection = connect("catalog")
        connection.autocommit = True
        Catalog.pool.append(connection)
    serve(9002, Catalog, "catalog")


def ledger() -> None:
    """Write the ledger: a small page every five seconds; from the 50th second on the whole day, again and again until it fits."""
    log_to("ledger", logging.Formatter("%(asctime)s %(levelname)s ledger: %(message)s"))
    connection, began = connect("ledger"), time.monotonic()
    log.info("ledger connected")
    while True:
        day_end = time.monotonic() - began > 50
        pages = 40_000 if day_end else 40
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO ledger_page (entry) SELECT decode(repeat(md5(n::text), 100), 'hex') FROM generate_series(1, %s) n",
                    (pages,),
                )
            log.info("wrote %d ledger pages", pages)
        except psycopg2.errors.DiskFull as error:
            log.error("pages not written, trying again: %s", str(error).splitlines()[0])  # noqa: TRY400 - one line
        time.sleep(3 if day_end else 5)


def healthd() -> None:
    """Ask for the health of each service every two seconds, as a monitor outside would."""
    log_to("healthd", logging.Formatter("%(asctime)s shop healthd[%(process)d]: %(levelname)s %(message)s", "%b %d %H:%M:%S"))
    failing: dict[str, int] = {"orders": 0, "catalog": 0}
    while True:
        for name, path in (("orders", "/orders/healthz"), ("catalog", "/catalog/1")):
            try:
                urllib.request.urlopen(f"http://{SITE[0]}:{SITE[1]}{path}", timeout=3).close()
                if failing[name]:
                    log.info("%s is healthy again after %d failed probes", name, failing[name])
                else:
                    log.info("%s is fine", name)
                failing[name] = 0
            except (urllib.error.URLError, TimeoutError) as error:
                failing[name] += 1
                log.error("%s is unhealthy: %s", name, getattr(error, "reason", error))  # noqa: TRY400 - one line
        time.sleep(2)


def traffic() -> None:
    """Be the customers: eight of them, 1-2 requests a second each, plus the odd ones that every shop has."""
    for number in range(8):
        threading.Thread(target=customer, args=(number,), daemon=True).start()
    time.sleep(14)
    ask(20, "GET", "/catalog/abc")
    ask(20, "POST", "/orders", "not json")
    time.sleep(12)
    pair = [
        threading.Thread(target=ask, args=(30 + n, "POST", "/orders", {"basket": b})) for n, b in enumerate(([1, 2], [2, 1]))
    ]
    for thread in pair:
        thread.start()
    time.sleep(3600)


def customer(number: int) -> None:
    """Browse three products, then order one, with small pauses."""
    chance = random.Random(number)
    for step in itertools.count():
        product = chance.randint(1, 220 if step % 20 == 0 else 200)
        if step % 4 == 3:
            ask(40 + number, "POST", "/orders", {"basket": sorted({chance.randint(1, 6), product % 200 + 1})})
        else:
            ask(40 + number, "GET", f"/catalog/{product}")
        time.sleep(chance.uniform(0.3, 1.1))


def ask(host: int, method: str, path: str, body: Any = None) -> None:
    """Send one request from 127.0.0.`host`; what comes back does not matter to a customer who leaves after six seconds."""
    connection = HTTPConnection(*SITE, timeout=6, source_address=(f"127.0.0.{host}", 0))
    try:
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        connection.request(method, path, data, {"User-Agent": f"shop-app/3.{host % 4}"})
        connection.getresponse().read()
    except OSError:
        log.debug("gave up on %s", path)
    finally:
        connection.close()


if __name__ == "__main__":
    {"orders": orders, "catalog": catalog, "ledger": ledger, "healthd": healthd, "traffic": traffic}[sys.argv[1]]()
