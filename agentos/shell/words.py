"""Words for people: ages, durations, amounts, values and exits in a few characters."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from agentos.abi.values import Exit, ProcessInfo
from agentos.shell.escape import line

__all__ = ["age", "amount", "clock", "cost", "end", "label", "money", "paused", "quoted", "span", "spent", "value"]


def span(seconds: float) -> str:
    """Return a duration: ``0.3s``, ``42s``, ``3m10s``, ``2h5m``, ``4d``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60}m" if whole % 3600 >= 60 else f"{whole // 3600}h"
    return f"{whole // 86400}d"


def age(at: float, now: float) -> str:
    """Return how long ago `at` was."""
    return span(now - at)


def clock(at: float) -> str:
    """Return a local wall time to the second, with its date."""
    moment = datetime.fromtimestamp(at).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def amount(number: float) -> str:
    """Return a number without a useless fraction."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.2f}"


def cost(usage: dict[str, float]) -> str:
    """Return what was used, calls first and time last."""
    calls = usage.get("calls", 0)
    parts = [f"{amount(calls)} call{'' if calls == 1 else 's'}"]
    parts += [
        f"{amount(used)} {name}" for name, used in sorted(usage.items()) if name not in ("calls", "usd", "wall_s") and used
    ]
    parts += [money(usage["usd"])] if usage.get("usd") else []
    return ", ".join([*parts, span(usage["wall_s"])] if "wall_s" in usage else parts)


def money(usd: float) -> str:
    """Return US dollars, small amounts with as many digits as say something."""
    if usd >= 1 or not usd:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.0001 else f"${float(f'{usd:.2g}'):.15f}".rstrip("0")


def spent(tokens: float, usd: float) -> str:
    """Return what a model's work cost; without a known price, its tokens alone."""
    said = f"{amount(tokens)} token{'' if tokens == 1 else 's'}"
    return f"{said}, {money(usd)}" if usd else said


def label(info: ProcessInfo) -> str:
    """Return the image of a process, with its name where it has one of its own."""
    return info.image if info.name in ("", info.image, info.image.partition(":")[0]) else f"{info.image} {info.name}"


def paused(poisoned: object) -> str:
    """Return why a process stands still."""
    return "was set aside: it ended its kernel each time it ran" if poisoned else "is paused"


def end(exit_: Exit | None) -> str:
    """Return how a process ended, in one line."""
    if exit_ is None:
        return ""
    return f"{exit_.state}: {exit_.error}" if exit_.error is not None else exit_.state


def value(data: Any) -> str:
    """Return a value as people read it: text as it is, anything else as JSON."""
    if isinstance(data, str):
        return data
    from agentos.shell.output import plain_data  # noqa: PLC0415 - only where a value is shown

    return json.dumps(plain_data(data), ensure_ascii=False, indent=2)


def quoted(data: Any, chars_max: int = 100) -> str:
    """Return a value on one line, cut to `chars_max` characters."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, default=str)
    safe = line(text)
    return safe if len(safe) <= chars_max else f"{safe[: chars_max - 3]}..."
