"""A device from Python functions: what is mounted, what is refused, what a call does."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from agentos.abi import codec
from agentos.abi.syscall import NOT_STARTED, UNKNOWN
from agentos.devices.app import Call, Device
from agentos.errors import Denied, Invalid, KernelPanic, Unavailable
from tests.room.devices.door import Door

pytestmark = pytest.mark.anyio


class Receipt(BaseModel):
    id: str
    amount: Decimal


@dataclass
class Balance:
    amount: int


def bank() -> Device:
    device = Device("bank", secrets={"TOKEN": "s3cret"})

    @device.op(resource="acct/{account}", effect="keyed", sinks=("to", "amount"), trusted=("amount",))
    async def transfer(ctx: Call, account: str, to: str, amount: Decimal) -> Receipt:
        """Send money."""
        return Receipt(id=f"{ctx.key}-{ctx.secrets['TOKEN']}", amount=amount)

    @transfer.reconcile
    async def _(ctx: Call, account: str, to: str, amount: Decimal) -> Any:
        return {"a": NOT_STARTED, "b": UNKNOWN}.get(to) or Receipt(id=ctx.key, amount=amount)

    @device.op(name="balance", effect="pure")
    def current(account: str = "7") -> Balance:
        return Balance(int(account))

    return device


async def test_the_signature_is_the_declaration() -> None:
    op = Door(bank().syscalls()).served["bank.transfer"].op
    assert (op.arg_names, op.doc, op.effect, op.sinks) == (
        ("account", "to", "amount"),
        "Send money.",
        "keyed",
        {"to", "amount"},
    )
    assert op.schema["required"] == ["account", "to", "amount"]
    args = op.validate({"account": "7/x", "to": "b", "amount": "1.50"})
    assert args["amount"] == Decimal("1.50")
    assert [resource.text for resource in op.render(args, "/", 1)] == ["acct/7%2Fx"]


async def test_a_call_gets_its_context_and_its_result_survives_the_journal() -> None:
    door = Door(bank().syscalls())
    receipt = await door("bank.transfer", call_key="k", account="7", to="c", amount="2")
    assert receipt == Receipt(id="k-s3cret", amount=Decimal(2))
    op = door.served["bank.transfer"].op
    assert op.restore(codec.plain(receipt)) == receipt


async def test_without_a_resource_the_device_and_op_are_the_resource() -> None:
    op = Door(bank().syscalls("other")).served["other.balance"].op
    assert op.render(op.validate({}), "/", 1)[0].text == "other/balance"


async def test_secrets_are_not_shown_by_the_context() -> None:
    assert "s3cret" not in repr(Call(1, 2, "k", secrets={"TOKEN": "s3cret"}))


async def test_the_decorated_function_is_still_the_plain_function() -> None:
    device = Device("d")

    @device.op
    def double(n: int) -> int:
        """Twice."""
        return n * 2

    assert (double(4), double.__name__, double.__doc__) == (8, "double", "Twice.")
    assert await Door(device.syscalls())("d.double", n="4") == 8
    assert device.syscalls()[0].op.effect == "once"


async def test_a_synchronous_function_runs_in_a_thread_and_leaves_the_loop_free() -> None:
    device, turns = Device("d"), []
    release = threading.Event()

    @device.op
    def block(ctx: Call) -> str:
        release.wait(5)
        return threading.current_thread().name

    async with anyio.create_task_group() as group:

        async def call() -> None:
            turns.append(await Door(device.syscalls())("d.block"))

        group.start_soon(call)
        await anyio.sleep(0.01)
        release.set()
    assert turns != [threading.current_thread().name]


@pytest.mark.parametrize("to", ["a", "b", "c"])
async def test_reconcile_answers_with_the_verdict_or_the_result(to: str) -> None:
    verdict = await Door(bank().syscalls()).reconcile("bank.transfer", call_key="k", account="7", to=to, amount=1)
    assert verdict == {"a": NOT_STARTED, "b": UNKNOWN}.get(to, Receipt(id="k", amount=Decimal(1)))


def raising(error: BaseException, is_async: bool) -> Device:
    device = Device("d")

    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    device.op(name="fail")(fail_async if is_async else fail)
    return device


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_a_function_raises_is_the_device_saying_no(is_async: bool) -> None:
    with pytest.raises(Unavailable, match=r"`d\.fail` failed: ValueError: too poor") as caught:
        await Door(raising(ValueError("too poor"), is_async).syscalls())("d.fail")
    assert (caught.value.code, caught.value.may_have_happened) == ("unavailable.device", False)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "error", [Denied("policy", "no"), Unavailable("timeout", "slow", may_have_happened=True), KernelPanic("x")]
)
async def test_errors_of_agentos_pass_unchanged(is_async: bool, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await Door(raising(error, is_async).syscalls())("d.fail")
    assert caught.value is error


async def test_cancellation_passes_and_an_abandoned_thread_does_not_hold_the_caller() -> None:
    device, release = Device("d"), threading.Event()

    @device.op
    def block() -> None:
        release.wait(5)

    with anyio.move_on_after(0.02) as scope:
        await Door(device.syscalls())("d.block")
    assert scope.cancelled_caught
    release.set()


async def test_threads_left_behind_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.devices.threads.THREADS_MAX", 2)
    device, release = Device("d"), threading.Event()

    @device.op
    def block() -> None:
        release.wait(5)

    door = Door(device.syscalls())
    for _ in range(2):
        with anyio.move_on_after(0.02):
            await door("d.block")
    with pytest.raises(Unavailable, match="still run"):
        await door("d.block")
    release.set()
    await anyio.sleep(0.05)
    await door("d.block")


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_late_attribute_is_decided_from_any_thread(is_async: bool) -> None:
    device = Device("net")

    def fetch(ctx: Call, host: str) -> str:
        ctx.recheck("dest_ip", "/private")
        return "fetched"

    async def fetch_async(ctx: Call, host: str) -> str:
        return fetch(ctx, host)

    device.op(name="fetch", late={"dest_ip": str})(fetch_async if is_async else fetch)
    door = Door(device.syscalls(), denied=["/private"])
    with pytest.raises(Denied):
        await door("net.fetch", host="h")
    assert door.rechecked == [("dest_ip", "/private", 0)]


def plain(a: int) -> int:
    return a


def untyped_argument(a) -> int:  # type: ignore[no-untyped-def]
    return 1


def untyped_result(a: int):  # type: ignore[no-untyped-def]
    return 1


def unstorable(a: threading.Thread) -> int:
    return 1


def unstorable_result(a: int) -> threading.Thread:
    raise NotImplementedError


def starred(*a: int) -> int:
    return 1


def unknown_type(a: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


@pytest.mark.parametrize(
    ("function", "options", "why"),
    [
        (plain, {"effect": "keyed"}, "takes no `ctx`"),
        (plain, {"effect": "probeable"}, "no reconcile"),
        (plain, {"effect": "local"}, "cannot be local"),
        (plain, {"effect": "twice"}, "no effect class"),
        (plain, {"kind": "file"}, "no kind"),
        (plain, {"kind": "path"}, "one argument"),
        (plain, {"kind": "url", "resource": "x/{a}"}, "one argument"),
        (plain, {"resource": "acct/{b}"}, "no argument `b`"),
        (plain, {"sinks": ["b"]}, "no argument `b`"),
        (plain, {"name": "bad-name"}, "not an op name"),
        (untyped_argument, {}, "no type for `a`"),
        (untyped_result, {}, "no type for `return`"),
        (unstorable, {}, "cannot be stored"),
        (unstorable_result, {}, "cannot be stored"),
        (starred, {}, "cannot be an argument"),
        (unknown_type, {}, "Missing"),
    ],
)
def test_what_is_not_declared_completely_is_refused_at_mount(function: Any, options: dict[str, Any], why: str) -> None:
    device = Device("d")
    device.op(**{"name": "op", **options})(function)
    with pytest.raises(Invalid, match=why) as caught:
        device.syscalls()
    assert caught.value.code == "invalid.op"


def test_a_trusted_field_must_exist_and_a_name_only_once() -> None:
    device = Device("d")
    device.op(trusted="nothing", name="op")(_balance)
    with pytest.raises(Invalid, match="no field `nothing`"):
        device.syscalls()
    with pytest.raises(Invalid, match="declared twice"):
        device.op(name="op")(plain)


def _balance() -> Balance:
    return Balance(1)


async def test_functions_declared_elsewhere_make_a_device() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}, "k": {"type": "integer"}}, "required": ["q"]}
    ops = {"plain": plain, "safe": (plain, {"effect": "pure", "resource": "n/{a}"}), "search": (schema, lambda *args: args)}
    with pytest.raises(Invalid, match="cannot be an argument"):
        Device.from_functions("d", ops).syscalls()

    def search(q: Any, k: Any = 10) -> Any:
        """Find."""
        return {"q": q, "k": k}

    door = Door(Device.from_functions("d", {**ops, "search": (schema, search, {"effect": "repeatable"})}).syscalls())
    assert await door("d.safe", a=1) == 1
    assert await door("d.search", q="x") == {"q": "x", "k": 10}
    assert door.served["d.search"].op.effect == "repeatable"
    with pytest.raises(Invalid, match=r"invalid\.argument"):
        await door("d.search", q=["x"])


@pytest.mark.parametrize("declared", [(plain, {"colour": 1}), ("plain", {}), ({"type": "object"}, "plain")])
def test_an_entry_that_is_no_declaration_is_refused(declared: Any) -> None:
    with pytest.raises(Invalid, match=r"invalid\.op"):
        Device.from_functions("d", {"op": declared})
