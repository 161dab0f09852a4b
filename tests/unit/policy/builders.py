"""What the policy tests build: an op table with sinks, lists, late attributes; resources; layers from one-line texts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any, Literal

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Resource, Template, canonical_path, canonical_url
from agentos.errors import Invalid
from agentos.policy import Layer, Stack, Verdict, load_layer
from agentos.policy.flow import Origin


@dataclass(frozen=True)
class Part:
    """One attachment."""

    file_id: str
    size: int = 0


@dataclass
class Known:
    """A flow of which everything is known: the origins of texts and numbers by their `repr`, counters by their key."""

    label: int = 0
    origins: dict[str, Origin] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)

    def origin(self, value: Any) -> Origin:
        if not isinstance(value, list):
            return self.origins.get(repr(value), Origin(self.label, frozenset()))
        found = [self.origin(item) for item in value]
        label = 0
        for one in found:
            label |= one.label
        return Origin(label, frozenset.intersection(*(one.sources for one in found)) if found else frozenset())

    def count(self, name: str) -> int:
        return int(self.counters.get(f"count/{name}", 0))

    def total(self, name: str, attr: str) -> float:
        return self.counters.get(f"sum/{name}.{attr}", 0.0)

    def happened(self, name: str) -> bool:
        return bool(self.counters.get(f"after/{name}", 0))


def known(
    origins: dict[Any, str | tuple[str, int]] | None = None, *, label: int = 0, counters: dict[str, float] | None = None
) -> dict[str, Any]:
    """Return facts with a flow. `origins` maps a value to its source, or to its source and label bits; an empty source is none."""
    found: dict[str, Origin] = {}
    for value, said in (origins or {}).items():
        source, bits = (said, 0) if isinstance(said, str) else said
        found[repr(value)] = Origin(bits, frozenset({source} if source else ()))
    return {"flow": Known(label, found, counters or {})}


def _read(path: str, bytes_max: int = 10, encoding: str | None = "utf-8") -> str: ...  # type: ignore[empty-body]


def _write(path: str, text: str | None = None, mode: Literal["replace", "create"] = "replace") -> str: ...  # type: ignore[empty-body]


def _move(path: str, to: str) -> None: ...


def _fetch(url: str, method: Literal["GET", "HEAD", "POST"] = "GET", timeout_s: float = 30) -> str: ...  # type: ignore[empty-body]


def _run(argv: list[str], net: bool = False) -> str: ...  # type: ignore[empty-body]


def _send(to: list[str], cc: str | None = None, emails: list[str] = [], parts: list[Part] = []) -> None: ...  # noqa: B006


def _transfer(account: str, amount: float, meta: dict[str, Any] | None = None, value: Any = None) -> None: ...


def op(name: str, signature: Any, effect: str, *on: str, **more: Any) -> Op:
    templates = tuple(Template(kind, text) for kind, _, text in (one.partition(":") for one in on))  # type: ignore[arg-type]
    return Op(name, signature, Effect(effect), templates, **more)


def table(*extra: Op) -> OpTable:
    late: dict[str, Any] = {"late": {"resolved": str}}
    size = {"size": (int, lambda args: len(args.get("text") or ""))}
    return OpTable([
        op("fs.read", _read, "repeatable", "path:{path}", **late),
        op("fs.write", _write, "probeable", "path:{path}", derived=size, **late),
        op("fs.move", _move, "probeable", "path:{path}", "path:{to}", **late),
        op("net.fetch", _fetch, "once", "url:{url}", sinks=("url",), late={"dest_ip": str, "redirect": str}),
        op("exec.run", _run, "once", "argv:{argv}"),
        op("mail.send", _send, "once", "id:mail", sinks=("to", "cc")),
        op("bank.transfer", _transfer, "keyed", "id:acct/{account}"),
        *extra,
    ])  # fmt: skip


TABLE = table()


def path(text: str) -> Resource:
    text = canonical_path(text)
    return Resource("path", text, text)


def url(text: str) -> Resource:
    parts = canonical_url(text)
    return Resource("url", parts.text, parts)


def argv(*tokens: str) -> Resource:
    return Resource("argv", shlex.join(tokens), tokens)


def ident(text: str) -> Resource:
    return Resource("id", text, text)


def layer(body: str, kind: str = "policy", **more: Any) -> Layer:
    return load_layer(f'{kind} "t"\n{body}', source="t.policy", table=more.pop("table", TABLE), **more)


def refusal(text: str, **more: Any) -> Invalid:
    """Return the error of a text that must not load."""
    try:
        load_layer(text, source="t.policy", table=TABLE, **more)
    except Invalid as error:
        return error
    raise AssertionError(f"it loads: {text}")


def call(name: str, *, facts: dict[str, Any] | None = None, **args: Any) -> tuple[Any, ...]:
    """Return the arguments of `Stack.decide` for a call: validated, with defaults, resources rendered."""
    found = TABLE.find(name)
    values = found.validate(args)
    return found, found.render(values, "/", 1), values, facts or {}


def decide(body: str, name: str, *, kind: str = "policy", facts: dict[str, Any] | None = None, **args: Any) -> str:
    return verdict(body, name, kind=kind, facts=facts, **args).outcome


def verdict(body: str, name: str, *, kind: str = "policy", facts: dict[str, Any] | None = None, **args: Any) -> Verdict:
    return Stack([layer(body, kind)]).decide(*call(name, facts=facts, **args))
