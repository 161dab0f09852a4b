"""The six worked examples load, and decide what their comments say, once the devices that they name exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentos.abi.labels import SECRET, UNTRUSTED
from agentos.abi.op import Op, OpTable
from agentos.abi.ops import builtin
from agentos.policy import Layer, Stack, Verdict, check_text, render_errors
from tests.unit.policy.builders import known, op

EXAMPLES = Path(__file__).parent / "examples"


def _read(path: str) -> dict[str, Any]: ...  # type: ignore[empty-body]


def _send(to: list[str], subject: str, body: str, cc: list[str] = []) -> None: ...  # noqa: B006


def _refund(order: str, amount: float, customer: str) -> None: ...


def _account(account: str) -> dict[str, Any]: ...  # type: ignore[empty-body]


def _transfer(account: str, to: str, amount: float) -> None: ...


def _password(password: str) -> None: ...


def _grant(cap: int, text: str, to: int) -> int: ...  # type: ignore[empty-body]


def _table() -> OpTable:
    table = builtin()
    made = [
        op("mail.read", _read, "repeatable", "id:{path:path}"),
        op("mail.send", _send, "once", "id:mail", sinks=("to", "subject", "body")),
        op("crm.read", _read, "repeatable", "id:{path:path}"),
        op("refund.create", _refund, "once", "id:order/{order}", sinks=("amount",)),
        op("bank.balance", _account, "repeatable", "id:acct/{account}"),
        op("bank.history", _account, "repeatable", "id:acct/{account}"),
        op("bank.bill", _account, "repeatable", "id:acct/{account}"),
        op("bank.transfer", _transfer, "keyed", "id:acct/{account}", sinks=("to", "amount")),
        op("bank.set_password", _password, "once", "id:bank", sinks=("password",)),
        op("cap.grant", _grant, "local", "id:{cap}"),
    ]
    for extra in made:
        if extra.name not in table:
            table.add(extra)
    return table


TABLE = _table()


def example(name: str) -> Layer:
    report = check_text((EXAMPLES / f"{name}.policy").read_text(), source=f"{name}.policy", table=TABLE)
    assert report.layer is not None, render_errors(report.errors)
    return report.layer


def decide(name: str, op_name: str, facts: dict[str, Any], **args: Any) -> Verdict:
    found: Op = TABLE.find(op_name)
    values = found.validate(args)
    return Stack([example(name)]).decide(found, found.render(values, "/", 1), values, facts)


@pytest.mark.parametrize("name", ["banking", "coding", "research", "speculative", "support", "toolmaker"])
def test_an_example_loads(name: str) -> None:
    assert example(name).rules
    assert {path.stem for path in EXAMPLES.iterdir()} == {
        "banking",
        "coding",
        "research",
        "speculative",
        "support",
        "toolmaker",
    }


@pytest.mark.parametrize(
    ("to", "amount", "outcome"),
    [
        ("Bob", 50.0, "allow"),
        ("Eve", 50.0, "ask"),
        ("Bob", 70.0, "ask"),
        ("Eve", 600.0, "deny"),
        ("Bob", 600.0, "ask"),
        ("Cy", 50.0, "ask"),
    ],
)
def test_money_goes_to_whom_the_user_named_else_somebody_is_asked(to: str, amount: float, outcome: str) -> None:
    facts = known(
        {"Bob": "prompt", 50.0: ("result(bank.bill).amount", UNTRUSTED), "Eve": ("result(bank.history).body", UNTRUSTED)}
    )
    found = decide("banking", "bank.transfer", facts, account="7", to=to, amount=amount)
    assert found.outcome == outcome
    assert found.question == (f'Pay {amount} to "{to}"? It is not in your request.' if outcome == "ask" else "")


def test_a_password_never_comes_from_a_document() -> None:
    facts = known({"hunter2": ("result(mail.read).body", UNTRUSTED)})
    assert decide("banking", "bank.set_password", facts, password="hunter2").outcome == "deny"
    assert decide("banking", "bank.set_password", facts, password="other").outcome == "ask"


def test_secret_data_may_not_leave_and_unknown_data_neither() -> None:
    for facts, outcome in ((known(), "allow"), (known(label=SECRET), "deny"), ({}, "deny")):
        assert decide("coding", "net.fetch", facts, url="https://docs.example.org/a").outcome == outcome


def test_speculation_writes_to_the_overlay_only() -> None:
    for facts, outcome in (({"overlay": True}, "allow"), ({"overlay": False}, "deny"), ({}, "deny")):
        assert decide("speculative", "fs.write", facts, path="/a", text="x").outcome == outcome
    assert decide("speculative", "exec.run", {"overlay": True}, argv=["ls"], snapshot="off").outcome == "deny"


def test_mail_to_strangers_is_asked_about_only_where_the_address_is_grounded() -> None:
    facts = known({"mailto:a@x.example": "result(crm.read).email"})
    mail: dict[str, Any] = {"subject": "s", "body": "b"}
    assert decide("support", "mail.send", facts, to=["mailto:me@example.com"], **mail).outcome == "allow"
    assert decide("support", "mail.send", facts, to=["mailto:a@x.example"], **mail).outcome == "ask"
    assert decide("support", "mail.send", facts, to=["mailto:a@x.example", "mailto:b@x.example"], **mail).outcome == "deny"
    linked = {"subject": "s", "body": "see https://x.example"}
    assert decide("support", "mail.send", known(label=UNTRUSTED), to=["mailto:me@example.com"], **linked).outcome == "deny"


def test_tools_made_from_untrusted_content_are_not_installed() -> None:
    assert decide("toolmaker", "tool.install", known(label=UNTRUSTED), digest="x").outcome == "deny"
    assert decide("toolmaker", "tool.install", known(), digest="x").outcome == "ask"
