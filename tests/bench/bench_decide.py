"""Decisions: capability cover and policy, remembered and new, and narrowing. The policy room's own figures are in `bench_policy`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio

import agentos
from agentos.abi.resource import Resource
from agentos.policy import Stack, load_layer
from tests.bench import bench_policy
from tests.bench.harness import Size, Table, each_us
from tests.bench.traffic import kernel

__all__ = ["run"]


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield cover, then policy."""
    yield anyio.run(_cover, size, folder / "cover")
    yield _policy(size)


async def _cover(size: Size, folder: Path) -> Table:
    table = Table(
        "capability cover, CPU us", ("capabilities of the op", "remembered", "new, covered by the last", "new, refused")
    )
    async with kernel(folder) as opened:
        core, op = opened.core, opened.core.ops.find("fs.read")
        for count in (1, 20, size.of(500) + 20):
            grants = [f"fs.read /d{number}/**" for number in range(count)]
            process = core.processes.find((await opened.spawn(agentos.Image.host(capabilities=grants))).pid)
            inside, outside = _path(f"/d{count - 1}/a/b.py"), _path("/elsewhere/a.py")

            def cover(process=process, resources=inside):  # type: ignore[no-untyped-def]
                return core.caps.cover(process, op, resources, {}, 1.0)

            def new(process=process, resources=inside):  # type: ignore[no-untyped-def]
                process.cover_cache.clear()
                return core.caps.cover(process, op, resources, {}, 1.0)

            def refused(process=process, resources=outside):  # type: ignore[no-untyped-def]
                try:
                    core.caps.cover(process, op, resources, {}, 1.0)
                except agentos.Denied:
                    return
                raise AssertionError("it was covered")

            calls = max(20, size.of(100_000) // count)
            table.add(f"{count}", *(f"{each_us(work, calls):.2f}" for work in (cover, new, refused)))
    return table


def _path(text: str) -> tuple[Resource, ...]:
    return (Resource("path", text, text),)


def _policy(size: Size) -> Table:
    head = ("rules", "call", "remembered", "new")
    table = Table("policy decision, CPU us", head, note="new: nothing is remembered of this op and resource")
    for rules in (50, max(100, size.of(5_000))):
        stack = Stack([load_layer(bench_policy.text_of(rules), source="bench", table=bench_policy.TABLE)])
        calls = {
            "fs.read, no condition": ("fs.read", "/src/p7/a/b.py", {}),
            "fs.write, one condition": ("fs.write", "/src/p7/out/b.txt", {"text": "x" * 100}),
        }
        for name, (op_name, where, more) in calls.items():
            op, resources, args = bench_policy.TABLE.find(op_name), _path(where), {"path": where, **more}

            def hit(op=op, resources=resources, args=args, stack=stack):  # type: ignore[no-untyped-def]
                return stack.decide(op, resources, args, {})

            def miss(stack=stack, hit=hit):  # type: ignore[no-untyped-def]
                stack._residuals.clear()
                return hit()

            table.add(f"{rules}", name, f"{each_us(hit, size.of(20_000)):.2f}", f"{each_us(miss, size.of(5_000)):.2f}")
    return table
