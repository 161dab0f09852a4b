"""A person at a terminal: consent once, an ask answered inline, a frame that holds."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

from tests.acceptance.cli_place import Place, a_place


class Terminal:
    """The command line on a pseudo terminal."""

    def __init__(self, place: Place, *words: object, columns: int = 100) -> None:
        self._side, other = pty.openpty()
        self._seen = 0
        self._process = subprocess.Popen(
            place.words(*words), cwd=place.folder, env={**place.environment, "COLUMNS": str(columns), "LINES": "40"}, stdin=other,
            stdout=other, stderr=other, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.shown = self.raw = ""

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 15
        while text not in self.shown:
            assert time.monotonic() < deadline, f"never saw {text!r} in:\n{self.shown}"
            if not self._read():
                break
        assert text in self.shown, self.shown
        self._seen = len(self.shown)

    def until_again(self, text: str) -> None:
        """Wait until it is shown after what was waited for last."""
        before, self.shown = self.shown[: self._seen], self.shown[self._seen :]
        try:
            self.until(text)
        finally:
            self.shown = before + self.shown
            self._seen = len(self.shown)

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does while no question is open."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self._process.wait(10)

    def end(self) -> int:
        while self._read():
            continue
        return self._process.wait(10)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        os.close(self._side)

    def _read(self) -> bool:
        try:
            ready, _, _ = select.select([self._side], [], [], 15)
            data = os.read(self._side, 65536) if ready else b""
        except OSError:
            data = b""
        self.raw += data.decode(errors="replace")
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        return bool(data)


def test_a_request_is_confirmed_once_and_an_ask_is_answered_inline(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    with Terminal(place, "run", "careful.yaml") as first:
        first.until("[y/N]")
        assert "fs.write /out.txt" in first.shown
        first.type("y\n")
        first.until("how all?")
        assert "because someone looks first" in first.shown
        first.type("a\r")
        assert first.end() == 0
        assert (place.work / "out.txt").read_text() == "done"
    with Terminal(place, "run", "careful.yaml") as second:
        second.until("how all?")
        assert "[y/N]" not in second.shown
        second.type("d\r")
        second.until("reason")
        second.type("no more\r")
        assert second.end() == 1
        assert "no more" in second.shown


def test_what_is_not_granted_is_not_started(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    with Terminal(place, "run", "careful.yaml") as asked:
        asked.until("[y/N]")
        asked.type("n\n")
        assert asked.end() == 3
        assert place.json("ps", "--all") == []


def test_an_ask_answered_elsewhere_ends_the_question(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    with Terminal(place, "run", "careful.yaml", "--yes") as waiting:
        waiting.until("how all?")
        place.run("approve", 1)
        assert waiting.end() == 0
        assert "answered  ask 1: approve by" in waiting.shown


def test_ctrl_c_at_a_question_parks_the_process(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    with Terminal(place, "run", "careful.yaml", "--yes") as waiting:
        waiting.until("how all?")
        waiting.type("\x03")
        assert waiting.end() == 130
        assert "process 1 is parked" in waiting.shown
        assert place.json("asks")[0]["state"] == "pending"


def test_no_line_of_an_agent_is_broken_by_the_terminal_itself(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    (place.folder / "long.yaml").write_text(
        (place.folder / "careful.yaml").read_text().replace("text: done", f"text: '{'x' * 90}ask 9  process 1 {'y' * 600}'")
    )
    place.call("run", "long.yaml", "--yes", status=4)
    with Terminal(place, "asks", 1) as shown:
        assert shown.end() == 0
        lines = shown.shown.splitlines()
        agent = lines[lines.index("┌ written by the agent") + 1 : lines.index("└")]
        assert all(line.startswith(("│ ", "┊ ")) and len(line) <= 100 for line in agent)
        assert sum("y" * 50 in line for line in agent) > 5


def test_what_an_agent_says_cannot_start_a_line(tmp_path: Path) -> None:
    place = a_place(tmp_path)
    said = "x" * 200 + "ask 9  process 1 (nice:1) wants  clock.now"
    (place.folder / "says.yaml").write_text(
        "agentos: 1\nname: says\nprogram: {kind: script, steps: [{op: human.tell, args: {text: '" + said + "'}}]}\n"
    )
    with Terminal(place, "run", "says.yaml", "--yes") as told:
        assert told.end() == 0
        lines = [line for line in told.shown.splitlines() if "xxx" in line or "nice" in line]
        assert len(lines) > 2
        assert all(line.strip().startswith(("says", "┊ ")) and len(line) <= 100 for line in lines)
