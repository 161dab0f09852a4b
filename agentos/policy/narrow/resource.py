"""Resources that stand for all resources: one for every set of patterns that some resource of an op's template matches.

A path is also the value of the argument that names it, so tests on that argument are told apart here too, and so are those of a URL as
far as they are patterns or whole texts. For any other test the argument is taken for free of its resource (`narrow.op`), which only
makes a comparison more careful.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, get_args, get_origin
from urllib.parse import quote

from agentos.abi.op import Op
from agentos.abi.resource import Resource, Template
from agentos.policy.attributes import type_of
from agentos.policy.glob import Deep, Sequence_
from agentos.policy.narrow.argv import commands
from agentos.policy.narrow.automaton import Allowance, Automaton, excluding, glob_node, many, spelled
from agentos.policy.narrow.probe import Probe
from agentos.policy.narrow.url import urls
from agentos.policy.pattern import ArgvPattern, Pattern, SegmentPattern, compile_pattern
from agentos.policy.regex_parse import Branches, Chain, Node, parse_regex
from agentos.policy.syntax import From, PatternRef, Test
from agentos.policy.url_pattern import UrlPattern

__all__ = ["TextTest", "resources_of", "text_tests"]

TextTest = tuple[str, str]
"""A test on the text of a path or URL: ``like``, ``matches`` or ``==``, and its operand."""

_ID_SEGMENT: Final = r"(?:[A-Za-z0-9 @:+=,._~!$&'()\-]|%[0-9A-F][0-9A-F])+"


def resources_of(
    op: Op, template: Template, patterns: Iterable[Pattern], tests: Sequence[TextTest], allowance: Allowance
) -> list[Resource] | None:
    """Return resources of `template` that realise every combination of `patterns` and `tests`; None when the allowance is used up."""
    mine = [pattern for pattern in dict.fromkeys(patterns) if pattern.kind == template.kind]
    if template.kind == "path":
        return _paths(mine, tests, allowance)
    if template.kind == "url":
        return urls([one.parts for one in mine if isinstance(one, UrlPattern)], tests, allowance)
    if template.kind == "argv":
        found = commands([one.argv for one in mine if isinstance(one, ArgvPattern)], allowance)
        return None if found is None else [template.render({template.field: tokens}, "/") for tokens in found]
    if not template.fields:
        return [Resource("id", template.text, template.text)]
    return _ids(op, template, mine, allowance)


def text_tests(probe: Probe) -> list[TextTest]:
    """Return what a test asks of the text of a path or URL."""
    assert isinstance(probe.leaf, Test)
    found: list[TextTest] = []
    for value in probe.leaf.values:
        if isinstance(value, PatternRef):
            found += [("like", text) for text in probe.sets[value.text]]
        elif isinstance(value, From):
            found += [("like", text) for text in probe.sets[value.name]] if value.kind == "set" else []
        else:
            found.append((probe.leaf.verb if probe.leaf.verb in ("like", "matches") else "==", str(value.value)))
    return found


def _paths(patterns: Sequence[Pattern], tests: Sequence[TextTest], allowance: Allowance) -> list[Resource] | None:
    automaton = Automaton(Branches((spelled("/"), many(Chain((spelled("/"), _path_segment())), 1))))
    liked = [compile_pattern("path", operand) for verb, operand in tests if verb == "like"]
    for segments in dict.fromkeys(one.segments for one in (*patterns, *liked) if isinstance(one, SegmentPattern)):
        automaton.add(_rooted(segments))
    for verb, operand in tests:
        if verb != "like":
            automaton.add(parse_regex(operand) if verb == "matches" else spelled(operand))
    found = automaton.explore(allowance)
    return None if found is None else [Resource("path", text, text) for text in found.values()]


def _path_segment() -> Node:
    """Return the language of one segment of a canonical path: not empty, neither ``.`` nor ``..``."""
    first, other = excluding("/\0."), excluding("/\0")
    after_dot, after_dots = Chain((spelled("."), first, many(other))), Chain((spelled(".."), many(other, 1)))
    return Branches((Chain((first, many(other))), after_dot, after_dots))


def _rooted(segments: Sequence_) -> Node:
    """Return the texts of the paths that a glob matches; the root, which has no segment, is spelled ``/``."""
    node = glob_node(segments, "/")
    return Branches((node, spelled("/"))) if all(isinstance(item, Deep) for item in segments) else node


def _ids(op: Op, template: Template, patterns: Sequence[Pattern], allowance: Allowance) -> list[Resource] | None:
    automaton = Automaton(Chain((spelled("/"), parse_regex(_id_regex(op, template)))))
    for segments in dict.fromkeys(one.segments for one in patterns if isinstance(one, SegmentPattern)):
        automaton.add(glob_node(segments, "/"))
    found = automaton.explore(allowance, lead="/")
    return None if found is None else [Resource("id", text, text) for text in found.values()]


def _id_regex(op: Op, template: Template) -> str:
    """Return the regular expression of the ids that a template renders, and perhaps a few more."""
    found = ""
    for part in re.split(r"(\{\w+(?::path)?\})", template.text):
        if part.endswith(":path}"):
            found += f"{_ID_SEGMENT}(?:/{_ID_SEGMENT})*"
        elif part.startswith("{"):
            found += _field_regex(op.hints[part[1:-1]])
        else:
            found += _escaped(part)
    return found


def _field_regex(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "(?:" + "|".join(_escaped(quote(str(value), safe=" @:+=,.-_~!$&'()")) for value in get_args(hint)) + ")"
    return r"(?:0|\-?[1-9][0-9]*)" if hint is int and type_of(hint).kind == "number" else _ID_SEGMENT


def _escaped(text: str) -> str:
    return "".join(char if char.isalnum() else f"\\{char}" for char in text)
