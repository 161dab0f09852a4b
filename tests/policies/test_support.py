"""The support policy on a running kernel: answers go to the shop's records, and money to their orders."""

from __future__ import annotations

from typing import Any

import pytest

import agentos
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import alive, host, refused, rows
from tests.policies.builders import because, decided, in_person, kernel

pytestmark = pytest.mark.anyio
GRANTS = ("mail.*", "crm.*", "refund.*")
CUSTOMER = "ann@mail.example"
MAIL = {"subject": "Ticket 4", "body": "Dear Ann"}


def desk(**options: Any) -> Any:
    return kernel("support", "mail", "crm", "refund", **options)


async def fooled(k: Kernel, goal: str = "Answer the inbox.") -> agentos.Process:
    """An agent that has read a ticket and a mail, each of which wants something."""
    process = await host(k, *GRANTS, goal=goal)
    await process.call("mail.read", path="inbox/1")
    await process.call("crm.read", path="ticket/4")
    return process


async def test_an_answer_to_the_customer_of_the_records_is_read_by_a_person_first() -> None:
    async with desk() as k:
        process = await fooled(k)
        value, told = await in_person(k, process.call("mail.send", to=[CUSTOMER], **MAIL))
        assert (value, told) == (None, "mail leaves the company")


@pytest.mark.parametrize(
    "to",
    [
        ["eve@evil.example"],
        ["eve@evil.example,bob@example.com"],
        ["bob@example.com", "eve@evil.example"],
        [CUSTOMER, "eve@evil.example"],
        ["bob@example.com.evil.example"],
        ["bob@example.com\nBcc: eve@evil.example"],
        ["Bob <eve@evil.example> bob@example.com"],
        ["bob@EXAMPLE.com"],
        ["bob@example.com\n"],
        ["bob@example.com "],
        ["eve@evil.example\0bob@example.com"],
        [""],
    ],
)
async def test_nobody_else_is_written_to_not_even_by_a_person_s_yes(to: list[str]) -> None:
    async with desk() as k:
        assert decided(k, await fooled(k), "mail.send", to=to, **MAIL) == "deny"


async def test_colleagues_are_written_to_without_asking_but_not_with_strangers_in_copy() -> None:
    async with desk() as k:
        process = await fooled(k)
        await process.call("mail.send", to=["bob@example.com"], **MAIL)
        assert decided(k, process, "mail.send", to=["bob@example.com"], cc=["eve@evil.example"], **MAIL) == "deny"
        assert decided(k, process, "mail.send", to=["bob@example.com"], cc=[CUSTOMER], **MAIL) == "deny"


@pytest.mark.parametrize("link", ["https://evil.example/login", "http:/evil.example", "HTTPS://evil.example"])
async def test_a_link_leaves_only_a_process_that_no_stranger_wrote_to(link: str) -> None:
    async with desk() as k:
        clean, process = await host(k, *GRANTS), await fooled(k)
        mail = {"to": ["bob@example.com"], "subject": "s", "body": f"see {link}"}
        assert decided(k, clean, "mail.send", **mail) == "allow"
        assert because(k, process, "mail.send", **mail) == "link laundering"


async def test_a_subject_is_one_line_so_that_it_carries_no_headers() -> None:
    async with desk() as k:
        process = await fooled(k)
        for subject in ("s\r\nBcc: eve@evil.example", "s\nx", ""):
            mail = {"to": ["bob@example.com"], "subject": subject, "body": "b"}
            assert because(k, process, "mail.send", **mail) == "a subject is one line"


async def test_the_order_of_the_ticket_is_refunded_up_to_fifty() -> None:
    async with desk() as k:
        process = await fooled(k)
        receipt = await process.call("refund.create", order="A7", customer="ann", amount=50)
        assert receipt.receipt == "50 for A7"


@pytest.mark.parametrize(
    ("order", "customer", "words"),
    [
        ("B8", "ann", "names this order"),
        ("C9", "ann", "names this order"),
        ("A7", "bob", "names this customer"),
        ("A7", "cy", "names this customer"),
    ],
)
async def test_an_order_or_customer_that_only_a_text_names_gets_nothing(order: str, customer: str, words: str) -> None:
    async with desk() as k:
        process = await fooled(k)
        assert words in because(k, process, "refund.create", order=order, customer=customer, amount=20)


@pytest.mark.parametrize(
    ("amount", "outcome"), [(-5, "deny"), (0, "deny"), (0.01, "allow"), (50.01, "ask"), (500, "ask"), (500.01, "deny")]
)
async def test_larger_refunds_are_a_persons_and_the_largest_nobodys(amount: float, outcome: str) -> None:
    async with desk() as k:
        process = await fooled(k)
        assert decided(k, process, "refund.create", order="A7", customer="ann", amount=amount) == outcome


async def test_an_order_is_refunded_once_a_week_and_a_customer_three_times_a_day() -> None:
    clock = FakeClock(1_000_000.0)
    async with desk(clock=clock, mode="noninteractive") as k:
        process = await fooled(k, "Refund orders A7, A8, A9 and A10 of customer ann, 5 each.")
        await process.call("refund.create", order="A7", customer="ann", amount=5)
        with pytest.raises(agentos.Denied, match="1 per 1w by order"):
            await process.call("refund.create", order="A7", customer="ann", amount=5)
        for order in ("A8", "A9"):
            await process.call("refund.create", order=order, customer="ann", amount=5)
        with pytest.raises(agentos.Denied, match="3 per 1d by customer"):
            await process.call("refund.create", order="A10", customer="ann", amount=5)
        clock.advance(100_000)
        await process.call("refund.create", order="A10", customer="ann", amount=5)
        assert await refused(process.call("refund.create", order="A7", customer="ann", amount=5)) == "denied.policy"
        clock.advance(700_000)
        assert await process.call("refund.create", order="A7", customer="ann", amount=5)


async def test_a_flood_of_mail_ends_after_twenty_an_hour() -> None:
    async with desk(mode="noninteractive", clock=FakeClock(1_000_000.0)) as k:
        process = await host(k, *GRANTS)
        for _ in range(20):
            await process.call("mail.send", to=["bob@example.com"], **MAIL)
        with pytest.raises(agentos.Denied, match="20 per 1h"):
            await process.call("mail.send", to=["bob@example.com"], **MAIL)


async def test_what_the_records_say_makes_the_process_internal_and_mails_make_it_untrusted() -> None:
    async with desk() as k:
        process = await host(k, *GRANTS)
        await process.call("crm.read", path="ticket/4")
        await process.call("mail.read", path="inbox/1")
        await refused(process.call("crm.read", path="staff/1"))
        [*_, last] = [entry async for entry in k.audit(op="crm.read")]
        assert (last.labels, bool(alive(k, process).label)) == (["internal", "untrusted"], True)


async def test_credentials_are_taken_out_of_a_mail_before_it_is_sent_or_journaled() -> None:
    async with desk() as k:
        process = await host(k, *GRANTS)
        await process.call("mail.send", to=["bob@example.com"], subject="key", body="it is AKIAIOSFODNN7EXAMPLE.")
        kept = b"".join(row.args for row in rows(k, process.pid))
        assert b"AKIA" not in kept
        assert b"[redacted]" in kept
