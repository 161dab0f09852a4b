"""Builders of what the shell shows."""

from __future__ import annotations

from typing import Any

from agentos.abi.values import Event, Exit, ProcessInfo
from agentos.kernel.ask import Ask


def process(pid: int, ppid: int = 0, *, tree: int = 1, **changed: Any) -> ProcessInfo:
    columns: dict[str, Any] = {
        "pid": pid, "ppid": ppid, "name": "", "image": "job:1", "digest": "d", "state": "running", "waiting_on": (), "goal": None,
        "usage": {"calls": 2.0}, "budget": {}, "created": 100.0, "exit": None, "tree": tree,
    }  # fmt: skip
    return ProcessInfo(**{**columns, **changed})


def ended(pid: int, ppid: int = 0) -> ProcessInfo:
    return process(pid, ppid, state="exited", exit=Exit("exited", 1))


def ask(**changed: Any) -> Ask:
    columns: dict[str, Any] = {
        "id": 3, "kind": "approval", "pid": 4, "op": "fs.write", "args": {"path": "/a.md", "text": "hi"}, "preview": None, "digest": "",
        "rule": "policies/job.policy:7", "because": "someone looks", "labels": [], "lineage": ["4 job:1", "1 base:1"], "created": 0.0,
        "expires": None, "state": "pending", "rule_name": "write-it",
    }  # fmt: skip
    return Ask(**{**columns, **changed})


def event(seq: int, kind: str, pid: int, **data: Any) -> Event:
    return Event(seq, kind, pid, 100.0 + seq, data)
