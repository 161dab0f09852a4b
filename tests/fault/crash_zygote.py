"""A warm interpreter that forks one child per kernel: a child costs milliseconds instead of an import of everything.

Run as a module, it reads one JSON request a line, ``{"run": "module:function", "args": [...], "env": {...}, "kill_after_s": ...}``, forks,
runs the async function in the child and writes one JSON line: ``{"killed": true}`` or ``{"result": ...}`` or ``{"failed": text}``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio

CHILD_S = 90.0


class Died(Exception):
    """A child failed for another reason than the kill it was started for."""


class Zygote:
    """The requesting side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, function: str, *args: Any, crash_at: str = "", kill_after_s: float | None = None, kill_after_cpu_s: float | None = None,
        stop_s: tuple[float, float] | None = None,
    ) -> Any:  # fmt: skip
        """Run ``module:function`` in a child and return its result, None when it was killed.

        Args:
            function: What to run.
            args: Its arguments, as JSON has them.
            crash_at: The crash point where it kills itself.
            kill_after_s: Kill it by then.
            kill_after_cpu_s: Kill it once it has computed for so long, however busy the machine is, or after CHILD_S.
            stop_s: Stop it after so many seconds, and let it go on after so many more.

        Raises:
            Died: it raised, or did not end in CHILD_S seconds.
        """
        env = {"AGENTOS_CRASH_AT": crash_at}
        kill = {"kill_after_s": kill_after_s, "kill_after_cpu_s": kill_after_cpu_s}
        request = {"run": function, "args": args, "env": env, "stop_s": stop_s, **kill}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "failed" in answer:
            raise Died(f"{function}{args} crash_at={crash_at!r}: {answer['failed']}")
        return None if answer.get("killed") else answer["result"]


@contextmanager
def zygote(*modules: str, preload: str = "") -> Iterator[Zygote]:
    """Start an interpreter that has imported `modules` and has run the function `warm` of each, perhaps with a library preloaded."""
    command = [sys.executable, "-W", "error", "-m", "tests.fault.crash_zygote", *modules]
    env = {**os.environ, "LD_PRELOAD": preload} if preload else None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield Zygote(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _child(request: dict[str, Any], out: int) -> None:
    os.environ.update(request["env"])
    module, _, name = request["run"].partition(":")
    try:
        said = json.dumps({"result": anyio.run(partial(getattr(import_module(module), name), *request["args"]))})
    except BaseException:  # noqa: BLE001 - the child's last word, whatever it is; the parent raises it
        said = json.dumps({"failed": traceback.format_exc()[-60000:]})
    os.write(out, said.encode())


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, run, wait: the child's own word, or that it was killed."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            _child(request, file.fileno())
            os._exit(0)
        if request.get("stop_s"):
            _stop(pid, *request["stop_s"])
        status = _wait(pid, request.get("kill_after_s"), request.get("kill_after_cpu_s"))
        file.seek(0)
        text = file.read()
    if os.WIFSIGNALED(status):
        return {"killed": True} if status != signal.SIGALRM else {"failed": f"it hung for {CHILD_S} s"}
    return dict(json.loads(text))


def _stop(pid: int, after_s: float, for_s: float) -> None:
    """Stop a child for a while."""
    time.sleep(after_s)
    os.kill(pid, signal.SIGSTOP)  # a child that has ended is still there to be waited for
    time.sleep(for_s)
    os.kill(pid, signal.SIGCONT)


def _wait(pid: int, kill_after_s: float | None, kill_after_cpu_s: float | None = None) -> int:
    """Return how the child ended; kill it when its time has come."""
    end = time.monotonic() + (CHILD_S if kill_after_s is None else kill_after_s)
    if kill_after_cpu_s is not None:
        kill_after_s = CHILD_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() >= end or (kill_after_cpu_s is not None and _computed_s(pid) >= kill_after_cpu_s):
            os.kill(pid, signal.SIGKILL if kill_after_s is not None else signal.SIGALRM)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.0005)


def _computed_s(pid: int) -> float:
    """Return the processor time of a child so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Serve requests until the input ends."""
    for module in sys.argv[1:]:
        import_module(module).warm()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(CHILD_S)  # a worker of a slow commit ends with its loop, but not at once
    assert threading.active_count() == 1, "only an interpreter without threads can be forked"
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_serve(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
