"""The built-in op table declares what the frozen contract says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.ops import FAMILIES, builtin
from agentos.abi.values import Ref
from agentos.errors import Invalid

TABLE = builtin()
ALL = [pytest.param(op, id=op.name) for op in TABLE]


def rendered(name: str, /, *, pid: int = 7, **args: object) -> list[str]:
    op = TABLE.find(name)
    return [resource.text for resource in op.render(op.validate(args), "/", pid)]


def is_self(name: str, /, *, pid: int = 7, **args: object) -> bool:
    op = TABLE.find(name)
    values = op.validate(args)
    op.render(values, "/", pid)
    return op.is_self_right(values, pid)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_ops_of_its_name(family: str) -> None:
    assert TABLE.matching(f"{family}.*")


@pytest.mark.parametrize("op", ALL)
def test_every_op_is_typed_documented_and_has_a_schema(op: Op) -> None:
    assert op.doc
    assert set(op.hints) == {*op.arg_names, "return"}
    assert op.schema["additionalProperties"] is False


@pytest.mark.parametrize("op", ALL)
def test_an_unknown_argument_is_refused_by_every_op(op: Op) -> None:
    with pytest.raises(Invalid) as caught:
        op.validate({"no_such_argument": 1})
    assert caught.value.code == "invalid.argument"


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("proc.wait", "pure"), ("mem.put", "local"), ("mem.view", "local"), ("mem.search", "pure"), ("ckpt.restore", "local"),
        ("image.commit", "local"), ("skill.load", "pure"), ("exec.run", "once"), ("llm.complete", "repeatable"),
        ("py.eval", "pure"), ("git.status", "pure"), ("git.commit", "probeable"), ("git.push", "keyed"), ("policy.update", "local"),
    ],
)  # fmt: skip
def test_effect_classes_are_those_of_the_contract(name: str, effect: str) -> None:
    assert TABLE.find(name).effect is Effect(effect)


@pytest.mark.parametrize(
    ("name", "args", "resources"),
    [
        ("mem.put", {"text": "x"}, ["proc/7"]),
        ("mem.put", {"text": "x", "namespace": "notes"}, ["notes"]),
        ("mem.get", {"ref": "notes/12"}, ["notes/12"]),
        ("mem.pin", {"ref": Ref("team", "plan", 3, "d")}, ["team/plan"]),
        ("mem.forget", {"ref": "notes/12"}, ["notes"]),
        ("mem.link", {"a": "notes/1", "b": "other/2", "kind": "cites"}, ["notes/1", "other/2"]),
        ("ckpt.diff", {"a": "c1"}, ["c1", "now"]),
        ("image.register", {"path": "images/a.yaml"}, ["/images/a.yaml"]),
        ("image.commit", {"checkpoint": "c1", "name": "coder", "version": "2"}, ["coder:2"]),
        ("tool.call", {"name": "count", "args": {}}, ["jit/count"]),
        ("tool.call", {"name": "../x", "args": {}}, ["jit/..%2Fx"]),
        ("exec.run", {"argv": ["git", "log", "a b"]}, ["git log 'a b'"]),
        ("net.fetch", {"url": "HTTPS://Docs.Example.org:443/a/../b"}, ["https://docs.example.org/b"]),
        ("llm.complete", {"messages": []}, ["default"]),
        ("git.push", {"remote": "origin", "ref": "main"}, ["origin"]),
    ],
)
def test_the_resource_of_a_call_is_canonical(name: str, args: dict[str, object], resources: list[str]) -> None:
    assert rendered(name, **args) == resources


def test_a_note_cannot_be_forgotten_under_another_namespaces_name() -> None:
    with pytest.raises(Invalid, match="not in namespace"):
        rendered("mem.forget", ref="notes/12", namespace="proc/7")


def test_the_own_namespace_is_a_self_right_and_no_other_is() -> None:
    assert is_self("mem.put", text="x")
    assert is_self("mem.get", ref="proc/7/a")
    assert not is_self("mem.get", ref="proc/70/a")
    assert not is_self("mem.put", text="x", namespace="proc/8")
    assert not is_self("mem.link", a="proc/7/a", b="notes/1", kind="cites")
    assert not is_self("mem.forget", ref="notes/12")


def test_policies_can_test_host_scheme_port_and_overlay() -> None:
    args = {"url": "https://Docs.Example.org:8443/x"}
    derived = TABLE.find("net.fetch").derived
    assert {name: read(args) for name, (_, read) in derived.items()} == {
        "host": "docs.example.org",
        "scheme": "https",
        "port": 8443,
    }
    assert TABLE.find("exec.run").derived["overlay"][1]({"snapshot": "overlay"}) is True
    assert set(TABLE.find("net.fetch").late) == {"dest_ip", "redirect"}


def test_data_that_leaves_the_machine_has_a_sink() -> None:
    assert {
        name: set(TABLE.find(name).sinks) for name in ("net.fetch", "git.push", "llm.complete", "llm.embed", "msg.send")
    } == {
        "net.fetch": {"url"},
        "git.push": {"remote"},
        "llm.complete": {"messages"},
        "llm.embed": {"texts"},
        "msg.send": {"value"},
    }


def test_a_table_never_shares_state_with_another() -> None:
    one, two = builtin(), builtin()
    one.add(Op("bank.pay", lambda: None, Effect.ONCE, ()))
    assert "bank.pay" not in two
    with pytest.raises(Invalid, match="exists already"):
        one.add(Op("bank.pay", lambda: None, Effect.ONCE, ()))


def test_an_unknown_op_names_the_nearest() -> None:
    with pytest.raises(Invalid) as caught:
        TABLE.find("fs.raed")
    assert caught.value.hint == "did you mean `fs.read`?"
    assert OpTable().get("fs.read") is None


def test_building_the_table_builds_no_pydantic_model() -> None:
    code = "import sys; from agentos.abi.ops import builtin; builtin(); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
