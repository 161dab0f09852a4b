"""ps, tree, status: looking at processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentos.abi.values import ProcessInfo
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.context import Shell
from agentos.shell.output import Page
from agentos.shell.trees import below, drawn, find, state

if TYPE_CHECKING:
    from agentos.shell.lately import Lately

__all__ = ["ps", "status", "tree"]


async def ps(shell: Shell, show_all: Annotated[bool, typer.Option("--all", "-a", help="Ended processes too.")] = False) -> None:
    """List processes."""
    shell.output.emit(_page(await _processes(shell, ended=show_all), ended=show_all))


async def tree(
    shell: Shell,
    pid: Annotated[int | None, typer.Argument(help="Only this process and what it started.")] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Ended processes too.")] = False,
) -> None:
    """Show who started whom."""
    infos = await _processes(shell, ended=show_all or pid is not None)
    if pid is not None:
        infos = below(infos, pid)
        if not show_all:
            infos = [info for info in infos if info.exit is None or info.pid == pid]
    shell.output.emit(Page(infos, text="\n".join(drawn(infos)), name=_pid, empty="no processes"))


async def status(shell: Shell, pid: Annotated[int | None, typer.Argument(help="A process; none: the store.")] = None) -> None:
    """Show one process: what it does, waits for, said, has left and may do; or the store as a whole."""
    if pid is None:
        await _store_status(shell)
        return
    async with shell.looking() as kernel:
        info = find(await kernel.ps(all=True), pid)
        caps = await kernel.caps(pid)
        asks = [ask for ask in await kernel.asks() if ask.pid == pid]
    from agentos.shell.lately import lately  # noqa: PLC0415 - `ps` does without

    newest = lately(shell, pid, info.digest)
    left = {name: bound - info.usage.get(name, 0) for name, bound in info.budget.items()}
    data = {"process": info, "left": left, "lately": newest, "caps": caps, "asks": asks}
    is_told = info.exit is not None and info.exit.value == newest.said
    lines = [*_described(info), *_of_late(newest, is_told=is_told), *_held(caps, asks)]
    shell.output.emit(Page(data, text="\n".join(lines), name=lambda _: pid))


async def _store_status(shell: Shell) -> None:
    infos = await _processes(shell, ended=True)
    counts: dict[str, int] = {}
    for info in infos:
        counts[info.state] = counts.get(info.state, 0) + 1
    async with shell.looking() as kernel:
        asks, host = await kernel.asks(), shell.host_of(kernel)
    data = {
        "store": str(shell.store), "kernel": host is not None, "processes": counts, "asks_pending": [ask.id for ask in asks],
    }  # fmt: skip
    running = "not running" if host is None else f"running on {host}" if host else "running"
    lines = [f"store      {shell.store}", f"kernel     {running}"]
    lines.append("processes  " + (", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"))
    poisoned = [str(info.pid) for info in infos if info.exit is None and "poison" in info.waiting_on]
    if poisoned:
        lines.append(
            f"set aside  {', '.join(poisoned)}: ended their kernel each time they ran: {shell.hint('status', poisoned[0])}"
        )
    if asks:
        lines.append(f"waiting    {len(asks)} for a person: {shell.hint('asks')}")
    shell.output.emit(Page(data, text="\n".join(lines), name=lambda _: shell.store))


async def _processes(shell: Shell, *, ended: bool) -> list[ProcessInfo]:
    """Return the processes of the store; none where the default store was never made."""
    if not shell.has_store and not shell.store_given:
        shell.output.note(f"{shell.no_store().message}; {shell.no_store().hint}")
        return []
    async with shell.looking() as kernel:
        return await kernel.ps(all=ended)


def _page(infos: list[ProcessInfo], *, ended: bool) -> Page:
    now = SystemClock().now()
    columns: list[tuple[str, Any]] = [
        ("pid", _pid), ("ppid", lambda info: info.ppid or "-"), ("image", words.label), ("state", state),
        ("age", lambda info: words.age(info.created, now)), ("calls", lambda info: words.amount(info.usage.get("calls", 0))),
        ("goal", lambda info: words.quoted(info.goal, 40) if info.goal is not None else ""),
    ]  # fmt: skip
    return Page(
        infos, columns, name=_pid, empty="no processes" if ended else "no live processes; `agentos ps --all` shows ended ones"
    )


def _pid(info: ProcessInfo) -> int:
    return info.pid


def _described(info: ProcessInfo) -> list[str]:
    usage = ", ".join(
        f"{name} {_amount(name, info.usage.get(name, 0))}"
        + (f" of {_amount(name, info.budget[name])}" if name in info.budget else "")
        for name in sorted({*info.usage, *info.budget})
    )
    lines = [
        f"process    {info.pid}, {words.label(info)}, {info.program}", f"state      {state(info)}",
        f"started    {words.clock(info.created)}", f"parent     {info.ppid or 'the host'}", f"used       {usage or 'nothing'}",
    ]  # fmt: skip
    if "poison" in info.waiting_on:
        lines.append(
            f"set aside  it ended its kernel each time it ran: `agentos log {info.pid}`, then `agentos resume {info.pid}`"
        )
    if info.labels:
        lines.append(f"label      {', '.join(info.labels)}")
    if info.goal is not None:
        lines.append(f"goal       {words.quoted(info.goal, 400)}")
    if info.exit is not None:
        lines.append(f"ended      {words.end(info.exit)}")
        lines += [f"value      {words.quoted(info.exit.value, 400)}"] if info.exit.value is not None else []
    return lines


def _of_late(newest: Lately, *, is_told: bool) -> list[str]:
    """Describe what was done and said last; `is_told` leaves out what was said, which is the value of the process."""
    lines = [f"model      {words.quoted(newest.model)}"] if newest.model else []
    lines += [f"turn       {newest.turn}"] if newest.turn else []
    lines += [f"{'lately' if not at else '':<10} {call}" for at, call in enumerate(newest.calls)]
    return lines + ([f"said       {words.quoted(newest.said, 400)}"] if newest.said and not is_told else [])


def _held(caps: list[Any], asks: list[Any]) -> list[str]:
    held = [f"cap {cap.id:<6} {cap.text}" for cap in caps]
    return held + [f"ask {ask.id:<6} {ask.op} {words.quoted(ask.args, 200)}" for ask in asks]


def _amount(name: str, number: float) -> str:
    return words.money(number) if name == "usd" else words.amount(number)
