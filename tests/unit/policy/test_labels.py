"""Label statements: what is said about values by where they come from, and who may endorse."""

from __future__ import annotations

from itertools import permutations

import pytest

from agentos.abi.labels import INTERNAL, SECRET, UNTRUSTED
from agentos.abi.op import OpTable
from agentos.policy import Layer, Stack
from tests.unit.policy.builders import argv, ident, layer, op, path, refusal, url


def _find() -> dict[str, str]: ...  # type: ignore[empty-body]


OPEN = OpTable([op("fs.find", _find, "pure", "id:x")])


def labelled(*lines: str, kind: str = "policy") -> Layer:
    return layer("\n".join(f"label {line}" for line in lines), kind)


@pytest.mark.parametrize(
    ("said", "field", "bits"),
    [
        ("result(net.fetch)", "", UNTRUSTED),
        ("result(net.fetch)", "a.b", UNTRUSTED),
        ("result(net.fetch).*", "", UNTRUSTED),
        ("result(net.fetch).*", "a.b", UNTRUSTED),
        ("result(exec.run)", "a", 0),
    ],
)
def test_a_statement_on_a_result_is_about_the_value_and_everything_in_it(said: str, field: str, bits: int) -> None:
    assert Stack([labelled(f"{said} untrusted")]).labels.result("net.fetch", field) == (bits, False)


@pytest.mark.parametrize(("field", "bits"), [("body", SECRET), ("body.text", SECRET), ("", 0), ("bodyguard", 0), ("a.body", 0)])
def test_a_statement_on_a_field_is_about_that_field_and_what_is_in_it(field: str, bits: int) -> None:
    labels = Stack([layer("label result(fs.find).body secret", table=OPEN)]).labels
    assert labels.result("fs.find", field) == (bits, False)
    assert (labels.has_result("fs.find"), labels.has_result("fs.read")) == (True, False)


def test_statements_join_over_lines_and_layers_in_any_order() -> None:
    layers = [labelled("result(fs.read) internal"), labelled("result(fs.read) secret, untrusted", kind="restrict"), labelled()]
    for stack in map(Stack, permutations(layers)):
        assert stack.labels.result("fs.read", "") == (SECRET | UNTRUSTED, False)


def test_a_layer_that_may_endorse_calls_a_result_trusted() -> None:
    assert Stack([labelled("result(fs.read) trusted, secret")]).labels.result("fs.read", "") == (SECRET, True)


def test_untrusted_from_any_layer_wins_over_trusted() -> None:
    trusts, doubts = labelled("result(fs.read) trusted"), labelled("result(fs.read) untrusted", kind="restrict")
    for stack in (Stack([trusts, doubts]), Stack([doubts, trusts])):
        assert stack.labels.result("fs.read", "") == (UNTRUSTED, False)


def test_a_pushed_layer_never_endorses() -> None:
    trusts = labelled("result(fs.read) trusted")
    assert Stack([layer("")]).push(trusts).labels.result("fs.read", "") == (0, False)
    assert Stack([trusts]).push(trusts).push(layer("")).labels.result("fs.read", "") == (0, True)
    assert Stack([trusts], endorsing=0).labels.result("fs.read", "") == (0, False)
    assert Stack([layer(""), trusts], endorsing=1).labels.result("fs.read", "") == (0, False)
    assert Stack([layer(""), trusts], endorsing=2).labels.result("fs.read", "") == (0, True)
    assert Stack([trusts], endorsing=1).push(layer("")).endorsing == 1


def test_a_pushed_layer_still_adds_bits() -> None:
    pushed = labelled("result(fs.read) untrusted", "prompt untrusted", "human secret", "object(notes) internal")
    labels = Stack([layer("")]).push(pushed).labels
    assert (labels.result("fs.read", "")[0], labels.prompt, labels.human, labels.namespace("notes")) == (
        UNTRUSTED,
        UNTRUSTED,
        SECRET,
        INTERNAL,
    )


def test_a_restrict_file_never_endorses() -> None:
    """restrict-never-endorses: neither trusted nor public can be said in a file that only narrows."""
    for word in ("trusted", "public"):
        error = refusal(f'restrict "r"\nlabel result(fs.read) {word}')
        assert (error.rule, error.where) == ("E016", "t.policy:2:1")


def test_public_adds_no_level_and_takes_none_away() -> None:
    stack = Stack([labelled("result(fs.read) public"), labelled("result(fs.read) secret")])
    assert stack.labels.result("fs.read", "") == (SECRET, False)


def test_what_is_read_from_a_labelled_resource_carries_its_label() -> None:
    body = 'let hr = "/hr/**", "https://hr.example/**", "hr/**"\nlabel $hr secret\nlabel $hr untrusted'
    labels = Stack([layer(body)]).labels
    for resource in (path("/hr/x"), url("https://hr.example/x"), ident("hr/7")):
        assert labels.resource(resource) == SECRET | UNTRUSTED
    for resource in (path("/x"), url("https://x.example/hr"), ident("x"), argv("cat", "/hr/x")):
        assert labels.resource(resource) == 0


def test_objects_of_a_namespace_and_below_it_carry_its_label() -> None:
    labels = Stack([labelled('object("team/hr") secret')]).labels
    found = [labels.namespace(name) for name in ("team/hr", "team/hr/2026", "team/hrx", "team", "")]
    assert found == [SECRET, SECRET, 0, 0, 0]


def test_an_empty_stack_says_nothing() -> None:
    labels = Stack().labels
    assert (labels.prompt, labels.human, labels.result("fs.read", ""), labels.resource(path("/a"))) == (0, 0, (0, False), 0)
