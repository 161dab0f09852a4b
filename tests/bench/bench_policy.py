"""What the policy room costs: `python tests/bench/bench_policy.py`. Prints figures, never fails on one.

Aims: a remembered decision <= 2 us, a new one <= 15 us at 5,000 rules, checking 200 rules <= 1 s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentos.abi.op import Op
from agentos.abi.ops import builtin
from agentos.abi.resource import Resource
from agentos.policy import Stack, check_text, compile_pattern, load_layer, parse_capability

TABLE = builtin()


def best_us(step: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Return the least time of one step over some rounds, in microseconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(count):
            step()
        times.append((time.perf_counter() - started) / count)
    return min(times) * 1e6


def text_of(rules: int) -> str:
    """Return a policy of about `rules` rules: folders, denied names, conditions, hosts."""
    shapes = [
        'allow fs.read "/src/p{0}/**"', 'deny fs.* "/src/p{0}/secret/**"', 'allow fs.write "/src/p{0}/out/*.txt" when size <= 64KB',
        'deny fs.* "**/name{0}"', 'allow net.fetch "https://h{0}.example/**" when method in [GET, HEAD]',
    ]  # fmt: skip
    return 'policy "bench"\n' + "\n".join(shapes[number % 5].format(number // 5) for number in range(rules))


def path(text: str) -> tuple[Resource, ...]:
    return (Resource("path", text, text),)


def decisions(rules: int) -> None:
    started = time.perf_counter()
    layer = load_layer(text_of(rules), source="bench", table=TABLE)
    loaded = time.perf_counter() - started
    stack = Stack([layer])
    read, write = TABLE.find("fs.read"), TABLE.find("fs.write")
    calls: list[tuple[str, Op, str, dict[str, object]]] = [
        ("read, constant", read, "/src/p7/a/b.py", {"path": "/src/p7/a/b.py"}),
        ("write, one condition", write, "/src/p7/out/b.txt", {"path": "/src/p7/out/b.txt", "text": "x" * 100}),
    ]
    print(f"{rules} rules: load {loaded * 1e3:.0f} ms")
    for name, op, where, args in calls:
        resources = path(where)
        started = time.perf_counter()
        stack.decide(op, resources, args, {})
        first = (time.perf_counter() - started) * 1e3
        hit = best_us(lambda op=op, resources=resources, args=args: stack.decide(op, resources, args, {}), 20_000)  # type: ignore[misc]

        def miss(op: Op = op, resources: tuple[Resource, ...] = resources, args: dict[str, object] = args) -> None:
            stack._residuals.clear()
            stack.decide(op, resources, args, {})

        print(f"  {name}: remembered {hit:.2f} us, new {best_us(miss, 5_000):.2f} us, first of its op {first:.1f} ms")


def main() -> None:
    """Print every figure."""
    for rules in (50, 5_000):
        decisions(rules)
    text = text_of(200)
    started = time.perf_counter()
    check_text(text, source="bench", table=TABLE)
    print(f"check of 200 rules, warnings included: {(time.perf_counter() - started) * 1e3:.0f} ms")
    started = time.perf_counter()
    check_text(text_of(5_000), source="bench", table=TABLE)
    print(f"check of 5,000 rules, warnings included: {(time.perf_counter() - started) * 1e3:.0f} ms")
    plain = parse_capability("fs.read, fs.list /src/**", TABLE)
    bounded = parse_capability("fs.write /src/** when size <= 64KB", TABLE)
    read, write, where = TABLE.find("fs.read"), TABLE.find("fs.write"), path("/src/a/b.py")
    args = {"path": "/src/a/b.py", "text": "x" * 100}
    print(f"capability covers: plain {best_us(lambda: plain.covers(read, where, args), 20_000):.2f} us, ", end="")
    print(f"with a condition {best_us(lambda: bounded.covers(write, where, args), 20_000):.2f} us")
    fresh = iter([f"fs.read /src/a{number}/*" for number in range(10_000)])
    print(f"capability parse {best_us(lambda: parse_capability(next(fresh), TABLE), 500):.0f} us new, ", end="")
    print(f"{best_us(lambda: parse_capability('fs.read /src/a/*', TABLE), 500):.2f} us remembered, ", end="")
    children = iter([parse_capability(f"fs.read /src/b{number}/*", TABLE) for number in range(2_500)])
    known = parse_capability("fs.read /src/a/*", TABLE)
    print(f"narrow {best_us(lambda: plain.narrow(next(children)), 500):.0f} us new, ", end="")
    print(f"{best_us(lambda: plain.narrow(known), 500):.2f} us remembered")
    outer, inner = compile_pattern("path", "/src/**/*.py"), compile_pattern("path", "/src/a/*/b*.py")
    print(f"containment of path patterns {best_us(lambda: outer.witness(inner), 100):.0f} us")


if __name__ == "__main__":
    main()
