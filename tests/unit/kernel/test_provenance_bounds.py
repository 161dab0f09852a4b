"""The index against every value it may be given, and against whoever fills it: nothing but whole fields is grounded, nothing grows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.labels import PUBLIC, UNTRUSTED
from agentos.abi.limits import IDENTIFIER_CHARS_MAX, PROVENANCE_DEPTH_MAX, PROVENANCE_LEAVES_MAX, RESULT_LEAVES_MAX
from agentos.kernel.provenance import PLACES_MAX, Provenance
from agentos.policy.flow import Origin

FOREIGN = Origin(UNTRUSTED, frozenset())
TEXTS = st.text(max_size=80)
NUMBERS = st.integers(-(10**12), 10**12) | st.floats(-1e12, 1e12).map(lambda number: round(number, 9))
VALUES = st.recursive(
    TEXTS | NUMBERS | st.none() | st.booleans(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc.", max_size=3), inner),
    max_leaves=PLACES_MAX,
)


def origin(index: Provenance, value: Any) -> Origin:
    return index.origin(value, lambda op, path: PUBLIC, UNTRUSTED)


def noted(value: Any, **more: Any) -> Provenance:
    index = Provenance(**more)
    index.note_result("a.b", value, seq=1)
    return index


def fields(value: Any, path: str = "") -> list[tuple[Any, str]]:
    """A naive walk: the scalars that can be grounded, normalised, with the source of each."""
    if isinstance(value, list):
        return [found for item in value for found in fields(item, path)]
    if isinstance(value, dict):
        parts = [(key.replace(".", r"\."), item) for key, item in value.items() if key]
        return [found for key, item in parts for found in fields(item, f"{path}.{key}" if path else key)]
    source = f"result(a.b).{path}" if path else "result(a.b)"
    if isinstance(value, str):
        return [(value.strip(), source)] if value.strip() else []
    return [] if value is None or isinstance(value, bool) else [(Decimal(repr(value)), source)]


@given(VALUES)
def test_every_field_is_grounded_with_exactly_its_paths(value: Any) -> None:
    index, expected = noted(value), fields(value)
    for leaf, _ in expected:
        assert origin(index, leaf).sources == {
            source for other, source in expected if other == leaf and type(other) is type(leaf)
        }


@given(VALUES, TEXTS | NUMBERS)
def test_grounding_is_exact(value: Any, other: Any) -> None:
    normal = fields(other)
    index, said = noted(value), {leaf for leaf, _ in fields(value)}
    assert bool(origin(index, other).sources) == bool(
        normal and normal[0][0] in said and len(str(other)) - len(str(other).strip()) <= 2
    )


@given(st.text(min_size=1, max_size=90).filter(str.strip), st.text(min_size=1, max_size=2))
def test_no_part_extension_or_other_case_of_a_field_is_grounded(text: str, more: str) -> None:
    index = noted({"f": text})
    others = [text[1:], text[:-1], text + more, more + text, text.upper(), text.lower(), text.swapcase(), text * 2]
    for other in others:
        assert bool(origin(index, other).sources) == (other.strip() == text.strip() and len(other) - len(other.strip()) <= 2)


# --- bounds -----------------------------------------------------------------------------------------------------------------------


def test_forgetting_is_safe_and_drops_the_oldest_first() -> None:
    index = Provenance(leaves_max=4)
    for seq in range(10):
        index.note_result("a.b", {"f": f"v{seq}"}, seq=seq)
        assert len(index) == min(seq + 1, 4)
    assert [seq for seq in range(10) if origin(index, f"v{seq}") != FOREIGN] == [6, 7, 8, 9]


def test_a_value_keeps_the_sources_that_are_not_forgotten() -> None:
    index = Provenance(leaves_max=1)
    index.prompt.add("bob")
    index.note_result("a.b", "bob", seq=1)
    assert origin(index, "bob").sources == {"prompt", "result(a.b)"}
    index.note_result("a.b", "eve", seq=2)
    assert origin(index, "bob").sources == {"prompt"}


def test_a_value_seen_again_is_not_the_oldest() -> None:
    index = Provenance(leaves_max=3)
    for seq, value in enumerate(["a", "b", "c", "a", "d"]):
        index.note_result("a.b", value, seq=seq)
    assert [value for value in "abcd" if origin(index, value) != FOREIGN] == ["a", "c", "d"]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=20), st.integers(1, 6))
def test_the_count_is_what_is_kept_and_within_the_bound(results: list[list[str]], leaves_max: int) -> None:
    index = Provenance(leaves_max=leaves_max)
    for seq, values in enumerate(results):
        index.note_result(f"a.{'bc'[seq % 2]}", values, seq=seq)
        assert len(index) == sum(len(origin(index, value).sources) for value in "abcdefgh") <= leaves_max


def test_an_index_is_bounded_over_many_results() -> None:
    index = Provenance()
    for seq in range(20):
        index.note_result("a.b", [seq * RESULT_LEAVES_MAX + number for number in range(RESULT_LEAVES_MAX)], seq=seq)
        assert len(index) <= PROVENANCE_LEAVES_MAX
    assert len(index) > PROVENANCE_LEAVES_MAX * 0.9
    assert origin(index, 0) == FOREIGN
    assert origin(index, 20 * RESULT_LEAVES_MAX - 1) != FOREIGN


def test_polling_the_same_result_pushes_nothing_out() -> None:
    index = Provenance(leaves_max=20)
    index.note_result("a.contacts", "bob", seq=0)
    for seq in range(1, 500):
        index.note_result("a.inbox", [{"id": number} for number in range(15)], seq=seq)
    assert origin(index, "bob").sources == {"result(a.contacts)"}
    assert len(index) == 16


def test_what_is_over_the_leaves_of_a_result_is_not_grounded() -> None:
    index = noted([f"v{number}" for number in range(RESULT_LEAVES_MAX + 5)])
    assert len(index) == RESULT_LEAVES_MAX
    assert origin(index, f"v{RESULT_LEAVES_MAX - 1}") != FOREIGN
    assert origin(index, f"v{RESULT_LEAVES_MAX}") == FOREIGN


def test_what_is_too_deep_is_not_grounded_and_breaks_nothing() -> None:
    deep: Any = "low"
    for _ in range(PROVENANCE_DEPTH_MAX - 1):
        deep = [deep]
    index = noted([deep])
    assert origin(index, "low") != FOREIGN
    assert origin(index, [deep]) == FOREIGN
    deeper: Any = "lower"
    for _ in range(5_000):
        deeper = {"k": deeper}
    assert origin(noted([deeper, "high"]), "lower") == FOREIGN
    assert origin(index, deeper) == FOREIGN


def test_long_paths_are_not_kept_not_even_for_a_moment() -> None:
    index = noted({"k" * 2**20: {f"f{number}": "v" for number in range(RESULT_LEAVES_MAX)}, "f": "w"})
    assert len(index) == 1
    assert origin(noted({"k" * (IDENTIFIER_CHARS_MAX - 1): "v"}), "v") != FOREIGN
    assert origin(noted({"k" * IDENTIFIER_CHARS_MAX: "v"}), "v") == FOREIGN


def test_a_result_of_many_empty_containers_is_not_walked_to_its_end() -> None:
    assert len(noted([*[[]] * 100_000, "late"])) == 0
    assert len(noted([[None] * 100_000, ["late"]])) == 0


def test_an_argument_with_too_many_elements_is_not_grounded() -> None:
    index = noted(["v"])
    assert origin(index, ["v"] * (RESULT_LEAVES_MAX - 1)) == Origin(PUBLIC, frozenset({"result(a.b)"}))
    assert origin(index, ["v"] * RESULT_LEAVES_MAX) == FOREIGN
    assert origin(index, [*[[]] * RESULT_LEAVES_MAX, "w"]) == FOREIGN


def test_numbers_made_to_collide_are_told_apart() -> None:
    modulus = 2**61 - 1
    index = noted([number * modulus for number in range(1, 3_000)])
    assert len({hash(number * modulus) for number in range(1, 3_000)}) == 1, "else this shows nothing"
    assert len({hash(key) for key in index._places}) == 2_999
    assert origin(index, 2_999 * modulus) != FOREIGN
    assert origin(index, 3_000 * modulus) == FOREIGN


def test_huge_numbers_are_neither_noted_nor_written_out() -> None:
    index = noted([10**5_000, Decimal("1E+999999"), Decimal(f"1.{'0' * 50}")])
    assert len(index) == 0
    assert origin(index, -(10**5_000)) == FOREIGN


def test_two_indexes_do_not_hash_alike() -> None:
    one, other = noted("long " * 50), noted("long " * 50)
    assert one._places.keys() != other._places.keys()
