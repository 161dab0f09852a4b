"""The chat of docs/howto/chat.md, served by uvicorn over a real socket: streamed, left, killed in the middle of an answer, gone on with."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import Answer, ModelServer, Served, serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs/howto/chat.md"
RUN = """
import socket, uvicorn
from web_chat import app

listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio turns Nagle's algorithm off for these only
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)).run(sockets=[listening])
"""
Said = dict[str, Any]


class Site:
    """The chat in a folder of its own, its model beside it."""

    def __init__(self, folder: Path, model: ModelServer) -> None:
        self.folder = folder
        self.model = model
        (folder / "shelf").mkdir()
        found = re.search(r"```python title=web_chat\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert found is not None
        (folder / "web_chat.py").write_text(found[1])
        (folder / "run.py").write_text(RUN)

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        environ = {
            "OPENAI_BASE_URL": self.model.url, "PATH": "", "HOME": str(self.folder), "XDG_STATE_HOME": str(self.folder / "state"),
        }  # fmt: skip
        server = subprocess.Popen([sys.executable, "run.py"], cwd=self.folder, env=environ, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            self.url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(10)
            finally:
                server.kill()
                server.communicate()

    def fetch(self, path: str, text: str | None = None, headers: dict[str, str] | None = None) -> Any:
        data = None if text is None else text.encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers or {})
        for _ in range(400):
            try:
                return urllib.request.urlopen(request, timeout=20)
            except ConnectionRefusedError:
                time.sleep(0.05)
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
                time.sleep(0.05)
        raise AssertionError("the server does not come up")

    def start(self) -> int:
        pid: int = json.loads(self.fetch("/", "").read())["pid"]
        return pid


def said(response: Any) -> Iterator[Said]:
    """Yield the events of a response as they come; each with its `id`, if it has one."""
    seen = ""
    for line in response:
        if line.startswith(b"id: "):
            seen = line[4:].decode().strip()
        if line.startswith(b"data: "):
            yield {"id": seen, **json.loads(line[6:])}
            seen = ""


def echo() -> Callable[[Served], Answer]:
    """A model that repeats the last message; the first that is to be slow comes slowly."""
    slow: list[Served] = []

    def answer(served: Served) -> Answer:
        asked = str(served.json["messages"][-1]["content"]).partition("\n")[0]
        if "slow" not in asked or slow:
            return Answer(f"you said {asked}")
        slow.append(served)
        return Answer(f"you said {asked}", piece_delay_s=0.5)

    return answer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(echo()) as model:
        yield Site(tmp_path, model)


def test_an_answer_is_streamed_as_it_comes_and_ends_the_response(site: Site) -> None:
    with site.up():
        chat = f"/{site.start()}"
        first = list(said(site.fetch(chat, "hello")))
        second = list(said(site.fetch(chat, "again")))
    assert "".join(event["text"] for event in first if event["kind"] == "delta") == "you said hello"
    assert [(events[-1]["kind"], events[-1]["text"]) for events in (first, second)] == [
        ("answer", "you said hello"),
        ("answer", "you said again"),
    ]


def test_a_chat_that_never_was_is_not_found(site: Site) -> None:
    with site.up():
        site.start()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            site.fetch("/99", "hello")


def test_a_browser_that_is_closed_stops_no_answer(site: Site) -> None:
    with site.up():
        chat = f"/{site.start()}"
        response = site.fetch(chat, "slow please")
        next(said(response))
        response.close()
        events = said(site.fetch(chat, headers={"Last-Event-ID": "0"}))
        assert next(event for event in events if event["kind"] == "answer")["text"] == "you said slow please"


def test_a_server_that_is_killed_in_the_middle_of_an_answer_goes_on_with_the_conversation(site: Site) -> None:
    with site.up() as server:
        chat = f"/{site.start()}"
        seen = list(said(site.fetch(chat, "first")))[-1]["id"]
        next(said(site.fetch(chat, "slow second")))  # its first piece has come
        server.kill()
        server.wait(10)
    with site.up():
        events = said(site.fetch(chat, headers={"Last-Event-ID": seen}))
        assert next(event for event in events if event["kind"] == "answer")["text"] == "you said slow second"
        third = list(said(site.fetch(chat, "third")))[-1]
    contents = [str(message["content"]).partition("\n")[0] for message in site.model.requests[-1].json["messages"]][1:]
    assert third["text"] == "you said third"
    assert contents == ["first", "you said first", "slow second", "you said slow second", "third"]
