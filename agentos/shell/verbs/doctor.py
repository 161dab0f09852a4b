"""doctor: is this machine, and this store, in order? Every line is looked up, none is assumed."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agentos.errors import AgentOSError
from agentos.runtime.places import control_path, state_folder
from agentos.shell import status
from agentos.shell.context import Shell
from agentos.shell.output import Page
from agentos.store.inspect import Finding

__all__ = ["doctor"]

_LANDLOCK_CREATE_RULESET: Final = 444  # the same number on every architecture
_LANDLOCK_VERSION: Final = 1
_EXTRAS: Final = {"semantic": "chromadb", "mcp": "mcp", "web": "starlette", "postgres": "psycopg", "otel": "opentelemetry"}


async def doctor(
    shell: Shell,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what follows from the rest of the store.")] = False,
) -> int:
    """Say whether this machine and this store are in order, and what to do where they are not. Status 1 when something is bad."""
    machine = [_python(), _system(), _openat2(), _landlock(), _deno(), *_extras(), *_paths(shell)]
    findings = [*machine, *await _store(shell, repair=repair)]
    columns: list[tuple[str, Any]] = [
        ("what", lambda each: each.what), ("state", lambda each: each.state), ("detail", lambda each: each.detail),
        ("what to do", lambda each: each.remedy),
    ]  # fmt: skip
    shell.output.emit(Page(findings, columns, name=lambda each: f"{each.what}={each.state}"))
    return status.ERROR if any(each.state == "bad" for each in findings) else status.OK


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "bad", f"{platform.python_version()} at {sys.executable}")


def _system() -> Finding:
    linux = sys.platform == "linux"
    return Finding("system", "ok" if linux else "missing", f"{platform.system()} {platform.release()} {platform.machine()}")


def _openat2() -> Finding:
    from agentos.devices.fs.openat import require  # noqa: PLC0415 - loads the C library

    try:
        require()
    except AgentOSError as error:
        return Finding("openat2", "bad", error.message)
    return Finding("openat2", "ok", "paths are confined by the system itself")


def _landlock() -> Finding:
    if sys.platform != "linux":
        return Finding("landlock", "missing", "Linux only: no commands in a sandbox")
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION)))
    if found < 0:
        return Finding("landlock", "missing", os.strerror(ctypes.get_errno()).lower())
    return Finding("landlock", "ok", f"ABI {found}")


def _deno() -> Finding:
    beside = Path(sys.executable).with_name("deno")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("deno")
    try:
        package = f"package {version('deno')}"
    except PackageNotFoundError:
        package = "package not installed"
    return Finding("deno", "ok" if found else "missing", f"{found or 'no binary found'}, {package}")


def _extras() -> list[Finding]:
    found = [name for name, module in _EXTRAS.items() if find_spec(module) is not None]
    return [Finding("extras", "ok", ", ".join(found) or "none installed")]


def _paths(shell: Shell) -> list[Finding]:
    folder = state_folder()
    if not folder.exists():
        return [Finding("state", "ok", f"{folder}, not made yet")]
    mode = folder.stat().st_mode & 0o777
    safe = folder.stat().st_uid == os.getuid() and not mode & 0o022
    return [
        Finding(
            "state", "ok" if safe else "bad", f"{folder}, mode {mode:o}" + ("" if safe else ": others can write; chmod 700")
        ),
        Finding("workspace", "ok" if shell.workspace.is_dir() else "bad", str(shell.workspace.resolve())),
    ]


async def _store(shell: Shell, *, repair: bool) -> list[Finding]:
    if isinstance(shell.store, Path) and not shell.store.is_file():
        return [Finding("store", "ok" if not shell.store_given else "bad", f"{shell.store}, not made yet")]
    try:
        async with shell.changing() if repair else shell.looking() as kernel:
            host = shell.host_of(kernel)
            findings = await kernel.inspect(repair=repair)
            infos = await kernel.ps()
            asks = len(await kernel.asks())
    except AgentOSError as error:
        return [Finding("store", "bad", f"{shell.store}: {error.message}")]
    size = f", {shell.store.stat().st_size:,} bytes" if isinstance(shell.store, Path) else ""
    return [
        Finding("store", "ok", f"{shell.store}{size}, {len(infos)} live processes, {asks} pending asks"),
        *findings,
        *[
            Finding(
                "process", "bad", f"{info.pid} was set aside, it ended its kernel each time it ran: agentos status {info.pid}"
            )
            for info in infos
            if "poison" in info.waiting_on
        ],
        Finding("kernel", "ok", _kernel(shell, host)),
    ]


def _kernel(shell: Shell, host: str | None) -> str:
    if host is None:
        return "none runs"
    return f"running on {host}" if host else f"running, socket {control_path(shell.store)}"
