"""Provenance: where the values of a process's arguments come from. One index per process, in memory, pure; the journal can rebuild it.

What is noted: every scalar field of a result, under its value. Texts without the white space around them and otherwise exact, numbers by
value whatever their type; no bytes, None, bools, empty texts, and no keys of objects.
What is grounded: a value that occurs as whole words in the goal or in a person's answer (`tokens`), or that equals a whole noted field.
Lists and objects are grounded element by element. Anything else has the label of the process.

Grounded is not trusted: an attacker chooses sender names and titles. A grounded value has the labels of its sources:
confidentiality is the join over all of them; trusted it is when one of them is, since whoever repeats a trusted value does not change it.
And choosing among grounded values can still tell something: their order and number are not looked at.

A field that only says an argument of its own call back is noted when that argument was grounded and trusted, else it is not: a process
cannot make its own choice a source by having it echoed.

INVARIANT grounding-is-exact: a value is grounded by what equals the whole of it, never by a part, a prefix or another spelling.
INVARIANT forgetting-is-safe: what is dropped, cut off or too deep to be noted grounds nothing: a value that has no other source then has
the label of the process. One that has another keeps only that one's label: how secret a forgotten copy was is not known any more.

Bounds: RESULT_LEAVES_MAX fields of a result, PROVENANCE_LEAVES_MAX fields of the process (the value not seen for longest is dropped
first), and of one value PLACES_MAX fields of each op. Long texts are kept as a hash under a key that nobody outside knows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from agentos.abi.labels import UNTRUSTED
from agentos.abi.limits import IDENTIFIER_CHARS_MAX, PROVENANCE_DEPTH_MAX, PROVENANCE_LEAVES_MAX, RESULT_LEAVES_MAX
from agentos.abi.values import Ref
from agentos.kernel.tokens import Words, bare, number_key
from agentos.policy.flow import Origin

__all__ = ["PLACES_MAX", "LabelOf", "Provenance", "RefOrigin", "joined_path"]

LabelOf = Callable[[str, str], int]
"""The label, as of now, of what an op (or `prompt`, `human`) returns in the field of that path."""
RefOrigin = Callable[[Any], Origin | None]
"""The origin of a handle to an object (a `Ref`, or an object with its fields), or None for one that is not known. It has to check every
field: what it returns is taken for all of them."""

_T = TypeVar("_T")

PLACES_MAX: Final = 8
"""Fields of one op that one value is remembered in. More say only that it is common."""

_TEXT_CHARS_MAX: Final = 64  # a longer text is kept as a hash
_ITEMS_PER_LEAF: Final = 16  # what is looked at of a result that has few scalars in many containers
_NOWHERE: Final[frozenset[str]] = frozenset()
_SEQUENCES: Final = (list, tuple, set, frozenset)
_SCALARS: Final = (str, int, float, Decimal)
_REF_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(Ref))
_REF_NEEDS: Final = frozenset({"namespace", "name", "version", "digest"})


class _Place(NamedTuple):
    """A field of a result. A place without `sources` stands for the fields of an op that were too many: it says what they carried."""

    op: str
    path: str
    label: int
    sources: frozenset[str]


class Provenance:
    """Which values a process was told, and by whom.

    Attributes:
        prompt: Words of the goal and of the host's messages.
        human: Words of people's answers.
        seq: Journal number of the newest result that was noted.
    """

    def __init__(self, *, leaves_max: int = PROVENANCE_LEAVES_MAX, ref_origin: RefOrigin | None = None) -> None:
        assert leaves_max >= 1, "an index without room grounds nothing"
        self.prompt = Words()
        self.human = Words()
        self.seq = 0
        self._leaves_max = leaves_max
        self._ref_origin = ref_origin
        self._places: dict[str | bytes, _Place | tuple[_Place, ...]] = {}  # in the order in which values were last seen
        self._count = 0
        self._hash_key = secrets.token_bytes(16)
        self._echoes: dict[
            str | bytes, int | None
        ] = {}  # arguments of the call whose result is being noted -> label, None = not noted

    def __len__(self) -> int:
        """Return the number of (value, field) pairs that are kept."""
        return self._count

    # --- noting -------------------------------------------------------------------------------------------------------------

    def note_result(  # noqa: PLR0913 - what is known of a result
        self,
        op: str,
        value: Any,
        *,
        seq: int,
        label: int = 0,
        source: str | None = None,
        args: Any = None,
        label_of: LabelOf | None = None,
    ) -> None:
        """Index the fields of a result.

        Args:
            op: The op that returned it.
            value: What it returned.
            seq: Its journal number.
            label: Label bits that the result carried itself, joined to each field's.
            source: Name of what the fields belong to, when that is not ``result(op)``: ``object(namespace)``. It is the source of each.
            args: The call's arguments, of which echoes are known.
            label_of: Label of a source, for the arguments; without it no argument counts as trusted.

        Cost: about a microsecond per field, a hash per long text; never more than RESULT_LEAVES_MAX fields.
        """
        self.seq = max(self.seq, seq)
        if args:
            question = _Question(label_of or (lambda op, path: UNTRUSTED), UNTRUSTED)
            _Walk("", 0, None, lambda given, _: self._note_echo(given, question)).visit(args, "", PROVENANCE_DEPTH_MAX)
        _Walk(op, label, source, self._note).visit(value, "", PROVENANCE_DEPTH_MAX)
        self._echoes = {}

    def _note_echo(self, given: Any, question: _Question) -> bool:
        key = self._key(given)
        if key is not None:
            origin = self._scalar(given, question)
            self._echoes[key] = origin.label if origin.sources and not origin.label & UNTRUSTED else None
        return key is not None

    def _key(self, value: Any) -> str | bytes | None:
        """Return what equal values have in common. A number's key begins with a space, as no text's does."""
        if isinstance(value, str):
            return self._text_key(str.strip(value))
        number = number_key(value)
        return None if number is None else f" {number}"

    def _text_key(self, text: str) -> str | bytes | None:
        if len(text) <= _TEXT_CHARS_MAX:
            return text or None
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._hash_key).digest()

    def _note(self, value: Any, place: _Place) -> bool:
        """Enter a value; False when it is one that nothing is said of."""
        key = self._key(value)
        if key is None:
            return False
        if key in self._echoes:
            label = self._echoes[key]
            if label is None:
                return False
            place = place._replace(label=place.label | label)
        held = self._places.get(key)
        if held is place:
            return True
        if held is None:
            self._places[key] = place
            self._count += 1
        else:
            known = (held,) if isinstance(held, _Place) else held
            joined = _joined(known, place)
            del self._places[key]  # so that it is the newest again
            self._places[key] = joined if len(joined) > 1 else joined[0]
            self._count += len(joined) - len(known)
        while self._count > self._leaves_max:
            self._drop()
        return True

    def _drop(self) -> None:
        """Forget the values not seen for longest: some at once, as each look for the oldest passes the gaps of those that went before."""
        for key in list(islice(self._places, max(1, self._leaves_max // 16))):
            held = self._places.pop(key)
            self._count -= 1 if isinstance(held, _Place) else len(held)

    # --- asking -------------------------------------------------------------------------------------------------------------

    def origin(self, value: Any, label_of: LabelOf, otherwise: int) -> Origin:
        """Return where an argument's value comes from.

        Args:
            value: The argument. The keys of a dict are values like others: a model may have made them. Names of declared fields are not.
            label_of: Label of a source, asked at each call since later label statements count.
            otherwise: Label of the process: of what is not grounded.

        Returns:
            The join of the labels and the sources that all leaves share; no source when a leaf is not grounded. An empty list has
            nothing to ground: label 0. None and an empty text or object are not grounded.
        """
        ask = _Question(label_of, otherwise)
        if isinstance(value, _SCALARS):
            return self._scalar(value, ask)
        join = _Join(ask)
        self._gather(value, join, PROVENANCE_DEPTH_MAX)
        return Origin(join.label, join.sources or _NOWHERE)

    def _scalar(self, value: Any, ask: _Question) -> Origin:
        key = self._text_key(bare(value)) if isinstance(value, str) else self._key(value)
        if key is None:
            return Origin(ask.otherwise, _NOWHERE)
        held = self._places.get(key)
        found: tuple[_Place, ...] = () if held is None else (held,) if isinstance(held, _Place) else held
        if self.human.holds(value):
            found = (_HUMAN, *found)
        if self.prompt.holds(value):
            found = (_PROMPT, *found)
        return _origin(found, ask) if found else Origin(ask.otherwise, _NOWHERE)

    def _gather(self, value: Any, join: _Join, depth: int) -> None:
        join.room -= 1
        if not depth:
            join.add_foreign()
        elif isinstance(value, _SCALARS):
            join.add(self._scalar(value, join.ask))
        elif (handle := self._handle(value)) is not None:
            join.add(handle)
        elif isinstance(value, _SEQUENCES):
            self._gather_all(value, join, depth)
        elif isinstance(value, Mapping) and value:
            self._gather_all((part for pair in value.items() for part in pair), join, depth)
        elif fields := _declared(value):
            self._gather_all(fields.values(), join, depth)
            self._gather_all((part for pair in _extra(value).items() for part in pair), join, depth)
        else:
            join.add_foreign()

    def _gather_all(self, values: Iterable[Any], join: _Join, depth: int) -> None:
        for value in values:
            if not join.room:
                return join.add_foreign()
            self._gather(value, join, depth - 1)
        return None

    def _handle(self, value: Any) -> Origin | None:
        if self._ref_origin is None or isinstance(value, _SEQUENCES):
            return None
        is_ref = isinstance(value, Ref) or (
            isinstance(value, dict) and value.keys() >= _REF_NEEDS and value.keys() <= _REF_FIELDS
        )
        return self._ref_origin(value) if is_ref else None


_PROMPT: Final = _Place("prompt", "", 0, frozenset({"prompt"}))
_HUMAN: Final = _Place("human", "", 0, frozenset({"human"}))


class _Question(NamedTuple):
    """What one caller knows about labels."""

    label_of: LabelOf
    otherwise: int


class _Join:
    """What the leaves of an argument have in common. `room`: values that may still be looked at."""

    __slots__ = ("ask", "label", "room", "sources")

    def __init__(self, ask: _Question) -> None:
        self.ask = ask
        self.label = 0
        self.room = RESULT_LEAVES_MAX
        self.sources: frozenset[str] | None = None

    def add(self, origin: Origin) -> None:
        self.label |= origin.label
        self.sources = origin.sources if self.sources is None else self.sources & origin.sources

    def add_foreign(self) -> None:
        self.add(Origin(self.ask.otherwise, _NOWHERE))


class _Walk:
    """One result on its way into the index: `note` gets each field's value and place, as long as there is room."""

    __slots__ = ("_items", "_label", "_leaves", "_note", "_op", "_places", "_source")

    def __init__(self, op: str, label: int, source: str | None, note: Callable[[Any, _Place], bool]) -> None:
        self._op = op
        self._label = label
        self._source = source
        self._note = note
        self._places: dict[str, _Place] = {}
        self._leaves = RESULT_LEAVES_MAX
        self._items = RESULT_LEAVES_MAX * _ITEMS_PER_LEAF

    def visit(self, value: Any, path: str, depth: int) -> None:
        """Note the scalars of `value`, which is found at `path`."""
        if isinstance(value, _SCALARS):
            if self._leaves and self._note(value, self._places.get(path) or self._place(path)):
                self._leaves -= 1
        elif not depth:
            return
        elif isinstance(value, _SEQUENCES):
            for item in self._some(value):
                self.visit(item, path, depth - 1)
        else:
            fields = value if isinstance(value, Mapping) else {**_declared(value), **_extra(value)}
            for key, item in self._some(fields.items()):
                if isinstance(key, str) and key and len(path) + len(key) < IDENTIFIER_CHARS_MAX:
                    self.visit(item, joined_path(path, key), depth - 1)

    def _some(self, values: Collection[_T]) -> Iterable[_T]:
        taken = min(len(values), self._items)
        self._items -= taken
        return values if taken == len(values) else islice(values, taken)

    def _place(self, path: str) -> _Place:
        name = self._source or (f"result({self._op}).{path}" if path else f"result({self._op})")
        place = self._places[path] = _Place(self._op, path, self._label, frozenset({name}))
        return place


def joined_path(path: str, key: str) -> str:
    """Return the path of a field inside another. A dot inside a key is none between fields."""
    key = key.replace(".", r"\.") if "." in key else key
    return f"{path}.{key}" if path else key


def _joined(known: tuple[_Place, ...], place: _Place) -> tuple[_Place, ...]:
    if place in known:
        return known
    if sum(held.op == place.op for held in known) >= PLACES_MAX:
        place = _Place("", "", place.label, _NOWHERE)
        return known if place in known else (*known, place)
    return (*known, place)


def _origin(found: tuple[_Place, ...], ask: _Question) -> Origin:
    bits, untrusted = 0, UNTRUSTED
    for place in found:
        if place.sources:
            label = ask.label_of(place.op, place.path) | place.label
            bits |= label
            untrusted &= label
        else:
            bits |= place.label | ask.otherwise
    sources = found[0].sources if len(found) == 1 else frozenset().union(*(place.sources for place in found))
    return Origin(bits & ~UNTRUSTED | untrusted, sources)


def _declared(value: Any) -> dict[str, Any]:
    """Return the declared fields of a dataclass or pydantic model; nothing for anything else."""
    if isinstance(value, type):
        return {}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value.__dict__) if hasattr(type(value), "__pydantic_fields__") else {}


def _extra(value: Any) -> dict[str, Any]:
    """Return what a pydantic model took beyond its declared fields."""
    return getattr(value, "__pydantic_extra__", None) or {}
