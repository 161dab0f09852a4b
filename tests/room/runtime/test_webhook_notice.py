"""Notices of asks: signed, scrubbed, tried again, and never a way to anything but the link's page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.codec import decode
from agentos.runtime import notice
from agentos.runtime.client import connect
from agentos.runtime.notice import signature_of
from tests.builders import host, refused, rows
from tests.room.broker.test_approvals import Later
from tests.room.runtime.webhook_builders import Endpoint, a_desk, a_site, an_ask, an_endpoint, newest

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.anyio

BASE = "https://agents.example"
TOKEN = "ghp_" + "a" * 36


@pytest.fixture
async def tasks() -> Any:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(notice, "_BACKOFF_S", 0.001)
    return


def noted(kernel: Any, what: str) -> list[Any]:
    return [decode(row.args) for row in rows(kernel, notes=True) if row.op == f"note.{what}"]


def said(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(endpoint.came[-1][1])
    return found


async def test_a_notice_is_signed_and_its_link_answers(tmp_path: Path) -> None:
    with an_endpoint() as endpoint:
        async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
            ask = await an_ask(kernel)
            told = await kernel.notify(ask.id, endpoint.url, base_url=site.base, for_="ann")
            assert told == {"delivered": True, "status": 200, "attempts": 1, "why": ""}
            [(head, body)] = endpoint.came
            key = kernel.keys.key("notice")
            assert head["X-Agentos-Signature"] == signature_of(key, body)
            assert signature_of(key, body.replace(b"letter", b"bitter")) != head["X-Agentos-Signature"]
            assert signature_of(kernel.keys.key("link"), body) != head["X-Agentos-Signature"], (
                "who receives notices can make no link"
            )
            data = said(endpoint)
            assert (data["ask"], data["kind"], data["op"], data["resource"], data["for"]) == (
                1,
                "approval",
                "fs.write",
                "/letter.txt",
                "ann",
            )
            assert abs(data["sent"] - kernel.core.clock.now()) < 10
            assert not {"args", "preview", "text"} & data.keys()
            assert (await site.decide(data["link"], "approve")).status == 200
            assert noted(kernel, "notifying")[0]["for"] == "ann"
            assert noted(kernel, "notified")[0]["delivered"] is True


async def test_of_a_secret_ask_a_notice_tells_the_number_and_the_link(tmp_path: Path, tasks: Any) -> None:
    (tmp_path / "w" / "vault").mkdir(parents=True)
    (tmp_path / "w" / "vault" / "key.txt").write_text("hush")
    with an_endpoint() as endpoint:
        async with a_desk(tmp_path) as kernel, a_site(kernel) as site:
            process = await host(kernel, "fs.*", "bank.*")
            await process.call("fs.read", path="/vault/key.txt")
            tasks.start_soon(Later(process.call("bank.order", what="hush")).run)
            ask = await newest(kernel)
            assert "secret" in ask.labels
            assert (await kernel.notify(ask.id, endpoint.url, base_url=site.base))["delivered"]
            assert set(said(endpoint)) == {"ask", "link", "expires", "sent", "withheld"}
            page = await site.get(said(endpoint)["link"])
            assert "hush" not in page.text
            assert "bank" not in page.text
            shown = await site.decide(said(endpoint)["link"], "show")
            assert "hush" in shown.page.text
            assert (await kernel.asks())[0].state == "pending", "looking decides nothing"
            assert (await site.post(said(endpoint)["link"], {"decision": "show", "mark": "x"})).status == 403


async def test_secrets_and_credentials_are_not_in_a_notice(tmp_path: Path) -> None:
    with an_endpoint() as endpoint:
        async with a_desk(tmp_path, secrets={"KEY": "swordfish-9000"}) as kernel:
            ask = await an_ask(kernel, f"/{TOKEN}/swordfish-9000.txt")
            await kernel.notify(ask.id, endpoint.url, base_url=BASE)
            body = endpoint.came[0][1].decode()
            assert TOKEN not in body
            assert "swordfish" not in body
            assert "[redacted]" in body


@pytest.mark.parametrize(
    ("answers", "delivered", "attempts"),
    [((503, 500, 200), True, 3), ((429, 204), True, 2), ((500,), False, 5), ((404, 200), False, 1), ((302, 200), False, 1),
     ((307, 200), False, 1)],
)  # fmt: skip
async def test_a_notice_is_sent_again_only_where_that_may_help(
    tmp_path: Path, answers: tuple[int, ...], delivered: bool, attempts: int
) -> None:
    with an_endpoint(*answers) as endpoint:
        async with a_desk(tmp_path) as kernel:
            told = await kernel.notify((await an_ask(kernel)).id, endpoint.url, base_url=BASE)
            assert (told["delivered"], told["attempts"], len(endpoint.came)) == (delivered, attempts, attempts)
            assert len({body for _, body in endpoint.came}) == 1
            assert noted(kernel, "notified")[0]["attempts"] == attempts


async def test_nobody_there_is_noted_and_raises_nothing(tmp_path: Path) -> None:
    with an_endpoint() as endpoint:
        url = endpoint.url
    async with a_desk(tmp_path) as kernel:
        told = await kernel.notify((await an_ask(kernel)).id, url, base_url=BASE)
        assert (told["delivered"], told["status"], told["attempts"]) == (False, 0, 5)
        assert "refused" in told["why"]


async def test_an_ask_that_is_settled_is_told_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "_BACKOFF_S", 0.05)
    with an_endpoint(500) as endpoint:
        async with a_desk(tmp_path) as kernel, anyio.create_task_group() as group:
            ask = await an_ask(kernel)
            group.start_soon(lambda: kernel.notify(ask.id, endpoint.url, base_url=BASE))
            while not endpoint.came:  # noqa: ASYNC110 - another thread takes notices
                await anyio.sleep(0.005)
            await kernel.answer(ask.id, "deny", by="ann")
        assert len(endpoint.came) <= 2


@pytest.mark.parametrize(
    "url", ["http://hooks.example/", "file:///etc/passwd", "https://u:p@a.example/", "ftp://a/", "gopher://127.0.0.1/"]
)
async def test_a_notice_goes_to_no_address_that_can_be_read_on_the_way(tmp_path: Path, url: str) -> None:
    async with a_desk(tmp_path, people={"ann": ["human.ask"]}) as kernel:
        ask = await an_ask(kernel)
        assert await refused(kernel.notify(ask.id, url, base_url=BASE)) == "invalid.argument"
        with an_endpoint() as endpoint:
            assert await refused(kernel.notify(ask.id, endpoint.url, base_url=BASE, for_="ann")) == "denied.human"
            assert endpoint.came == []
        assert noted(kernel, "notifying") == []


async def test_while_no_kernel_runs_a_notice_tells_the_number_and_the_link(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with a_desk(tmp_path, store) as kernel:
        ask = await an_ask(kernel)
    with an_endpoint() as endpoint:
        async with connect(store) as view:
            told = await view.notify(ask.id, endpoint.url, base_url=BASE)
            assert told["delivered"] is True
            assert set(said(endpoint)) == {"ask", "link", "expires", "sent", "withheld"}
            assert said(endpoint)["link"].startswith(f"{BASE}/asks/")
            assert await refused(view.ask_link(ask.id, base_url="http://a.example")) == "invalid.argument"
    async with a_desk(tmp_path, store) as kernel:
        assert [len(noted(kernel, what)) for what in ("notifying", "notified")] == [1, 1]
        assert (await kernel.verify_audit()).ok


def test_a_notice_without_anybody_who_knows_the_secrets_withholds_everything() -> None:
    ask = agentos.Ask(id=1, kind="approval", pid=2, op="a.b", args={}, preview=None, digest="", rule="r", because="b", labels=[],
                      lineage=[], created=0.0, expires=None, state="pending", resource="/r")  # fmt: skip
    said = notice.notice_of(ask, "L", name="ann", now=1.5, scrub=None)
    assert said == {"ask": 1, "link": "L", "expires": None, "sent": 1, "withheld": "no kernel runs"}
