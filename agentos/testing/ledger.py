"""Ledger: a device whose only effect is a line in a file, for tests that ask "did it happen, and how often?".

One op per effect class, each with ``value``, ``delay_s`` and ``fail``:

    ledger.pure         rerun freely                        ledger.keyed        deduplicated by ctx.key, as a bank would
    ledger.repeatable   harmless to repeat                  ledger.probeable    reconcile looks into the ledger
    ledger.once         never repeated by itself

A `local` op cannot exist on an app's device, for its effect is the store's; test that class with `obj.put` or `msg.send`.
Every execution appends ``{op, value, key, attempt, pid, when}`` and fsyncs before it returns, so the file is the truth after SIGKILL:
the parent reads it with `Ledger.read`. `when` counts the lines from 1.

Crash points: ``ledger.OP.before`` and ``ledger.OP.after`` around the effect (see `agentos.testing.crash`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from agentos.abi.probe import reached
from agentos.abi.syscall import NOT_STARTED
from agentos.devices.app import Call, Device
from agentos.testing.crash import ensure

__all__ = ["Ledger", "LedgerRefused"]


class LedgerRefused(Exception):
    """What an op with ``fail=True`` raises before its effect."""


class Ledger:
    """An append-only file of effects and the device that writes it. Several processes may share the file.

    Args:
        path: The file; made when missing, continued when there. A line that a kill cut is removed.

    INVARIANT effect-is-a-line: an op has happened exactly when its line is in the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._locked() as fd:
            _repair(fd)
        self.device = self._make_device()
        ensure()

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """Return every effect in the order it happened; a line that a kill cut is none. A missing file has no effects."""
        file = Path(path)
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every effect so far."""
        return self.read(self.path)

    async def _perform(self, op: str, ctx: Call, value: str, delay_s: float, fail: bool) -> dict[str, Any]:
        if delay_s:
            await anyio.sleep(delay_s)
        if fail:
            raise LedgerRefused(f"`{value}` was told to fail")
        reached(f"ledger.{op}.before")
        result = self._append(op, ctx, value)
        reached(f"ledger.{op}.after")
        return result

    def _append(self, op: str, ctx: Call, value: str) -> dict[str, Any]:
        with self._locked() as fd:
            entries = self.entries
            if op == "keyed" and (earlier := self._find(entries, op, ctx)) is not None:
                return earlier
            entry = {
                "op": op, "value": value, "key": ctx.key, "attempt": ctx.attempt, "pid": ctx.pid, "when": len(entries) + 1,
            }  # fmt: skip
            os.write(fd, (json.dumps(entry) + "\n").encode())
            os.fsync(fd)
        return _result(entry)

    def _find(self, entries: list[dict[str, Any]], op: str, ctx: Call) -> dict[str, Any] | None:
        for entry in entries:
            if entry["op"] == op and entry["key"] == ctx.key:
                return _result(entry)
        return None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _make_device(self) -> Device:
        device = Device("ledger")
        for effect in ("pure", "repeatable", "keyed", "probeable", "once"):
            op = device.op(effect=effect, name=effect)(self._function(effect))
            if effect == "probeable":
                op.reconcile(self._probe)
        return device

    def _function(self, effect: str) -> Any:
        async def perform(ctx: Call, value: str, delay_s: float = 0.0, fail: bool = False) -> dict[str, Any]:
            return await self._perform(effect, ctx, value, delay_s, fail)

        perform.__doc__ = f"Append one line of the effect class {effect}: `{{value, when}}`."
        return perform

    async def _probe(self, ctx: Call, value: str, delay_s: float = 0.0, fail: bool = False) -> Any:
        del value, delay_s, fail
        earlier = self._find(self.entries, "probeable", ctx)
        return NOT_STARTED if earlier is None else earlier


def _result(entry: dict[str, Any]) -> dict[str, Any]:
    return {"value": entry["value"], "when": entry["when"]}


def _repair(fd: int) -> None:
    """Cut a last line without its newline: the write that a kill interrupted never happened."""
    size = os.fstat(fd).st_size
    whole = os.pread(fd, size, 0).rfind(b"\n") + 1
    if whole < size:
        os.ftruncate(fd, whole)
        os.fsync(fd)
