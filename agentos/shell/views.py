"""Views: how a followed tree is shown while it runs. Both write to stderr; the result is somebody else's.

Lines   one plain line per noteworthy event, for pipes and logs
Live    a calm table of the processes that live, redrawn four times a second, with denials and answers as lines above it
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from agentos.abi.values import Event, ProcessInfo
from agentos.shell import words
from agentos.shell.escape import block, line, wrapped
from agentos.shell.turns import Turn
from agentos.shell.watch import Notable, Watch, told

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Lines", "Live", "View"]

_SHOWN_LIVE: Final = frozenset({"denied", "answered", "withdrawn", "slow", "call", "started"})
_ROWS_MAX: Final = 30
_GOES_ON: Final = "  ┊ "  # so that what an agent chose cannot start a line
_BAR: Final = "│ "
_SPEAKERS_MAX: Final = 3
_STYLES: Final = {"running": "green", "ready": "green", "waiting": "yellow", "paused": "magenta"}


class View(Protocol):
    """Something that shows a followed tree."""

    def begun(self, infos: Iterable[ProcessInfo]) -> None:
        """Show processes that were not known before."""

    def happened(self, event: Notable) -> None:
        """Show an event, or a turn that is over."""

    def redraw(self, watch: Watch, now: float) -> None:
        """Show the tree as it is now."""

    def say(self, text: str) -> None:
        """Write one line that stays."""

    def quote(self, text: str) -> None:
        """Write what a process says to the person, all of it, behind a bar."""

    def aside(self) -> AbstractContextManager[Any]:
        """Keep still while a person is asked something."""

    def close(self) -> None:
        """Stop drawing."""


class Lines:
    """Plain lines."""

    def __init__(self) -> None:
        self._spawned: set[int] = set()

    def begun(self, infos: Iterable[ProcessInfo]) -> None:
        """Say who started, once each."""
        for info in infos:
            if info.pid not in self._spawned:
                self._spawned.add(info.pid)
                self.say(f"spawned   pid {info.pid} {words.label(info)}" + (f"  by pid {info.ppid}" if info.ppid else ""))

    def happened(self, event: Notable) -> None:
        """Say what happened."""
        if not (isinstance(event, Event) and event.kind == "spawned"):
            self.say(told(event))

    def redraw(self, watch: Watch, now: float) -> None:
        """Do nothing: a line that was written stays as it is."""

    def say(self, text: str) -> None:
        """Write a line."""
        print(line(text), file=sys.stderr, flush=True)

    def quote(self, text: str) -> None:
        """Write its lines."""
        for each in block(text).split("\n"):
            print(_BAR + each, file=sys.stderr, flush=True)

    def aside(self) -> AbstractContextManager[Any]:
        """Do nothing."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing."""


class Live:
    """A live table on the terminal behind stderr."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only terminals need it
        from rich.live import Live as RichLive  # noqa: PLC0415

        self._console: Console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live = RichLive(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._held: list[tuple[str, str, str, str]] | None = None

    def begun(self, infos: Iterable[ProcessInfo]) -> None:
        """Do nothing: the table shows them."""

    def happened(self, event: Notable) -> None:
        """Write what stays of interest above the table."""
        if not isinstance(event, Event):
            self._print(told(event), "dim" if isinstance(event, Turn) else "yellow")
        elif event.kind in _SHOWN_LIVE:
            self._print(told(event), {"denied": "red", "answered": "cyan"}.get(event.kind, ""))

    def redraw(self, watch: Watch, now: float) -> None:
        """Draw the table."""
        if self._held is None:
            self._live.update(_drawn(watch, now, self._console), refresh=True)

    def say(self, text: str) -> None:
        """Write a line above the table."""
        self._print(text, "")

    def quote(self, text: str) -> None:
        """Write its lines above the table; the bar goes on where a line does."""
        for each in block(text).split("\n"):
            self._print(each, "", begins=_BAR, goes_on=_BAR)

    def aside(self) -> AbstractContextManager[Any]:
        """Take the table away and hold lines back until the block is left."""
        return self._aside()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        self._clear()
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self._live.start()
            for each in held:
                self._print(*each)

    def close(self) -> None:
        """Take the table away."""
        self._clear()

    def _clear(self) -> None:
        from rich.text import Text  # noqa: PLC0415 - only terminals need it

        self._live.update(Text(""))
        self._live.stop()

    def _print(self, text: str, style: str, begins: str = "", goes_on: str = _GOES_ON) -> None:
        from rich.text import Text  # noqa: PLC0415 - only terminals need it

        if self._held is not None:
            self._held.append((text, style, begins, goes_on))
            return
        for number, piece in enumerate(wrapped(line(text), max(self._console.width - len(goes_on), 20), at_spaces=True)):
            self._console.print(Text((goes_on if number else begins) + piece, style=style), soft_wrap=True)


def _drawn(watch: Watch, now: float, console: Console) -> RenderableType:
    """Return the table, and below it the end of what models are saying, one line each."""
    from rich.console import Group  # noqa: PLC0415 - only terminals need it
    from rich.text import Text  # noqa: PLC0415

    room = max(console.width - len(_GOES_ON), 20)
    spoken = [
        Text(_GOES_ON + _end_of(" ".join(text.split()), room), style="dim", no_wrap=True)
        for text in list(watch.turns.spoken.values())[-_SPEAKERS_MAX:]
    ]
    return Group(_table(watch, now, console.size.height - len(spoken)), *spoken)


def _end_of(text: str, columns: int) -> str:
    """Return the end of a text, as much as `columns` hold."""
    pieces = list(wrapped(line(text)[::-1], columns - 3))
    return pieces[0][::-1] if len(pieces) == 1 else f"...{pieces[0][::-1]}"


def _table(watch: Watch, now: float, height: int) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415 - only terminals need it
    from rich.text import Text  # noqa: PLC0415

    living = [info for info in watch.infos.values() if info.exit is None and info.pid not in watch.ended]
    rows_max = max(3, min(_ROWS_MAX, height - 6))
    denied: dict[int, int] = {}
    for denial in watch.denials.values():
        denied[denial.pid] = denied.get(denial.pid, 0) + 1
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(5):
        table.add_column(no_wrap=True)
    for info in living[:rows_max]:
        state = info.state if not info.waiting_on else words.quoted(f"{info.state} on {', '.join(info.waiting_on)}", 40)
        state = ", ".join(filter(None, (state, watch.turns.doing(info.pid))))
        table.add_row(
            Text(f"pid {info.pid}", style="bold"), Text(line(words.label(info))), Text(line(state), style=_STYLES.get(info.state, "")),
            Text(words.cost({**info.usage, "wall_s": now - info.created})),
            Text(f"{denied[info.pid]} denied" if info.pid in denied else "", style="red"),
        )  # fmt: skip
    root = watch.infos.get(watch.root)
    calls = words.amount(root.usage.get("calls", 0)) if root else "0"
    more = f", {len(living) - rows_max} not shown" if len(living) > rows_max else ""
    counts = f"{len(living)} live{more}, {len(watch.infos) - len(living)} ended, {calls} calls, {len(watch.denials)} denied"
    table.caption = Text(counts, style="dim")
    table.caption_justify = "left"
    return table
