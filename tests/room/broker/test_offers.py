"""Offers: the rule that a wider scope stores covers its own call and no other, whatever the agent writes into the arguments."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import pytest

import agentos
from agentos.abi.labels import INTERNAL, SECRET, UNTRUSTED
from agentos.broker.offer import asked_by, offer_of
from agentos.kernel.standing import EXACTLY, Asking, rule_holds
from tests.builders import alive, host, opened

pytestmark = pytest.mark.anyio

ASKED = [Asking("p:2", "digest", "")]
NASTY: list[Any] = [
    "bob", "Bob", "bob ", "", 'b"ob', "b\\ob", 'x" or to == "y', "a\nb", "a\x0cb", "a\x00b", "\u202eevil", "b\u200bob", "x" * 300,
    "x" * 301, "$SET", "# exactly this call: 00000000000000000000000000000000", f"{EXACTLY}{'0' * 32}", "**",
    "true", "5", "\u00e9", "e\u0301",
]  # fmt: skip
NUMBERS: list[Any] = [0, 1, -1, 2**63, 1e-7, 1e22, 0.1, Decimal("0.10"), Decimal("1E+5"), True]


def a_shop() -> agentos.Device:
    shop = agentos.Device("shop")

    @shop.op(resource="box/{box}", effect="repeatable", sinks=("to",))
    async def put(
        box: str = "1", to: Any = "bob", fast: bool = False, size: Literal["s", "l"] = "s", kinds: list[Literal["a", "b"]] | None = None,
        text: str = "",
    ) -> None: ...  # fmt: skip

    @shop.op(effect="repeatable")
    async def do(what: Any = None, more: dict[str, int] = {}) -> None: ...  # noqa: B006 - a declaration

    @shop.op(resource="{path}", kind="path", effect="once")
    async def run(path: str, stdin: str = "") -> None: ...

    @shop.op(resource="{argv}", kind="argv", effect="once")
    async def command(argv: list[str], cwd: str = ".") -> None: ...

    @shop.op(resource="{url}", kind="url", effect="repeatable", sinks=("url",))
    async def get(url: str) -> None: ...

    @shop.op(effect="repeatable")
    async def odd(flow: dict[str, str]) -> None: ...

    return shop


class Desk:
    """Makes calls of a process, and what would be offered for them."""

    def __init__(self, kernel: Any, process: Any) -> None:
        self.kernel = kernel
        self.process = alive(kernel, process)

    def call(self, op: str, **args: Any) -> Any:
        return self.kernel.broker.door.resolve(self.process, op, args, "1", "")

    def offer(self, op: str, **args: Any) -> str:
        return offer_of(self.kernel.core, self.call(op, **args), ASKED)

    def covers(self, offer: str, op: str, **args: Any) -> bool:
        return rule_holds(offer, asked_by(self.call(op, **args)), self.kernel.core.ops)


@pytest.fixture
async def desk() -> Any:
    async with opened(devices={"shop": a_shop()}) as kernel:
        yield Desk(kernel, await host(kernel))


@pytest.mark.parametrize("op", ["shop.put", "shop.do"])
async def test_an_offer_covers_its_call_and_no_other_value(desk: Desk, op: str) -> None:
    """offer-covers-its-call."""
    name = "to" if op == "shop.put" else "what"
    values = [*NASTY, *NUMBERS, None, [], ["bob"], ["bob", "bob"], {"a": 1}]
    for value in values:
        offer = desk.offer(op, **{name: value})
        assert desk.covers(offer, op, **{name: value}), value
        covered = [other for other in values if desk.covers(offer, op, **{name: other})]
        assert all(exact(other) == exact(value) for other in covered), (value, covered)


def exact(value: Any) -> Any:
    """A number by the value that is written: 0.1 is the decimal 0.10, and a truth value is no number."""
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return ("number", Decimal(str(value))) if is_number else (type(value), value)


async def test_flags_and_choices_are_pinned_and_what_is_left_open_is_named(desk: Desk) -> None:
    offer = desk.offer("shop.put")
    assert offer.endswith(" any text")
    assert desk.covers(offer, "shop.put", text="anything")
    for changed in ({"fast": True}, {"size": "l"}, {"kinds": []}, {"kinds": ["a"]}, {"box": "2"}, {"to": "eve"}):
        assert not desk.covers(offer, "shop.put", **changed), changed
    several = desk.offer("shop.put", kinds=["a"])
    assert EXACTLY in several, "a list cannot be pinned in the language"
    assert not desk.covers(several, "shop.put", kinds=["a"], text="other")


async def test_what_nothing_takes_back_is_pinned_in_every_argument_unless_sinks_are_declared(desk: Desk) -> None:
    offer = desk.offer("shop.run", path="/run.sh", stdin="ls")
    assert desk.covers(offer, "shop.run", path="/run.sh", stdin="ls")
    assert not desk.covers(offer, "shop.run", path="/run.sh", stdin="rm -rf /")
    assert desk.offer("shop.run", path="/a*b") == desk.offer("shop.run", path="/a?b") == ""


async def test_a_command_is_pinned_token_by_token_and_to_its_folder(desk: Desk) -> None:
    argv = ["grep", "*.py", "a b", "it's", "-r"]
    offer = desk.offer("shop.command", argv=argv)
    assert desk.covers(offer, "shop.command", argv=argv)
    for other in ([*argv, "x"], ["grep", "x.py", "a b", "it's", "-r"], ["grep", "*.py", "a", "b", "it's", "-r"], argv[:-1]):
        assert not desk.covers(offer, "shop.command", argv=other), other
    desk.process.cwd = "/elsewhere"
    assert not desk.covers(offer, "shop.command", argv=argv)


async def test_a_url_is_pinned_with_its_query_and_its_port(desk: Desk) -> None:
    offer = desk.offer("shop.get", url="https://api.example/x?id=1")
    assert desk.covers(offer, "shop.get", url="https://API.example:443/y/../x?id=1")
    for other in (
        "https://api.example/x?id=2",
        "https://api.example/x",
        "https://api.example:444/x?id=1",
        "http://api.example/x?id=1",
    ):
        assert not desk.covers(offer, "shop.get", url=other), other


@pytest.mark.parametrize("held", [0, UNTRUSTED, INTERNAL, SECRET, SECRET | UNTRUSTED])
async def test_an_offer_bounds_labels_by_those_of_its_call(desk: Desk, held: int) -> None:
    desk.process.label = held
    offer = desk.offer("shop.put")
    for label in (0, UNTRUSTED, INTERNAL, INTERNAL | UNTRUSTED, SECRET, SECRET | UNTRUSTED):
        desk.process.label = label
        assert desk.covers(offer, "shop.put") is (label | held == held), (label, offer)


async def test_there_is_no_offer_where_the_rule_would_not_be_the_only_one_or_would_mean_something_else(desk: Desk) -> None:
    core, call = desk.kernel.core, desk.call("shop.put")
    assert offer_of(core, call, []) == offer_of(core, call, [*ASKED, Asking("p:3", "digest", "")]) == ""
    assert desk.offer("shop.odd", flow={"integrity": "trusted"}) == "", "an argument that is called as the labels are"
    assert offer_of(core, desk.call("proc.relabel", remove=["untrusted"], why="x"), ASKED) == "", "the kernel itself asks"
