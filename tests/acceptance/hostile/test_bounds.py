"""More than was given: limits split, raced, restarted or counted under another name, and capabilities that are widened or revived."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import agentos
from tests.acceptance.hostile.world import Case, World, a_world, check_refused, pid

pytestmark = pytest.mark.anyio

LIMITS = """policy "limits" version 1
allow bank.*, mail.*, proc.*, policy.* any *
limit bank.draw 100 of amount per 1h by account
limit bank.draw 4 per tree
limit bank.send 1 per process
limit bank.tip 1 per 1d by whom
limit mail.fail 1 per process
limit bank.pay 1 per tree
deny bank.wire when count(bank.draw) >= 1
deny bank.many when sum(bank.draw.amount) > 5
deny bank.iban when after(mail.read)
"""
WORKER = ("", "@register", {"image": agentos.Image.host("worker")})
KID = ("eve", "proc.spawn", {"image": "worker:1", "grant": ["bank.*"]}, "kid")
SEND = ("eve", "bank.send", {"note": "x"})


def draw(amount: Any, account: Any = "7", who: str = "eve") -> tuple[Any, ...]:
    return who, "bank.draw", {"account": account, "amount": amount}


def tip(whom: Any) -> tuple[Any, ...]:
    return "eve", "bank.tip", {"whom": whom}


AMOUNTS = [
    Case(f"amount {amount!r}", (draw(amount),), code, LIMITS)
    for amount, code in (
        (101, "denied.policy"),
        (100.01, "denied.policy"),
        (-5, "denied.policy"),
        (-0.01, "denied.policy"),
        (float("nan"), "invalid.argument"),
        (float("inf"), "invalid.argument"),
        (float("-inf"), "invalid.argument"),
        (Decimal("NaN"), "invalid.argument"),
        (Decimal("sNaN"), "invalid.argument"),
        (Decimal("1e9999"), "denied.policy"),
        (10**40, "denied.policy"),
        (Decimal("100.000000000000000001"), "denied.policy"),
        ("101", "denied.policy"),
        ("1.01e2", "denied.policy"),
        (True, "invalid.argument"),
        (None, "invalid.argument"),
        ([1], "invalid.argument"),
        ({"a": 1}, "invalid.argument"),
        (b"1", "invalid.argument"),
        ("", "invalid.argument"),
    )
]
SPENT = [
    Case("split", (draw(60), draw(40.0), draw(Decimal("0.000000000001"))), policy=LIMITS),
    Case("many small ones", (draw(1), draw(1), draw(1), draw(1), draw(1)), policy=LIMITS),
    Case("free calls count", (draw(0), draw(0), draw(0), draw(0), draw(0)), policy=LIMITS),
    Case("other accounts, one tree", (draw(1, "1"), draw(1, "2"), draw(1, "3"), draw(1, "4"), draw(1, "5")), policy=LIMITS),
    Case("after a crash", (draw(60), ("", "@crash"), draw(41)), policy=LIMITS),
    Case("a moment too early", (draw(60), ("", "@advance", {"seconds": 3_599}), draw(41)), policy=LIMITS),
    Case("by a child", (WORKER, KID, draw(60), draw(41, who="kid")), policy=LIMITS),
    Case(
        "by children",
        (WORKER, KID, draw(1, "1"), draw(1, "2", "kid"), draw(1, "3"), draw(1, "4", "kid"), draw(1, "5")),
        policy=LIMITS,
    ),
    Case("by a stranger, one account", (draw(60), draw(41, who="ann")), policy=LIMITS),
    Case(
        "by a fork",
        (
            ("eve", "proc.fork", {"grant": ["bank.*"]}, "kid"),
            ("eve", "bank.pay", {"to": "x"}),
            ("kid", "bank.pay", {"to": "x"}),
        ),
        policy=LIMITS,
    ),
    Case(
        "by a fork after a crash",
        (
            ("eve", "proc.fork", {"grant": ["bank.*"]}, "kid"),
            ("eve", "bank.pay", {"to": "x"}),
            ("", "@crash"),
            ("kid", "bank.pay", {"to": "x"}),
        ),
        policy=LIMITS,
    ),
    Case(
        "by a child that outlives its parent",
        (
            WORKER,
            KID,
            ("eve", "bank.pay", {"to": "x"}),
            ("", "@exit", {"who": "eve", "value": None}),
            ("", "@grant", {"who": "kid", "text": "bank.pay"}),
            ("kid", "bank.pay", {"to": "x"}),
        ),
        policy=LIMITS,
    ),
    Case(
        "new layer",
        (SEND, ("eve", "policy.update", {"text": 'restrict "own" version 1\nlimit bank.send 9 per process\n'}), SEND),
        policy=LIMITS,
    ),
    Case(
        "layer of a child",
        (
            WORKER,
            ("eve", "bank.pay", {"to": "x"}),
            ("eve", "proc.spawn", {"image": "worker:1", "grant": ["bank.*"], "policy": LIMITS}, "kid"),
            ("kid", "bank.pay", {"to": "x"}),
        ),
        policy=LIMITS,
    ),
    Case("number and float", (tip(1), tip(1.0)), policy=LIMITS),
    Case("number and decimal", (tip(1), tip(Decimal("1.00"))), policy=LIMITS),
    Case("zero and minus zero", (tip(0.0), tip(-0.0)), policy=LIMITS),
    Case("word again", (tip("bob"), tip("bob")), policy=LIMITS),
    Case("two lists", (tip([1]), tip([2])), policy=LIMITS),
    Case("nothing and nothing", (tip(None), tip(None)), policy=LIMITS),
    Case("count", (draw(1), ("eve", "bank.wire", {"to": "x"})), policy=LIMITS),
    Case("sum", (draw(3), draw(3), ("eve", "bank.many", {"to": []})), policy=LIMITS),
    Case("after", (("eve", "mail.read"), ("eve", "bank.iban")), policy=LIMITS),
    Case("after and a crash", (("eve", "mail.read"), ("", "@crash"), ("eve", "bank.iban")), policy=LIMITS),
    Case("count of a child", (WORKER, KID, draw(1, who="kid"), ("eve", "bank.wire", {"to": "x"})), policy=LIMITS),
]

OPEN = 'policy "open" version 1\nallow * any *\n'
HELD = ("bank.draw acct/7 when amount <= 100 uses 2 for 30m", "cap.*", "proc.*", "msg.*", "obj.*")
BARE = ("eve", "proc.spawn", {"image": "worker:1", "grant": ["cap.*", "proc.*"]}, "kid")


def cap_of(who: str, op: str = "bank.draw") -> Any:
    """Return the handle of the capability of a process for an op."""
    return lambda world: next(
        cap.record.cap for cap in world.kernel.core.caps if cap.holder.pid == world.kept[who] and op in cap.spec.ops
    )


def derive(text: str, to: str = "eve", cap: Any = None, who: str = "eve") -> tuple[Any, ...]:
    return who, "cap.derive", {"cap": cap or cap_of("eve"), "text": text, "to": pid(to)}


def spawned(*grant: str) -> tuple[Any, ...]:
    return "eve", "proc.spawn", {"image": "worker:1", "grant": list(grant)}, "kid"


def held(name: str, *steps: tuple[Any, ...], code: str = "denied.capability") -> Case:
    return Case(name, (WORKER, *steps), code, OPEN, HELD)


WIDER = [
    held(f"{how.__name__} {text}", *((derive(text),) if how is derive else (spawned(text)[:3],)), code=code)
    for text, code in (
        ("bank.draw acct/8 when amount <= 1 uses 1", "denied.capability"),
        ("bank.draw acct/** when amount <= 1 uses 1", "denied.capability"),
        ("bank.draw acct/7/x when amount <= 1 uses 1", "denied.capability"),
        ("bank.draw acct/7 when amount <= 1 uses 3", "denied.capability"),
        ("bank.draw acct/7 when amount <= 1", "denied.capability"),
        ("bank.* acct/7 uses 1", "denied.capability"),
        ("*", "denied.capability"),
        ("bank.pay", "denied.capability"),
        ("bank.draw acct/7 when amout <= 1 uses 1", "invalid.argument"),
        ("bank.nothing", "invalid.argument"),
        ("bank.draw acct/7 uses -1", "invalid.argument"),
        ("bank.draw acct/7 uses 99999999999999999999", "denied.capability"),
        ("", "invalid.argument"),
        ("bank.draw acct/7 for 0s uses 1", "invalid.argument"),
        ("bank.draw\nbank.pay", "denied.capability"),
    )
    for how in (derive, spawned)
]
REVIVED = [
    held("condition", draw(101)),
    held("other resource", draw(1, "8")),
    held("path in an id", draw(1, "7/../8")),
    held("pattern in an id", draw(1, "*")),
    held("quoted id", draw(1, "%37")),
    held("empty id", draw(1, "")),
    held("used up", draw(1), draw(1), draw(1)),
    held("used up and a crash", draw(1), draw(1), ("", "@crash"), draw(1)),
    held("expired", ("", "@advance", {"seconds": 1_801}), draw(1)),
    held("expired after a crash", ("", "@advance", {"seconds": 1_801}), ("", "@crash"), draw(1)),
    held(
        "expired, derived before",
        spawned("bank.draw acct/7 when amount <= 1 uses 1 for 24h"),
        ("", "@advance", {"seconds": 1_801}),
        draw(1, who="kid"),
    ),
    held("uses given away", spawned("bank.draw acct/7 when amount <= 1 uses 2"), draw(1)),
    held("uses given away, taken back by nobody", spawned("bank.draw acct/7 uses 1"), draw(1, who="kid"), draw(1, who="kid")),
    held(
        "uses doubled by a fork",
        ("eve", "proc.fork", {"grant": ["bank.draw acct/7 uses 2"]}, "kid"),
        draw(1, who="kid"),
        draw(1),
    ),
    held("fork without a grant", ("eve", "proc.fork", {}, "kid"), draw(1, who="kid")),
    held("child without a grant", BARE, draw(1, who="kid")),
    held("revoked", ("", "@revoke", {"cap": cap_of("eve")}), draw(1)),
    held(
        "revoked, by a child", spawned("bank.draw acct/7 uses 1"), ("", "@revoke", {"cap": cap_of("eve")}), draw(1, who="kid")
    ),
    held("revoked and a crash", ("", "@revoke", {"cap": cap_of("eve")}), ("", "@crash"), draw(1)),
    held("revoked parent derives", ("eve", "clock.now", {}, "x"), ("eve", "cap.drop", {"cap": cap_of("eve")}), draw(1)),
    held("to a stranger", derive("bank.draw acct/7 uses 1", to="ann")),
    held("granted to a stranger", ("eve", "cap.grant", {"text": "bank.draw acct/7 uses 1", "to": pid("ann")})),
    held("of a stranger", derive("bank.draw acct/7 uses 1", cap=cap_of("ann")), code="invalid.argument"),
    held("dropped for a stranger", ("eve", "cap.drop", {"cap": cap_of("ann")}), code="invalid.argument"),
    held("revoked for a stranger", ("eve", "cap.revoke", {"cap": cap_of("ann")}), code="invalid.argument"),
    held("handle in a message", BARE, derive("bank.draw acct/7 uses 1", to="kid", who="kid"), code="invalid.argument"),
    held("child kills its parent", BARE, ("kid", "proc.signal", {"pid": pid("eve"), "signal": "kill"})),
    held("child asks about its parent", BARE, ("kid", "proc.info", {"pid": pid("eve")})),
    held("asked with nobody there", ("eve", "cap.request", {"text": "bank.draw acct/8", "why": "please"}), code="denied.human"),
    held("no such op", ("eve", "ask.answer", {"ask": 1, "verdict": "approve"}), code="invalid.op"),
    held("answer as an op", ("eve", "human.answer", {"ask": 1}), code="invalid.op"),
    held(
        "object of another process",
        ("eve", "obj.get", {"name": "x", "namespace": lambda world: f"proc/{world.kept['ann']}/y"}),
        code="unavailable.missing",
    ),
]
CASES = AMOUNTS + SPENT + WIDER + REVIVED


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_nothing_is_had_that_was_not_given(case: Case, tmp_path: Path) -> None:
    await check_refused(case, tmp_path)


@pytest.mark.parametrize(
    ("op", "args", "most"),
    [
        ("draw", {"account": "7", "amount": 40}, 2),
        ("send", {"note": "x"}, 1),
        ("tip", {"whom": "bob"}, 1),
        ("pay", {"to": "x"}, 1),
    ],
)
async def test_calls_that_race_get_no_more_than_there_is(op: str, args: dict[str, Any], most: int, tmp_path: Path) -> None:
    async with a_world(Case("race", (), policy=LIMITS), tmp_path) as world:
        outcomes = await process_of(world).calls([(f"bank.{op}", args)] * 8)
        assert [each.ok for each in outcomes].count(True) == len(world.done) == most
        assert {each.error.code for each in outcomes if each.error is not None} == {"denied.policy"}


async def test_what_failed_counts_and_what_was_denied_does_not(tmp_path: Path) -> None:
    async with a_world(Case("failed", (), policy=LIMITS), tmp_path) as world:
        for code in ("unavailable.device", "denied.policy"):
            with pytest.raises(agentos.AgentOSError) as caught:
                await world.step("eve", "mail.fail")
            assert caught.value.code == code
        for amount in (101, -1):
            with pytest.raises(agentos.Denied):
                await world.step(*draw(amount))
        await world.step(*draw(100))


async def test_a_clock_that_goes_back_gives_no_room_back(tmp_path: Path) -> None:
    async with a_world(Case("clock", (), policy=LIMITS), tmp_path) as world:
        await world.step(*draw(100))
        world.clock._now -= 7_200
        with pytest.raises(agentos.Denied):
            await world.step(*draw(1))
        world.clock._now += 7_200 + 3_599
        with pytest.raises(agentos.Denied):
            await world.step(*draw(1))
        assert len(world.done) == 1


async def test_what_was_given_is_had(tmp_path: Path) -> None:
    async with a_world(Case("control", (), policy=OPEN, grant=HELD), tmp_path) as world:
        await world.step(*WORKER)
        await world.step(*spawned("bank.draw acct/7 uses 1"))
        await world.step(*draw(100, who="kid"))
        await world.step(*draw(100))
        assert [each[1:] for each in world.done] == [("7", 100), ("7", 100)]


def process_of(world: World) -> Any:
    return world.kernel.process(world.kept["eve"])
