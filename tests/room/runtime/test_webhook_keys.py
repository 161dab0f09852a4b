"""The keys of links: private files beside the store, and the same link whoever makes and whoever takes it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import agentos
from agentos.runtime.asklink import Keys, form_mark, is_form_of, link_of, read_token
from agentos.runtime.client import connect
from agentos.runtime.webhook import app
from tests.builders import refused
from tests.room.runtime.control_builders import ASKING, FILES
from tests.room.runtime.control_builders import a_place as a_control_place
from tests.room.runtime.webhook_builders import a_desk, an_ask, newest, token_of

pytestmark = pytest.mark.anyio

BASE = "https://agents.example"


async def test_a_key_is_a_private_file_beside_the_store(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with a_desk(tmp_path, store) as kernel:
        await kernel.ask_link((await an_ask(kernel)).id, base_url=BASE)
        path = kernel.keys.path("link")
    assert path == tmp_path / "store.db.link-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Keys(store).key("link") != Keys(store).key("notice")
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == [], "nothing half made is left"


async def test_a_link_outlives_its_kernel_and_ends_with_its_key(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    async with a_desk(tmp_path, store) as kernel:
        ask = await an_ask(kernel)
        token = token_of(await kernel.ask_link(ask.id, base_url=BASE, for_="ann"))
    async with a_desk(tmp_path, store) as kernel:
        found = read_token(token, kernel.keys.key("link"))
        assert found is not None
        assert (found.name, found.is_for(await kernel.ask(ask.id))) == ("ann", True)
        (tmp_path / "store.db.link-key").unlink()
        assert read_token(token, kernel.keys.key("link")) is None


@pytest.mark.parametrize("what", ["open", "link", "short", "text", "folder", "fifo"])
def test_a_key_that_is_not_ours_alone_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "store.db.link-key"
    (tmp_path / "real").write_text("ab" * 32)
    (tmp_path / "real").chmod(0o600)
    made = {
        "open": lambda: (path.write_text("ab" * 32), path.chmod(0o640)), "link": lambda: path.symlink_to(tmp_path / "real"),
        "short": lambda: (path.write_text("ab"), path.chmod(0o600)), "text": lambda: (path.write_text("zz" * 32), path.chmod(0o600)),
        "folder": path.mkdir, "fifo": lambda: os.mkfifo(path, 0o600),
    }  # fmt: skip
    made[what]()
    with pytest.raises(agentos.Invalid) as caught:
        Keys(tmp_path / "store.db").key("link")
    assert caught.value.code == "invalid.state"


def test_two_that_make_a_key_at_once_have_the_same(tmp_path: Path) -> None:
    code = "import sys, pathlib as p, agentos.runtime.asklink as a; print(a.Keys(p.Path(sys.argv[1])).key('link').hex())"
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", code, str(tmp_path / "s.db")]
    many = [subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}) for _ in range(4)]
    assert len({each.communicate()[0] for each in many}) == 1


async def test_a_token_of_another_store_is_none_here(tmp_path: Path) -> None:
    tokens = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        async with a_desk(tmp_path / name, tmp_path / name / "store.db") as kernel:
            tokens.append((token_of(await kernel.ask_link((await an_ask(kernel)).id, base_url=BASE)), kernel.keys.key("link")))
    assert read_token(tokens[0][0], tokens[0][1]) is not None
    assert read_token(tokens[0][0], tokens[1][1]) is None


async def test_a_token_with_the_seal_of_the_store_is_still_for_its_own_ask_only(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel:
        first, second = await an_ask(kernel), await an_ask(kernel, "/b.txt")
        key = kernel.keys.key("link")
        token = read_token(token_of(link_of(first, key, base_url=BASE, now=0.0)), key)
        assert token is not None
        from dataclasses import replace

        assert token.is_for(first)
        for other in (
            second,
            replace(first, digest="00"),
            replace(first, number="9"),
            replace(first, id=2),
            replace(first, created=0.0),
        ):
            assert not token.is_for(other)


def test_a_mark_is_for_one_token_and_one_hour() -> None:
    key = b"k" * 32
    mark = form_mark("token", key, 1_000.0)
    assert is_form_of("token", key, mark, 1_000.0 + 3_600)
    assert not is_form_of("token", key, mark, 1_002.0 + 3_600)
    assert not is_form_of("other", key, mark, 1_000.0)
    assert not is_form_of("token", b"x" * 32, mark, 1_000.0)
    assert not is_form_of("token", key, mark.replace("1000.", "9000."), 9_000.0)
    assert not any(is_form_of("token", key, text, 0.0) for text in ("", ".", "nan.", "inf." + mark[5:], "\x00"))


async def test_a_link_from_a_kernel_elsewhere_is_the_one_made_here() -> None:
    with a_control_place() as place:
        async with place.open(policy=ASKING) as kernel:
            import anyio

            process = await kernel.spawn(FILES)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: refused(process.call("fs.write", path="/a", text="hi")))
                ask = await newest(kernel)
                async with connect(place.store) as remote:
                    link = await remote.ask_link(ask.id, base_url=BASE, for_="ann")
                    token = read_token(token_of(link), Keys(place.store).key("link"))
                    assert token is not None
                    assert token.is_for(await remote.ask(ask.id)), "what the binding covers crosses the socket unchanged"
                    assert await refused(remote.ask_link(99, base_url=BASE)) == "invalid.argument"
                await kernel.answer(ask.id, "deny", by="ann")


async def asked(pages: object, path: str, **scope: object) -> int:
    """One request to an app as a server would hand it over."""
    status: list[int] = []

    async def send(message: dict[str, object]) -> None:
        status.append(message.get("status", 0))  # type: ignore[arg-type]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    head = {"type": "http", "method": "GET", "headers": [(b"host", b"agents.example")], "client": ("10.0.0.1", 1), "path": path}
    await pages({**head, **scope}, receive, send)  # type: ignore[operator]
    return status[0]


async def test_the_app_can_be_mounted_under_a_path(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as kernel:
        base = f"{BASE}/desk"
        link = await kernel.ask_link((await an_ask(kernel)).id, base_url=base)
        pages, path = app(kernel, base_url=base), link.removeprefix(BASE)
        assert await asked(pages, path) == 200
        assert await asked(pages, path.removeprefix("/desk")) == 200, "a proxy may take the path off"
        assert await asked(pages, f"/x{path}", root_path="/x/desk") == 200
        assert await asked(pages, f"/y{path}", root_path="/x") == 404
        assert await asked(pages, path, headers=[(b"host", b"agents.example"), (b"host", b"evil.example")]) == 421
        assert await asked(pages, path, headers=[]) == 421
        with pytest.raises(agentos.Invalid):
            await asked(pages, path, type="websocket")
