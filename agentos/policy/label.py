"""Label statements: what the layers of a stack say about values by where they come from.

    label result(mail.read).body untrusted, secret

Names: public, internal, secret; trusted, untrusted. ``public`` adds no level and takes none away: what a value carries in itself is
never lowered by a statement, only by a person. ``trusted`` endorses a field of a result whose device does not vouch for it, and only
in a layer that may endorse.

INVARIANT restrict-never-endorses: `trusted` comes only from the leading layers that the host gave, never from a restrict or a pushed
layer; `untrusted` from any layer beats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agentos.abi.labels import LEVELS, UNTRUSTED, parse
from agentos.abi.op import OpTable
from agentos.abi.resource import Kind, Resource
from agentos.errors import Invalid
from agentos.policy.origin import check_source
from agentos.policy.pattern import Pattern, compile_pattern
from agentos.policy.problems import Refusal, did_you_mean
from agentos.policy.syntax import From, Label
from agentos.policy.unparse import label_text

__all__ = ["CheckedLabel", "Labels", "check_label"]

_SET_KINDS: Final[tuple[Kind, ...]] = ("path", "url", "id")


@dataclass(frozen=True, slots=True)
class CheckedLabel:
    """One label statement of a layer; `patterns` are those of its set."""

    label: Label
    source: str
    kind: str
    patterns: tuple[str, ...] = field(default=(), repr=False)

    @property
    def where(self) -> str:
        """The place as ``file:line``."""
        return f"{self.source}:{self.label.at.line}"

    @property
    def text(self) -> str:
        """The statement in its one spelling."""
        return label_text(self.label)

    @property
    def bits(self) -> int:
        """Label bits that it adds."""
        return parse(self.label.labels)

    @property
    def endorses(self) -> bool:
        """True when it says that a field is trusted."""
        return "trusted" in self.label.labels

    def says(self, path: str) -> bool:
        """Say whether it is about a field of its result: the field itself and everything in it."""
        field_path = self.label.source.field
        return field_path in ("", "*") or path == field_path or path.startswith(f"{field_path}.")

    def matches(self, resource: Resource) -> bool:
        """Say whether it is about what is read from a resource."""
        return any(pattern.matches(resource) for text in self.patterns for pattern in _compiled(text))


def check_label(checked: CheckedLabel, table: OpTable) -> None:
    """Check one label statement.

    Raises:
        Refusal: the source cannot exist, or the labels cannot be said of it or together.
    """
    label, words = checked.label, checked.label.labels
    check_source(label.source, table)
    levels = [word for word in words if word in LEVELS]
    if len(set(words)) < len(words) or len(levels) > 1 or {"trusted", "untrusted"} <= set(words):
        hint = "one of public, internal, secret and one of trusted, untrusted"
        raise Refusal("E016", f"`{', '.join(words)}` cannot be said together", label.at, hint=hint)
    for word in ("trusted", "public"):
        if word in words and checked.kind == "restrict":
            hint = "a restrict file only narrows; say it in a `policy` file"
            raise Refusal("E016", f"`{word}` cannot stand in a `restrict` file", label.at, hint=hint)
        if word in words and label.source.kind in ("prompt", "human"):
            hint = "what people say is trusted and public until a statement says more"
            raise Refusal("E016", f"`{word}` has no meaning on {label.source.kind}", label.at, hint=hint)
    if "trusted" in words and label.source.kind != "result":
        hint = "only `result(op)` and its fields can be endorsed"
        raise Refusal("E016", f"`trusted` has no meaning on `{label.source.text}`", label.at, hint=hint)
    if label.source.kind == "set":
        for text in checked.patterns:
            _check_pattern(text, label)


def _check_pattern(text: str, label: Label) -> None:
    if not _compiled(text):
        hint = did_you_mean(text, (), "write patterns of paths, URLs or ids into the set")
        raise Refusal("E014", f"`{text}` matches nothing that can be read", label.source.at, hint=hint)


def _compiled(text: str) -> list[Pattern]:
    found: list[Pattern] = []
    for kind in _SET_KINDS:
        try:
            found.append(compile_pattern(kind, text))
        except Invalid:
            continue
    return found


class Labels:
    """The label statements of a stack.

    Args:
        layers: The statements of each layer.
        endorsing: How many of the layers, from the first, may call a result trusted.

    Attributes:
        prompt: Label bits of what the goal and messages of the host say.
        human: Label bits of what people answer.
    """

    __slots__ = ("_namespaces", "_patterns", "_results", "human", "prompt")

    def __init__(self, layers: Sequence[Sequence[CheckedLabel]], endorsing: int) -> None:
        self.prompt = 0
        self.human = 0
        self._results: dict[str, list[tuple[CheckedLabel, int, bool]]] = {}
        self._namespaces: list[tuple[str, int]] = []
        self._patterns: list[tuple[Pattern, int]] = []
        for number, statements in enumerate(layers):
            for checked in statements:
                self._add(checked, may_endorse=number < endorsing)

    def _add(self, checked: CheckedLabel, *, may_endorse: bool) -> None:
        source, bits = checked.label.source, checked.bits
        if source.kind == "result":
            self._results.setdefault(source.name, []).append((checked, bits, may_endorse and checked.endorses))
        elif source.kind == "prompt":
            self.prompt |= bits
        elif source.kind == "human":
            self.human |= bits
        elif source.kind == "object":
            self._namespaces.append((source.name, bits))
        else:
            self._patterns += [(pattern, bits) for text in checked.patterns for pattern in _compiled(text)]

    def has_result(self, op: str) -> bool:
        """Say whether a statement is about results of `op`."""
        return op in self._results

    def result(self, op: str, path: str) -> tuple[int, bool]:
        """Return the label bits that a field of a result gets, and whether it is endorsed as trusted.

        `path` joins fields by ``.``, positions in lists left out; empty for a result that is a scalar.
        """
        bits, endorsed = 0, False
        for checked, added, trusted in self._results.get(op, ()):
            if checked.says(path):
                bits |= added
                endorsed = endorsed or trusted
        return bits, endorsed and not bits & UNTRUSTED

    @property
    def has_resources(self) -> bool:
        """True when a statement is about what is read from resources."""
        return bool(self._patterns)

    def resource(self, resource: Resource) -> int:
        """Return the label bits of what is read from a resource."""
        bits = 0
        for pattern, added in self._patterns:
            if pattern.matches(resource):
                bits |= added
        return bits

    def namespace(self, namespace: str) -> int:
        """Return the label bits of the objects in a namespace, or below it."""
        bits = 0
        for name, added in self._namespaces:
            if namespace == name or namespace.startswith(f"{name}/"):
                bits |= added
        return bits

    def about(self, source: From) -> int:
        """Return the label bits of a source as a policy names it."""
        if source.kind == "result":
            return self.result(source.name, source.field)[0]
        return (
            self.namespace(source.name) if source.kind == "object" else self.prompt if source.kind == "prompt" else self.human
        )
