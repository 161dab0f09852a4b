"""Reproduce the incident whose logs lie in `incident/logs`: real PostgreSQL 15, real nginx, real faults, on loopback.

    sudo apt-get install postgresql-15 nginx-light python3-psycopg2
    sudo /usr/bin/python3 demos/make_incident.py OUTPUT_FOLDER        # about three minutes

The script re-executes itself in its own mount, PID, network, IPC and UTS namespaces, with empty file systems over the
folders it uses. So nothing of the host is touched, no port can clash, paths in the logs are those of any Debian server,
and everything ends with the script. The tests do not run it; they read the logs that it wrote.

Faults, with the second they are injected (what really happened goes to `injected.json`, the answer key):

      0  normal traffic, with the noise of every shop: unknown products, an unreadable order (14 s), a deadlock (26 s)
    ~50  the ledger's day-end run fills the volume of the `audit` tablespace: PostgreSQL cannot extend files
         fallout: orders retry inside open transactions, wait for each other's locks, use all connections up
    110  the on-call engineer ends the ledger's backend with `kill -9`: PostgreSQL restarts and recovers, services lose it
    135  the volume is made larger: everything heals
    160  the customers go home, the logs are copied, everything is killed with its namespace
"""

# ruff: noqa: S603, S607 - a stage script: it starts the programs of its Debian packages by their names
from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BIN = Path("/usr/lib/postgresql/15/bin")
DATA, AUDIT, LOGS, RUN = Path("/var/lib/postgresql/15/main"), Path("/srv/audit"), Path("/var/log/shop"), Path("/run/shop")
AUDIT_SIZE, AUDIT_SIZE_AFTER = "48m", "512m"
log = logging.getLogger("make_incident")

POSTGRES_CONF = f"""
listen_addresses = '127.0.0.1'
unix_socket_directories = '{RUN}'
max_connections = 14
superuser_reserved_connections = 3
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d/%a '
log_timezone = 'UTC'
log_checkpoints = on
log_lock_waits = on
log_min_duration_statement = 1500
deadlock_timeout = 400ms
autovacuum = off
fsync = on
restart_after_crash = on
"""

NGINX_CONF = f"""
user www-data;
worker_processes 1;
pid {RUN}/nginx.pid;
error_log {LOGS}/nginx-error.log warn;
events {{ worker_connections 256; }}
http {{
    log_format shop '$remote_addr - - [$time_local] "$request" $status $body_bytes_sent "-" "$http_user_agent" '
                    'rt=$request_time upstream=$upstream_status';
    access_log {LOGS}/nginx-access.log shop;
    client_body_temp_path {RUN}/body;
    proxy_temp_path {RUN}/proxy;
    fastcgi_temp_path {RUN}/fastcgi;
    uwsgi_temp_path {RUN}/uwsgi;
    scgi_temp_path {RUN}/scgi;
    proxy_connect_timeout 2s;
    proxy_read_timeout 5s;
    proxy_next_upstream off;
    upstream orders {{ server 127.0.0.1:9001 max_fails=0; }}
    upstream catalog {{ server 127.0.0.1:9002 max_fails=0; }}
    server {{
        listen 127.0.0.1:8080;
        location = /orders/healthz {{ proxy_pass http://orders/healthz; }}
        location /orders {{ proxy_pass http://orders; }}
        location /catalog {{ proxy_pass http://catalog; }}
    }}
}}
"""

SCHEMA = f"""
CREATE ROLE shop LOGIN PASSWORD 'not-a-real-password';
CREATE DATABASE shop OWNER shop;
CREATE TABLESPACE audit OWNER shop LOCATION '{AUDIT}';
\\connect shop
SET ROLE shop;
CREATE TABLE product (id int PRIMARY KEY, name text);
INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 200) n;
CREATE TABLE stock (product int PRIMARY KEY, left_over int);
INSERT INTO stock SELECT n, 1000000 FROM generate_series(1, 200) n;
CREATE TABLE orders (id serial PRIMARY KEY, basket int[]);
CREATE TABLE audit_trail (what text, proof bytea) TABLESPACE audit;
ALTER TABLE audit_trail ALTER proof SET STORAGE PLAIN;
CREATE TABLE ledger_page (entry bytea) TABLESPACE audit;
ALTER TABLE ledger_page ALTER entry SET STORAGE PLAIN;
"""  # noqa: S608 - the only variable is a constant above


class Stage:
    """The shop, its servers and the faults. `injected` is the answer key, filled as the faults happen."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.injected: list[dict[str, Any]] = []
        self.services: dict[str, subprocess.Popen[bytes]] = {}

    def note(self, component: str, what: str) -> None:
        """Add a fault to the answer key, with the time of now."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")  # noqa: TID251 - the real time is the point
        log.info("%s %s: %s", at, component, what)
        self.injected.append({"at": at, "component": component, "what": what})

    def until(self, second: float) -> None:
        """Keep services running until `second` of the incident, as a supervisor does: restarted 3 s after they end."""
        while (left := self.began + second - time.monotonic()) > 0:
            for name, process in self.services.items():
                if process.poll() is not None:
                    time.sleep(3)
                    self.start(name)
            time.sleep(min(0.5, left))

    def start(self, name: str) -> None:
        """Start one of the shop's programs; what it prints goes to its log, as under systemd with append."""
        with (Path(os.devnull) if name == "traffic" else LOGS / f"{name}.log").open("ab") as out:
            command = ["/usr/bin/python3", str(RUN / "incident_shop.py"), name]
            self.services[name] = subprocess.Popen(command, stdout=out, stderr=out, cwd=RUN)


def as_postgres(*command: str, text: str | None = None) -> str:
    """Run a PostgreSQL program as its own user; the server refuses root."""
    done = subprocess.run(
        ["runuser", "-u", "postgres", "--", *command], input=text, text=True, check=True, capture_output=True, cwd="/"
    )
    return done.stdout


def sql(text: str, database: str = "postgres") -> str:
    """Run statements as superuser; three connections are reserved for that."""
    return as_postgres(f"{BIN}/psql", "-h", str(RUN), "-qtAX", "-v", "ON_ERROR_STOP=1", database, text=text)


def set_scene() -> None:
    """Empty file systems, loopback, PostgreSQL and nginx."""
    socket.sethostname("shop")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for folder, size in ((Path("/var/lib/postgresql"), "1g"), (Path("/srv"), "1m"), (RUN, "16m"), (Path("/var/log"), "64m")):
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)], check=True)
    for folder in (DATA, AUDIT, LOGS):
        folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={AUDIT_SIZE}", "tmpfs", str(AUDIT)], check=True)
    for folder in (DATA, AUDIT, RUN):
        shutil.chown(folder, "postgres", "postgres")
    DATA.chmod(0o700)
    shutil.copy(HERE / "incident_shop.py", RUN)
    (LOGS / "db.env").write_text("DATABASE_URL=postgresql://shop:not-a-real-password@127.0.0.1:5432/shop\n")
    as_postgres(f"{BIN}/initdb", "-D", str(DATA), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
    (DATA / "postgresql.auto.conf").write_text(POSTGRES_CONF)
    (LOGS / "postgresql.log").touch()
    shutil.chown(LOGS / "postgresql.log", "postgres")
    as_postgres(f"{BIN}/pg_ctl", "-D", str(DATA), "-l", str(LOGS / "postgresql.log"), "-w", "start")
    sql(SCHEMA)
    (RUN / "nginx.conf").write_text(NGINX_CONF)
    subprocess.run(["nginx", "-c", str(RUN / "nginx.conf"), "-e", str(LOGS / "nginx-error.log")], check=True)


def play() -> list[dict[str, Any]]:
    """Run the shop, inject the faults, return the answer key."""
    stage = Stage()
    for name in ("orders", "catalog", "ledger", "healthd", "traffic"):
        stage.start(name)
    free_before = shutil.disk_usage(AUDIT).free
    while shutil.disk_usage(AUDIT).free > 64 * 1024 and time.monotonic() < stage.began + 100:
        stage.until(time.monotonic() - stage.began + 0.05)
    stage.note("postgresql", f"the volume of tablespace audit is full ({free_before // 2**20} MiB were free at the start)")
    stage.until(110)
    backend = int(sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'ledger'").split()[0])
    os.kill(backend, signal.SIGKILL)
    stage.note("postgresql", f"kill -9 of backend {backend}")
    stage.until(135)
    subprocess.run(["mount", "-o", f"remount,size={AUDIT_SIZE_AFTER}", str(AUDIT)], check=True)
    stage.note("postgresql", "the volume is larger now")
    stage.until(160)
    stage.services["traffic"].kill()
    time.sleep(8)
    return stage.injected


def main() -> None:
    """Enter the namespaces, play, and copy the logs out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if os.environ.get("INCIDENT_STAGE") != "inside":
        output = Path(sys.argv[1]).resolve()
        output.mkdir(parents=True, exist_ok=True)
        enter = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--mount-proc", "--kill-child"]
        environment = {"PATH": os.environ["PATH"], "INCIDENT_STAGE": "inside", "TZ": "UTC", "LANG": "C.UTF-8"}
        sys.exit(subprocess.run([*enter, sys.executable, __file__, str(output)], env=environment, check=False).returncode)
    set_scene()
    injected = play()
    output = Path(sys.argv[1])
    (output / "logs").mkdir(exist_ok=True)
    for file in sorted(LOGS.iterdir()):
        shutil.copyfile(file, output / "logs" / file.name)
    (output / "injected.json").write_text(json.dumps(injected, indent=2) + "\n")


if __name__ == "__main__":
    main()
