"""The pages on which a person answers an ask from elsewhere, on a real server: who may decide what, and what changes nothing."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

import agentos
from agentos.abi.records import AskRecord
from agentos.runtime.asklink import LINK_S_MAX
from agentos.testing import FakeClock
from tests.builders import advance, host, live, refused, rows, settled
from tests.room.broker.test_approvals import Later
from tests.room.broker.test_standing import TO_BOB
from tests.room.runtime.webhook_builders import a_desk, a_site, an_ask, newest, token_of

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.anyio


@pytest.fixture
async def tasks() -> Any:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def test_a_person_approves_on_the_page_and_the_process_goes_on(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        ask = await an_ask(kernel)
        link = await site.link(ask)
        page = await site.get(link)
        assert page.status == 200
        assert "a person looks at <every> file" in page.page.text
        assert "create `/letter.txt` (9 bytes)" in page.page.text
        done = await site.decide(link, "approve")
        assert (done.status, "ask 1 is approved" in done.text) == (200, True)
        assert (await kernel.process(ask.pid).wait()).value == "written"
        [note] = [row for row in rows(kernel, notes=True) if row.op == "note.answered"]
        assert b"webhook" in note.args


async def test_a_person_denies_on_the_page_and_says_why(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        ask = await an_ask(kernel)
        done = await site.decide(await site.link(ask), "deny", reason="not on a Friday")
        assert (done.status, "ask 1 is denied" in done.text) == (200, True)
        ended = await kernel.process(ask.pid).wait()
        assert "webhook said no: not on a Friday" in str(ended.error)
        assert not (tmp_path / "w" / "letter.txt").exists()


async def test_only_a_form_decides_and_a_hundred_looks_change_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        await settled(kernel)
        before = (kernel.core.journal.head, [record.seq for record in live(kernel, AskRecord)], sorted(tmp_path.rglob("*")))
        for number in range(100):
            query = "?decision=approve" if number % 2 else ""
            looked = await site.get(link + query, "HEAD" if number % 5 == 0 else "GET")
            assert looked.status == 200, "a query is no part of what a link says"
        assert before == (
            kernel.core.journal.head,
            [record.seq for record in live(kernel, AskRecord)],
            sorted(tmp_path.rglob("*")),
        )
        assert (await kernel.asks())[0].state == "pending"


async def test_a_link_is_spent_once_its_ask_is_answered_however_it_was(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        first, second = await an_ask(kernel), await an_ask(kernel, "/b.txt")
        link, other = await site.link(first), await site.link(second)
        form = (await site.get(link)).fields
        assert (await site.decide(link, "deny")).status == 200
        await kernel.answer(second.id, "deny", by="ann")
        for _ in range(3):
            assert (await site.post(link, {**form, "decision": "approve"})).status == 410
            assert (await site.get(link)).status == (await site.get(other)).status == 410
        answered = [row for row in rows(kernel, notes=True) if row.op == "note.answered"]
        assert len(answered) == 2


async def test_link_is_for_one_ask_and_no_altered_one_is_taken(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        token = token_of(link)
        other = token_of(await site.link(await an_ask(kernel, "/b.txt")))
        body, _, seal = token.partition(".")
        crossed = [
            f"{body}.{other.partition('.')[2]}",
            f"{other.partition('.')[0]}.{seal}",
            f"{body}.",
            f".{seal}",
            body,
            "",
            f"{token}.",
        ]
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = [f"{token[:-1]}{letter}" for letter in letters if letter != token[-1]]
        first = [f"{letter}{token[1:]}" for letter in "Aw_" if letter != token[0]]
        padded = [f"{token}=", f"{token}%3D", f"%00{token}", f"{token}/", f"{token}/..", "A" * 3_000]
        app = site  # all of them against the real server
        for text in [*crossed, *first, *last[:40], *padded]:
            assert (await app.get(f"{site.base}/asks/{text}")).status == 404, text


async def test_a_link_into_a_store_that_was_lost_opens_nothing_in_the_next(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with a_desk(tmp_path, store) as kernel:
        token = token_of(await kernel.ask_link((await an_ask(kernel)).id, base_url="https://a.example"))
    for each in tmp_path.glob("store.db*"):
        if not each.name.endswith("link-key"):
            each.unlink()
    async with a_desk(tmp_path, store) as kernel, a_site(kernel) as site:
        assert (await an_ask(kernel, "/other.txt")).id == 1, "the number is the same, and so is the key"
        assert (await site.get(f"{site.base}/asks/{token}")).status == 410


async def test_the_form_of_one_ask_is_of_no_use_for_another(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link, other = await site.link(await an_ask(kernel)), await site.link(await an_ask(kernel, "/b.txt"))
        form = (await site.get(link)).fields
        assert (await site.post(other, {**form, "decision": "approve"})).status == 403
        assert [ask.state for ask in await kernel.asks()] == ["pending", "pending"]


@pytest.mark.parametrize(
    ("status", "headers", "change"),
    [
        (403, {}, {"mark": ""}), (403, {}, {"mark": None}), (403, {}, {"mark": "0.ab"}), (403, {}, {"mark": "x.é"}),
        (403, {"Origin": "https://evil.example"}, {}), (403, {"Origin": "null"}, {}), (403, {"Sec_Fetch_Site": "cross-site"}, {}),
        (403, {"Sec_Fetch_Site": "same-site"}, {}), (421, {"Host": "evil.example"}, {}), (421, {"Host": "localhost"}, {}),
        (415, {"Content_Type": "text/plain"}, {}), (415, {"Content_Type": "multipart/form-data; boundary=x"}, {}),
        (400, {}, {"decision": "maybe"}), (400, {}, {"decision": None}), (400, {}, {"by": "root"}), (400, {}, {"edit": "{}"}),
        (400, {}, {"scope": "8h"}), (400, {}, {"scope": "forever"}), (400, {}, {"reason": "x" * 1_001}),
        (413, {}, {"reason": "x" * 70_000}),
    ],
)  # fmt: skip
async def test_a_decision_is_refused_that_the_page_did_not_send(
    tmp_path: Path, status: int, headers: dict[str, str], change: dict[str, Any]
) -> None:
    async with a_desk(tmp_path, policy='policy "p"\nask fs.write any * remember once') as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        form = {**(await site.get(link)).fields, "decision": "approve", **change}
        sent = {name: value for name, value in form.items() if value is not None}
        assert (await site.post(link, sent, **headers)).status == status
        assert (await kernel.asks())[0].state == "pending"


@pytest.mark.parametrize(
    "body", [b"", b"decision", b"decision=approve&decision=approve", b"\xff=1", b"a=%ff", b"&" * 50, b"{}"]
)
async def test_what_is_no_form_is_refused(tmp_path: Path, body: bytes) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        assert (await site.post(link, body, **kind)).status in (400, 403)
        assert (await kernel.asks())[0].state == "pending"


async def test_a_form_that_says_two_things_decides_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        mark = (await site.get(link)).fields["mark"]
        for pair in (
            "decision=deny&decision=approve",
            "decision=approve&scope=once&scope=project",
            f"decision=approve&mark={mark}",
        ):
            assert (await site.post(link, f"mark={mark}&{pair}".encode())).status == 400
        assert (await kernel.asks())[0].state == "pending"


async def test_a_form_that_breaks_off_decides_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        whole = f"mark={(await site.get(link)).fields['mark']}&decision=approve"
        parts = urlsplit(link)

        def half() -> None:
            connection = http.client.HTTPConnection(parts.netloc, timeout=5)
            connection.putrequest("POST", parts.path)
            connection.putheader("content-type", "application/x-www-form-urlencoded")
            connection.putheader("content-length", str(len(whole) + 10))
            connection.endheaders(whole.encode())
            connection.close()

        await anyio.to_thread.run_sync(half)
        assert (await site.get(link)).status == 200
        assert (await kernel.asks())[0].state == "pending"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_closed(tmp_path: Path, method: str) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        answered = await site.get(await site.link(await an_ask(kernel)), method)
        assert (answered.status, answered.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_of_two_decisions_at_once_one_wins(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        ask = await an_ask(kernel)
        links = [await site.link(ask, name) for name in ("ann", "bob")]
        forms = [(await site.get(link)).fields for link in links]
        statuses: list[int] = []

        async def press(link: str, form: dict[str, str], decision: str) -> None:
            statuses.append((await site.post(link, {**form, "decision": decision})).status)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(press, links[0], forms[0], "approve")
                group.start_soon(press, links[1], forms[1], "deny")
        assert sorted(statuses) == [200] + [410] * 7
        assert len([row for row in rows(kernel, notes=True) if row.op == "note.answered"]) == 1


async def test_links_and_forms_end_with_time(tmp_path: Path) -> None:
    policy = 'policy "p"\nask fs.write any * timeout 9d'
    async with a_desk(tmp_path, clock=FakeClock(), policy=policy) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        form = (await site.get(link)).fields
        advance(kernel, 3_700)
        assert (await site.post(link, {**form, "decision": "approve"})).status == 403, "an hour is what a form gets"
        assert (await site.get(link)).status == 200
        advance(kernel, LINK_S_MAX - 3_700)
        assert (await site.get(link)).status == 410
        assert (await kernel.asks())[0].state == "pending", "the ask itself waits on"


async def test_a_link_ends_with_its_ask(tmp_path: Path) -> None:
    policy = 'policy "p"\nask fs.write any * timeout 10m'
    async with a_desk(tmp_path, clock=FakeClock(), policy=policy) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel))
        advance(kernel, 600)
        assert (await site.get(link)).status == 410


async def test_a_changed_target_is_a_new_ask_that_the_old_link_does_not_open(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        first = await an_ask(kernel)
        link = await site.link(first)
        form = (await site.get(link)).fields
        (tmp_path / "w" / "letter.txt").write_text("somebody else's\n")
        assert (await site.post(link, {**form, "decision": "approve"})).status == 200, (
            "it was for what was there when it was asked"
        )
        with anyio.fail_after(5):
            while [ask.id for ask in await kernel.asks()] != [2]:  # noqa: ASYNC110 - asks have no event of their own
                await anyio.sleep(0.005)
        assert (await site.post(link, {**form, "decision": "approve"})).status == 410
        assert (tmp_path / "w" / "letter.txt").read_text() == "somebody else's\n"


async def test_what_nothing_takes_back_wants_its_verb_typed(tmp_path: Path, tasks: Any) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        process = await host(kernel, "bank.*")
        later = Later(process.call("bank.transfer", **TO_BOB))
        tasks.start_soon(later.run)
        link = await site.link(await newest(kernel))
        assert "Irreversible" in (await site.get(link)).text
        for typed in ({}, {"confirm": ""}, {"confirm": "Transfer"}, {"confirm": "bank.transfer"}):
            answered = await site.decide(link, "approve", **typed)
            assert (answered.status, "type transfer to approve" in answered.text) == (400, True)
        again = await site.decide(link, "approve")
        assert (await site.post(link, {**again.fields, "confirm": "transfer", "decision": "approve"})).status == 200
        await settled(kernel, lambda: later.value)
        assert later.value == "5 to bob"


async def test_a_question_is_answered_with_one_of_its_options(tmp_path: Path, tasks: Any) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        process = await host(kernel)
        later = Later(process.call("human.ask", question="tea?", options=["tea", 'cof"fee']))
        tasks.start_soon(later.run)
        link = await site.link(await newest(kernel))
        assert (await site.decide(link, "approve")).status == 400
        assert (await site.decide(link, "approve", value="beer")).status == 400
        for number in ("2", "-1", "01", "\u0661"):
            assert (await site.decide(link, "approve", value=number)).status == 400
        assert (await site.decide(link, "approve", value="1")).status == 200
        await settled(kernel, lambda: later.value)
        assert later.value == 'cof"fee'


async def test_a_wider_scope_is_stored_only_where_the_page_offers_it(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel), "ann")
        page = await site.get(link)
        assert 'allow fs.write "/letter.txt"' in page.page.text
        assert (await site.decide(link, "approve", scope="tree")).status == 200
        [grant] = await kernel.standing()
        assert (grant.scope, grant.by) == ("tree", "ann")


async def test_a_name_gets_no_link_to_what_it_may_not_answer(tmp_path: Path) -> None:
    people = {"ann": ["fs.write /letter.txt"], "ops": ["*"]}
    async with a_desk(tmp_path, people=people) as kernel, a_site(kernel) as site:
        letter, other = await an_ask(kernel), await an_ask(kernel, "/b.txt")
        for name in (None, "bob", "Ann"):
            assert await refused(site.link(letter, name)) == "denied.human"
        assert await refused(site.link(other, "ann")) == "denied.human"
        assert (await site.decide(await site.link(letter, "ann"), "approve")).status == 200
        assert (await site.decide(await site.link(other, "ops"), "deny")).status == 200


async def test_a_link_gives_no_right_that_its_name_has_lost(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
        link = await site.link(await an_ask(kernel), "ann")
        from agentos.kernel.people import People

        kernel.core.people = People({"ops": ["*"]}, kernel.core.ops)
        assert (await site.decide(link, "approve")).status == 403
        assert (await kernel.asks())[0].state == "pending"


async def test_an_address_that_asks_too_much_waits(tmp_path: Path) -> None:
    async with a_desk(tmp_path, clock=FakeClock()) as kernel, a_site(kernel) as site:
        statuses = [(await site.get(f"{site.base}/asks/x")).status for _ in range(125)]
        assert statuses == [404] * 120 + [429] * 5
        advance(kernel, 10)
        assert (await site.get(f"{site.base}/asks/x")).status == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://agents.example", "ftp://127.0.0.1", "https://", "https://me:x@a.example", "https://a.example/?q", "https://a.example/#x",
        "https://a.example\r\nX: y", "https://a.example/<b>", "//x", "javascript:1", "",
    ],
)  # fmt: skip
async def test_a_link_leads_to_no_address_that_can_be_read_on_the_way(tmp_path: Path, url: str) -> None:
    async with a_desk(tmp_path) as kernel:
        ask = await an_ask(kernel)
        assert await refused(kernel.ask_link(ask.id, base_url=url)) == "invalid.argument"
        link = await kernel.ask_link(ask.id, base_url="https://Agents.Example:443/desk/")
        assert link.startswith("https://agents.example/desk/asks/")


async def test_a_link_is_made_for_an_ask_that_waits_and_for_no_other(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel:
        ask = await an_ask(kernel)
        await kernel.answer(ask.id, "deny", by="ann")
        assert await refused(kernel.ask_link(ask.id, base_url="https://a.example")) == "invalid.state"
        assert await refused(kernel.ask_link(99, base_url="https://a.example")) == "invalid.argument"
        with pytest.raises(agentos.Invalid):
            await kernel.ask_link((await an_ask(kernel, "/c")).id, base_url="https://a.example", for_="x" * 201)
