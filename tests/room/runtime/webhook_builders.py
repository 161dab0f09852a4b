"""Builders for the tests of ask pages: a desk at which a process asks, its pages on a real server, and a person at a browser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import anyio
import anyio.to_thread

import agentos
from agentos.runtime.kernel import Kernel
from agentos.runtime.webhook import app
from agentos.runtime.webserver import bound, serve
from tests.builders import opened, started
from tests.room.broker.test_standing import a_bank

POLICY = """policy "desk"
let vault = "/vault/**"
label $vault secret
ask fs.write "/**" as write because "a person looks at <every> file"
ask bank.* any * because "money"
allow human.ask, fs.read any *
"""


def a_desk(folder: Path, store: Any = ":memory:", **options: Any) -> Any:
    """A kernel whose processes ask before they write."""
    (folder / "w").mkdir(exist_ok=True)
    return opened(store, **{"workspace": folder / "w", "policy": POLICY, "devices": {"bank": a_bank()}, **options})


async def an_ask(kernel: Kernel, path: str = "/letter.txt", text: str = "Dear Sir\n") -> agentos.Ask:
    """A process that wants to write a file, and its ask."""

    async def clerk(sys: Any, *, path: str, text: str) -> str:
        await sys.fs.write(path, text)
        return "written"

    before = len(await kernel.asks())
    await started(kernel, clerk, "fs.write /**", args={"path": path, "text": text})
    return await newest(kernel, before + 1)


async def newest(kernel: Kernel, many: int = 1) -> agentos.Ask:
    """The newest ask, once there are as many as that."""
    with anyio.fail_after(5):
        while len(found := await kernel.asks()) < many:  # noqa: ASYNC110 - asks have no event of their own
            await anyio.sleep(0.001)
    return found[-1]


@dataclass(frozen=True)
class Answered:
    """What a server answered."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def page(self) -> Tags:
        return Tags.of(self.text)

    @property
    def fields(self) -> dict[str, str]:
        """What the page's form sends when nothing is typed or pressed."""
        return {at["name"]: at.get("value", "") for tag, at in self.page.tags if tag == "input"}


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""

    @classmethod
    def of(cls, text: str) -> Tags:
        page = cls()
        page.feed(text)
        page.close()
        return page

    @property
    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment on the page: {data!r}")


def fetch(url: str, fields: Any = None, method: str | None = None, **headers: str) -> Answered:
    """One request, in this thread; `fields` make it a form, bytes are sent as they are."""
    body = fields if isinstance(fields, bytes | None) else urlencode(fields).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(url, body, named, method=method)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
            return Answered(answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()})
    except HTTPError as error:
        with contextlib.closing(error):
            return Answered(error.code, error.read().decode(), {k.lower(): v for k, v in error.headers.items()})


@dataclass(frozen=True)
class Site:
    """The pages of a kernel's asks."""

    kernel: Kernel
    base: str

    async def link(self, ask: agentos.Ask, for_: str | None = None) -> str:
        return await self.kernel.ask_link(ask.id, base_url=self.base, for_=for_)

    async def get(self, link: str, method: str = "GET", **headers: str) -> Answered:
        return await anyio.to_thread.run_sync(lambda: fetch(link, None, method, **headers))

    async def post(self, link: str, fields: Any, **headers: str) -> Answered:
        return await anyio.to_thread.run_sync(lambda: fetch(link, fields, "POST", **{"Origin": self.base, **headers}))

    async def decide(self, link: str, decision: str, **typed: str) -> Answered:
        """Open the page, fill its form in and press a button, as a person does."""
        form = (await self.get(link)).fields
        return await self.post(link, {**form, **typed, "decision": decision})


@asynccontextmanager
async def a_site(kernel: Kernel) -> AsyncIterator[Site]:
    """The pages of a kernel on a real server."""
    listening = bound("127.0.0.1", 0)
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, app(kernel, base_url=base), listening)
        try:
            yield Site(kernel, base)
        finally:
            tasks.cancel_scope.cancel()


@dataclass
class Endpoint:
    """Something that takes notices: what came, and what it answers, in order; the last answer stays."""

    answers: list[int] = field(default_factory=lambda: [200])
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def an_endpoint(*answers: int) -> Iterator[Endpoint]:
    """An endpoint on a real server."""
    endpoint = Endpoint(list(answers) or [200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            endpoint.came.append((dict(self.headers), body))
            status = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
            self.send_response(status)
            if status in (302, 307):
                self.send_header("location", f"{endpoint.url}elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            raise AssertionError("a notice never becomes a GET")

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def token_of(link: str) -> str:
    return urlsplit(link).path.rpartition("/")[2]
