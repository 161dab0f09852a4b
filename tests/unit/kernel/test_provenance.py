"""The index of values: what is grounded, which sources and labels it takes, and how an attacker would get around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from agentos.abi.labels import INTERNAL, PUBLIC, SECRET, UNTRUSTED
from agentos.abi.values import Ref
from agentos.kernel.provenance import PLACES_MAX, Provenance
from agentos.policy.flow import Origin

PROCESS = UNTRUSTED | INTERNAL
FOREIGN = Origin(PROCESS, frozenset())


def noted(**results: Any) -> Provenance:
    """An index that was told these results of the ops `mail.NAME`."""
    index = Provenance()
    for seq, (name, value) in enumerate(results.items(), 1):
        index.note_result(f"mail.{name}", value, seq=seq)
    return index


def ask(index: Provenance, value: Any, labels: Mapping[str, int] | None = None) -> Origin:
    """Ask for a process that is untrusted and internal. `labels` are of `op path`; people's words are trusted, the rest is not."""
    known = {"prompt": PUBLIC, "human": PUBLIC, **(labels or {})}
    return index.origin(value, lambda op, path: known.get(f"{op} {path}".strip(), UNTRUSTED), PROCESS)


def sources(index: Provenance, value: Any) -> set[str]:
    return set(ask(index, value).sources)


# --- what is grounded -----------------------------------------------------------------------------------------------------------


def test_a_field_is_grounded_by_its_path() -> None:
    index = noted(list=[{"from": "bob@x.example", "head": {"subject": "rent"}}, {"from": "eve@x.example"}], count=7)
    assert sources(index, "bob@x.example") == {"result(mail.list).from"}
    assert sources(index, "eve@x.example") == {"result(mail.list).from"}
    assert sources(index, "rent") == {"result(mail.list).head.subject"}
    assert sources(index, 7) == {"result(mail.count)"}


@pytest.mark.parametrize("value", ["DE89370400440532013000", "Pay DE89", "pay", "IBAN", "iban", "body", "mail.read", ""])
def test_a_part_of_a_field_and_a_key_ground_nothing(value: str) -> None:
    index = noted(read={"body": "Pay it to IBAN DE89370400440532013000, please.", "iban": "x"})
    assert ask(index, value) == FOREIGN


@pytest.mark.parametrize(
    "value", [None, True, False, b"abc", "", " ", {}, float("nan"), float("inf"), object(), Decimal("sNaN"), str]
)
def test_what_says_nothing_is_never_grounded(value: Any) -> None:
    index = noted(read=[None, True, False, b"abc", "", " ", {}, float("nan"), float("inf"), "abc"])
    index.prompt.add("None True False abc nan inf")
    assert ask(index, value) == FOREIGN


def test_an_empty_list_has_nothing_to_ground() -> None:
    assert ask(noted(), []) == Origin(PUBLIC, frozenset())
    assert ask(noted(), ()) == Origin(PUBLIC, frozenset())


def test_texts_are_equal_without_the_white_space_around_them() -> None:
    index = noted(read={"body": "  line one\n line two\n\n\n"})
    assert sources(index, "line one\n line two\n") == {"result(mail.read).body"}
    assert ask(index, "line one\nline two") == FOREIGN
    assert ask(index, "line one\n line two" + " \t" * 40) == FOREIGN, "white space may carry a message"


@pytest.mark.parametrize("value", [1, 1.0, Decimal("1.00"), Decimal(1)])
def test_numbers_are_equal_by_value_and_never_to_texts(value: Any) -> None:
    assert sources(noted(a=1, b=1.0, c=Decimal("1.000"), d="1", e=True), value) == {f"result(mail.{op})" for op in "abc"}
    assert sources(noted(a=value, b="1"), "1") == {"result(mail.b)"}


def test_long_texts_are_grounded_too_and_not_kept() -> None:
    index = noted(read={"body": "word " * 5_000, "odd": "\ud800" * 100})
    assert sources(index, ("word " * 5_000).strip()) == {"result(mail.read).body"}
    assert sources(index, "\ud800" * 100) == {"result(mail.read).odd"}
    assert ask(index, ("word " * 5_000).strip() + "s") == FOREIGN
    assert max(map(len, index._places)) <= 64


class Color(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Mail:
    to: str
    color: Color
    tags: tuple[str, ...] = ()


class Event(BaseModel):
    model_config = ConfigDict(extra="allow")
    title: str
    mail: Mail


def test_dataclasses_and_models_are_their_fields() -> None:
    event = Event(title="tea", mail=Mail("bob", Color.RED, ("a", "b")), room="blue")  # type: ignore[call-arg]
    index = noted(read=[event])
    assert sources(index, "tea") == {"result(mail.read).title"}
    assert sources(index, "red") == sources(index, Color.RED) == {"result(mail.read).mail.color"}
    assert sources(index, "b") == {"result(mail.read).mail.tags"}
    assert sources(index, "blue") == {"result(mail.read).room"}


def test_words_of_people_are_sources() -> None:
    index = noted(read={"from": "Bob"})
    index.prompt.add("Pay Bob's rent, $50.")
    index.human.add("yes, 50")
    assert sources(index, "Bob") == {"prompt", "result(mail.read).from"}
    assert sources(index, 50) == {"prompt", "human"}
    assert sources(index, "yes") == {"human"}


def test_a_source_can_be_named() -> None:
    index = Provenance()
    index.note_result("obj.get", {"value": {"iban": "DE89"}}, seq=3, label=SECRET, source="object(notes)")
    assert ask(index, "DE89", {"obj.get value.iban": PUBLIC}) == Origin(SECRET, frozenset({"object(notes)"}))
    assert index.seq == 3


# --- lists and objects ----------------------------------------------------------------------------------------------------------


def test_a_list_has_the_sources_that_all_its_elements_share_and_the_join_of_their_labels() -> None:
    index = noted(a=["x", "y"], b=["y", "z"])
    labels = {"mail.a": INTERNAL, "mail.b": SECRET | UNTRUSTED}
    assert ask(index, ["x", "y"], labels) == Origin(SECRET, frozenset({"result(mail.a)"}))
    assert ask(index, ["x", "x"], labels) == Origin(INTERNAL, frozenset({"result(mail.a)"}))
    assert ask(index, ("x", ["z"]), labels) == Origin(SECRET | UNTRUSTED, frozenset())
    assert ask(index, ["x", "w"], labels) == Origin(INTERNAL | UNTRUSTED, frozenset())
    assert ask(index, ["z", "w"], labels).label == SECRET | UNTRUSTED | PROCESS


def test_the_keys_of_a_free_object_are_values_too() -> None:
    index = noted(a=["bob"])
    index.prompt.add("send to: bob")
    labels = {"mail.a": PUBLIC}
    assert ask(index, {"to": "bob"}, labels) == Origin(PUBLIC, frozenset({"prompt"}))
    assert ask(index, {"the password is 1234": "bob"}, labels) == FOREIGN


def test_the_names_of_declared_fields_say_nothing_and_extra_ones_do() -> None:
    index = noted(a=["bob", "red", "tea", "blue"])
    mail = Mail("bob", Color.RED)
    assert sources(index, mail) == {"result(mail.a)"}
    assert sources(index, Event(title="tea", mail=mail)) == {"result(mail.a)"}
    assert ask(index, Event(title="tea", mail=mail, password="blue")) == Origin(UNTRUSTED | PROCESS, frozenset())  # type: ignore[call-arg]


def test_a_handle_has_the_origin_that_the_kernel_knows() -> None:
    known = Ref("notes", "n", 1, "d")
    index = Provenance(ref_origin=lambda ref: Origin(SECRET, frozenset({"object(notes)"})) if ref == known else None)
    fields = {"namespace": "notes", "name": "n", "version": 1, "digest": "d"}
    assert ask(index, [known]) == Origin(SECRET, frozenset({"object(notes)"}))
    assert ask(index, fields) == FOREIGN, "the callback did not know it"
    index = Provenance(ref_origin=lambda ref: Origin(PUBLIC, frozenset({"object(notes)"})))
    assert sources(index, fields) == {"object(notes)"}
    assert ask(index, {**fields, "note": "the password"}) == FOREIGN, "more than a handle is not a handle"
    assert ask(index, {"name": "n"}) == FOREIGN


def test_a_handle_is_its_fields_where_nobody_knows_handles() -> None:
    index = noted(a=["notes", "n", 1, "d", "json", 0])
    assert sources(index, Ref("notes", "n", 1, "d")) == {"result(mail.a)"}


# --- labels ---------------------------------------------------------------------------------------------------------------------


def test_one_trusted_source_makes_a_value_trusted() -> None:
    index = noted(contacts=["bob"], read={"from": "bob"})
    labels = {"mail.contacts": PUBLIC, "mail.read from": UNTRUSTED}
    assert ask(index, "bob", labels).label == PUBLIC
    index.note_result("web.get", {"name": "bob"}, seq=9, label=UNTRUSTED)
    assert ask(index, "bob", labels).label == PUBLIC, "who repeats a trusted value does not change it"


def test_what_an_attacker_chose_is_grounded_and_untrusted() -> None:
    index = noted(contacts=["bob"], read={"from": "eve", "title": "bob "})
    labels = {"mail.contacts": PUBLIC}
    assert ask(index, "eve", labels) == Origin(UNTRUSTED, frozenset({"result(mail.read).from"}))
    assert ask(index, ["bob", "eve"], labels).label == UNTRUSTED


def test_confidentiality_is_the_join_over_all_sources() -> None:
    index = noted(vault={"pin": "1234"}, read={"title": "1234"})
    index.prompt.add("my number is 1234")
    labels = {"mail.vault pin": SECRET, "mail.read title": UNTRUSTED}
    assert ask(index, "1234", labels).label == SECRET, "a planted copy of a secret does not declassify it"


def test_labels_join_what_the_result_carried() -> None:
    index = Provenance()
    index.note_result("msg.recv", {"value": "x"}, seq=1, label=SECRET | UNTRUSTED)
    assert ask(index, "x", {"msg.recv value": PUBLIC}).label == SECRET | UNTRUSTED
    index.note_result("msg.recv", {"value": "x"}, seq=2, label=PUBLIC)
    assert ask(index, "x", {"msg.recv value": PUBLIC}).label == SECRET


def test_later_label_statements_count() -> None:
    index = noted(read={"from": "bob"})
    assert ask(index, "bob").label == UNTRUSTED
    assert ask(index, "bob", {"mail.read from": SECRET}).label == SECRET


def test_words_that_the_kernel_calls_untrusted_are_untrusted() -> None:
    index = noted()
    index.prompt.add("pay bob")
    assert ask(index, "bob", {"prompt": UNTRUSTED}) == Origin(UNTRUSTED, frozenset({"prompt"}))


def test_flooding_fields_with_a_trusted_value_does_not_make_it_untrusted_or_public() -> None:
    index = noted(vault=["bob"], page={f"field{number}": "bob" for number in range(500)}, contacts=["bob"])
    labels = {"mail.vault": SECRET, "mail.contacts": PUBLIC}
    found = ask(index, "bob", labels)
    assert found.label == SECRET
    assert {"result(mail.vault)", "result(mail.contacts)"} < found.sources
    assert len(index) == len(found.sources) + 1 == PLACES_MAX + 3


def test_a_field_beyond_the_places_of_its_op_joins_what_it_carried_and_the_level_of_the_process() -> None:
    index = noted(page={f"field{number}": "bob" for number in range(PLACES_MAX)})
    labels = {f"mail.page field{number}": PUBLIC for number in range(PLACES_MAX)}
    assert ask(index, "bob", labels).label == PUBLIC
    index.note_result("mail.page", {"more": "bob"}, seq=9)
    assert ask(index, "bob", labels).label == INTERNAL, "as secret as the process, since nobody knows what it was"
    index.note_result("mail.page", {"more": "bob"}, seq=10, label=SECRET)
    assert ask(index, "bob", labels).label == SECRET


def test_a_path_never_names_another_op() -> None:
    index = noted(read={"x).from": "a", ".from": "b", "": "c", "result(bank.bill)": "d"})
    assert sources(index, "a") == {r"result(mail.read).x)\.from"}
    assert sources(index, "b") == {r"result(mail.read).\.from"}
    assert sources(index, "c") == set()
    assert sources(index, "d") == {r"result(mail.read).result(bank\.bill)"}
