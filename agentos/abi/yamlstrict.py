"""Strict YAML: plain data with the place of every value, for files that people write.

It reads the part of YAML that means the same to everybody: block and flow mappings with text keys, lists, scalars, comments.
Refused: duplicate keys, anchors, aliases, tags, merge keys, several documents, anything deeper than YAML_DEPTH_MAX. Nothing is built
by a name found in the file. Plain scalars are null, true, false, decimal numbers or text: `yes` and `1:30` are text here.

This is not a writer, and it knows no schema: `agentos.abi.manifest` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agentos.abi.limits import YAML_DEPTH_MAX
from agentos.errors import Invalid

__all__ = ["Node", "as_node", "parse_yaml"]

_WORDS: dict[str, bool | None] = {"": None, "null": None, "~": None, "true": True, "false": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]{1,17}(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Node:
    """One value with its place.

    Attributes:
        value: None, bool, int, float or str, a list of nodes, or a dict of nodes.
        path: Dotted name inside the file, ``limits.tokens``; empty for the whole.
        where: ``file:line:col``; empty for data that never was a file.
        raw: A scalar as it was written; empty for lists and mappings.
        keys: For a mapping: where each key stands.
    """

    value: Any
    path: str = ""
    where: str = ""
    raw: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def wrong(self, message: str, hint: str, *, key: str | None = None) -> Invalid:
        """Return the error about this value, or about one key of this mapping."""
        path = self.path if key is None else f"{self.path}.{key}" if self.path else key
        where = self.where if key is None else self.keys.get(key, self.where)
        facts: dict[str, Any] = {"field": path} | ({"where": where} if where else {})
        return Invalid("manifest", message, hint=hint, **facts)

    @property
    def kind(self) -> str:
        """The type of the value in words that a person uses."""
        names = {
            dict: "a mapping",
            list: "a list",
            str: "text",
            bool: "true or false",
            int: "a whole number",
            float: "a number",
        }
        return names.get(type(self.value), "nothing")

    def plain(self) -> Any:
        """Return the value as plain data."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def as_node(value: Any, path: str = "", depth: int = 0) -> Node:
    """Return plain data as a tree of nodes without places.

    Raises:
        Invalid: `invalid.manifest`, it holds something that no manifest can hold.
    """
    here = Node(None, path)
    if depth > YAML_DEPTH_MAX:
        raise here.wrong(f"nested deeper than {YAML_DEPTH_MAX}", "flatten it")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise here.wrong(f"key `{key!r}` is not text", "use text keys")
        return Node({key: as_node(item, f"{path}.{key}" if path else key, depth + 1) for key, item in value.items()}, path)
    if isinstance(value, list | tuple):
        return Node([as_node(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)], path)
    if value is None or isinstance(value, bool | int | float | str):
        return Node(value, path, raw="" if value is None else str(value))
    raise here.wrong(f"a `{type(value).__name__}` is not manifest data", "use mappings, lists, text, numbers, true and false")


def parse_yaml(data: bytes, source: str) -> Node:
    """Read one document.

    Args:
        data: The file's bytes, UTF-8.
        source: How messages call the file.

    Raises:
        Invalid: `invalid.manifest` with `where`: not YAML, or YAML that this dialect refuses.
    """
    import yaml  # noqa: PLC0415 - 20 ms, and only needed when a file is read

    start = Node(None, where=f"{source}:1:1")
    try:
        text = data.decode("utf-8-sig")
        events = list(yaml.parse(text, Loader=yaml.SafeLoader))
    except UnicodeDecodeError as error:
        raise start.wrong(f"file is not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Node(None, where=f"{source}:{mark.line + 1}:{mark.column + 1}") if mark else start
        raise place.wrong(f"not YAML: {error.problem or error.context}", "check indentation, quotes and brackets") from error
    except yaml.YAMLError as error:
        raise start.wrong(f"not YAML: {str(error).splitlines()[0]}", "remove control characters") from error
    return _Reader(iter(events), source).document()


class _Reader:
    """Builds nodes from the parser's events, which know nothing of types or of building objects."""

    def __init__(self, events: Iterator[Any], source: str) -> None:
        self._events = events
        self._source = source

    def document(self) -> Node:
        """Return the only document."""
        next(self._events)
        event = next(self._events)
        if type(event).__name__ == "StreamEndEvent":
            raise Node(None, where=self._where(event)).wrong("file is empty", "a minimal image is agentos, name and prompt")
        node = self._node(next(self._events), "", 0)
        next(self._events)
        event = next(self._events)
        if type(event).__name__ != "StreamEndEvent":
            raise Node(None, where=self._where(event)).wrong("second document in one file", "write one file per image")
        return node

    def _where(self, event: Any) -> str:
        return f"{self._source}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"

    def _node(self, event: Any, path: str, depth: int) -> Node:
        where = self._where(event)
        self._refuse_magic(event, Node(None, path, where))
        if depth > YAML_DEPTH_MAX:
            raise Node(None, path, where).wrong(f"nested deeper than {YAML_DEPTH_MAX}", "flatten it")
        kind = type(event).__name__
        if kind == "MappingStartEvent":
            return self._mapping(path, where, depth)
        if kind == "SequenceStartEvent":
            return self._sequence(path, where, depth)
        return Node(event.value if event.style else _scalar(event.value), path, where, event.value)

    @staticmethod
    def _refuse_magic(event: Any, here: Node) -> None:
        if type(event).__name__ == "AliasEvent":
            raise here.wrong(f"alias `*{event.anchor}`", "write the value out; aliases are not allowed")
        if event.anchor is not None:
            raise here.wrong(f"anchor `&{event.anchor}`", "write the value out; anchors are not allowed")
        if event.tag is not None:
            raise here.wrong(f"tag `{event.tag}`", "leave the tag out; types follow from the key")

    def _sequence(self, path: str, where: str, depth: int) -> Node:
        items: list[Node] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Node(items, path, where)

    def _mapping(self, path: str, where: str, depth: int) -> Node:
        items: dict[str, Node] = {}
        keys: dict[str, str] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._node(event, path, depth + 1)
            if not isinstance(key.value, str):
                raise key.wrong(f"key `{key.raw or key.kind}` is not text", "use text keys; quote it if it is meant")
            if key.value in items:
                message = f"duplicate key `{key.value}`, first at {keys[key.value].removeprefix(self._source + ':')}"
                raise key.wrong(message, "keep one of them")
            keys[key.value] = key.where
            inner = f"{path}.{key.value}" if path else key.value
            items[key.value] = self._node(next(self._events), inner, depth + 1)
        return Node(items, path, where, keys=keys)


def _scalar(text: str) -> Any:
    lowered = text.lower()
    if lowered in _WORDS:
        return _WORDS[lowered]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not _looks_octal(text):
        return float(text)
    return text


def _looks_octal(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits.isdigit()
