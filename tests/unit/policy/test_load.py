"""Loading: used files, sets, expectations, digests, the shipped policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos.abi.ops import builtin
from agentos.errors import Invalid
from agentos.policy import Layer, Policy, Stack, check_text, load_layer, render_errors
from tests.unit.policy.builders import TABLE, call, decide, layer, refusal

SHIPPED = Path(__file__).parents[3] / "policies"
SECRETS = 'restrict "secrets"\nlet secret = "**/.env", "**/.ssh/**"\ndeny fs.* $secret because "secrets"\nexpect deny fs.read "/.env"\n'
FILES = {"secrets.policy": SECRETS, "deep.policy": 'policy "deep"\nuse "secrets.policy"\nallow fs.read "/deep/**"'}


def using(body: str, kind: str = "policy", files: dict[str, str] = FILES) -> Layer:
    return layer(body, kind, use=files.get)


def test_a_layer_tells_what_its_header_says() -> None:
    found = load_layer('restrict "r" version 3 # note', source="r.policy", table=TABLE)
    assert (found.name, found.kind, found.version, found.source) == ("r", "restrict", 3, "r.policy")


def test_the_digest_follows_the_text() -> None:
    assert layer("allow fs.read").digest == layer("allow fs.read").digest
    assert layer("allow fs.read") == layer("allow fs.read")
    assert layer("allow fs.read").digest != layer("allow fs.read ").digest


def test_used_rules_and_sets_count_as_if_they_stood_in_the_file() -> None:
    stack = Stack([using('use "deep.policy"\nallow fs.write\ndeny fs.write $secret')])
    assert stack.decide(*call("fs.read", path="/deep/a")).rule == "deep.policy:3"
    denied = stack.decide(*call("fs.read", path="/deep/.env"))
    assert (denied.rule, denied.because) == ("secrets.policy:3", "secrets")
    assert stack.decide(*call("fs.write", path="/.ssh/x")).outcome == "deny"


def test_a_stored_layer_loads_again_without_its_files_to_the_same_digest() -> None:
    first = using('use "deep.policy"\nallow fs.write')
    again = load_layer(first.text, source="t.policy", table=TABLE)
    assert again.digest == first.digest
    assert again.text == first.text
    assert Stack([again]).decide(*call("fs.read", path="/deep/.env")).rule == "secrets.policy:3"


def test_the_digest_follows_the_used_text() -> None:
    changed = {**FILES, "secrets.policy": SECRETS.replace(".ssh", ".aws")}
    assert using('use "secrets.policy"').digest != using('use "secrets.policy"', files=changed).digest


@pytest.mark.parametrize(
    ("files", "message", "where"),
    [
        ({"a": 'policy "a"\nuse "a"'}, "`a` uses itself", "a:2:5"),
        ({"a": 'policy "a"\nuse "b"', "b": 'policy "b"\nuse "a"'}, "`a` uses itself", "b:2:5"),
        ({"a": 'policy "a"\nallow fs.raed'}, "there is no op `fs.raed`", "a:2:7"),
        ({"a": 'policy "a"\nexpect allow fs.read "/x"'}, "expected allow", "a:2:1"),
        ({}, "no file `a` to use", "t.policy:2:5"),
    ],
)
def test_a_used_file_must_load_by_itself(files: dict[str, str], message: str, where: str) -> None:
    error = refusal('policy "t"\nuse "a"', use=files.get)
    assert message in error.message
    assert error.where == where


def test_a_restrict_file_uses_only_restrict_files() -> None:
    assert "cannot use the `policy` file" in refusal('restrict "t"\nuse "deep.policy"', use=FILES.get).message
    assert using('use "secrets.policy"', "restrict").kind == "restrict"


def test_sets_may_use_each_other_in_any_order() -> None:
    body = 'deny fs.read $all\nlet all = $env, "/x"\nlet env = "**/.env"\nallow fs.read'
    assert [decide(body, "fs.read", path=where) for where in ("/a/.env", "/x", "/y")] == ["deny", "deny", "allow"]


def test_two_used_files_cannot_disagree_about_a_set() -> None:
    files = {name: f'restrict "{name}"\nlet s = "/{name}"' for name in ("a", "b")}
    assert "differently" in refusal('policy "t"\nuse "a"\nuse "b"', use=files.get).message


def test_expectations_see_defaults_lists_facts_and_late_attributes() -> None:
    found = layer(
        'allow fs.read when bytes_max == 10 and proc.depth == 2\nexpect allow fs.read "/a" proc.depth=2\nexpect deny fs.read "/a"\n'
        "allow mail.send when every to == bo any cc\nexpect allow mail.send to=bo\nexpect deny mail.send to=eve\n"
        'allow net.fetch any *\ndeny net.fetch when dest_ip in_cidr "10.0.0.0/8"\n'
        'expect deny net.fetch "https://a.example" dest_ip="10.1.1.1"\nexpect allow net.fetch "https://a.example/x"\n'
        'allow exec.run "git *"\nexpect allow exec.run "git \'a b\'"\nexpect deny exec.run "git a b"\n'
        'allow fs.move "/a/*"\nexpect deny fs.move "/a/b" to="/c/d"\nexpect allow fs.move "/a/b" to="/a/d"\n'
        'allow bank.transfer "acct/7"\nexpect allow bank.transfer "acct/7" amount=3\nexpect deny bank.transfer account="8"'
    )
    assert len(found.rules) == 7


def test_expectations_of_the_file_are_run_at_load() -> None:
    assert "got allow: line 2 says allow" in refusal('policy "t"\nallow fs.*\nexpect ask fs.write "/x"').message


@pytest.mark.parametrize("name", ["default", "read-only"])
def test_the_shipped_policies_load_without_a_warning(name: str) -> None:
    report = check_text((SHIPPED / f"{name}.policy").read_text(), source=f"{name}.policy", table=builtin())
    assert render_errors([*report.errors, *report.warnings]) == ""


def test_the_default_policy_asks_for_what_cannot_be_repeated() -> None:
    stack = Stack([load_layer((SHIPPED / "default.policy").read_text(), source="default.policy", table=builtin())])
    assert stack.decide(*call("fs.write", path="/a")).outcome == "allow"
    assert stack.decide(*call("exec.run", argv=["ls"])).outcome == "ask"
    assert stack.decide(*call("bank.transfer", account="7", amount=1)).outcome == "ask"


def test_the_read_only_policy_only_narrows() -> None:
    stack = Stack([load_layer((SHIPPED / "read-only.policy").read_text(), source="read-only.policy", table=builtin())])
    assert stack.decide(*call("fs.read", path="/a")).outcome == "allow"
    assert stack.decide(*call("fs.write", path="/a")).outcome == "deny"
    assert stack.decide(*call("exec.run", argv=["ls"])).outcome == "deny"


def test_a_stack_has_a_bound() -> None:
    one = layer("allow fs.read")
    assert Stack([one] * 64).decide(*call("fs.read", path="/a")).outcome == "allow"
    with pytest.raises(Invalid, match="64 at most"):
        Stack([one] * 64).push(one)


def test_a_policy_is_its_text_and_its_source() -> None:
    assert Policy("x", source="a") == Policy("x", source="a", use=FILES.get)
    assert Policy("x").source == "policy"
