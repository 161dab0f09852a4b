"""URLs that stand for all URLs: scheme and port, host, and path are explored apart, as patterns match them apart, then put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentos.abi.resource import Resource, Url, canonical_url
from agentos.errors import Invalid
from agentos.policy.glob import Deep, Sequence_
from agentos.policy.narrow.automaton import Allowance, Automaton, glob_node, spelled
from agentos.policy.pattern import compile_pattern
from agentos.policy.regex_parse import Branches, Chain, Node, parse_regex
from agentos.policy.url_pattern import UrlParts, UrlPattern

__all__ = ["urls"]

_DEFAULT_PORTS: Final = {"https": 443, "http": 80, "wss": 443, "ws": 80, "ftp": 21}
_SPARE_PORT: Final = 8443
_SPARE_SCHEME: Final = "gopher"
_LABEL: Final = r"[a-z0-9_\-]"
_NAMED: Final = "|".join((  # a last label that no client reads as a number
    rf"[a-z_\-]{_LABEL}*", rf"[1-9][0-9]*[a-z_\-]{_LABEL}*", rf"0[0-9]+[a-z_\-]{_LABEL}*", rf"0[a-wyz_\-]{_LABEL}*",
    rf"0x[0-9a-f]*[g-z_\-]{_LABEL}*",
))  # fmt: skip
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9][0-9]|[0-9])"
_HOST: Final = parse_regex(rf"(?:{_LABEL}+\.)*(?:{_NAMED})|{_OCTET}(?:\.{_OCTET}){{3}}")
_GROUPS: Final = "[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*"
_ADDRESS: Final = parse_regex(f"[0-9a-f]{{1,4}}(?::[0-9a-f]{{1,4}}){{7}}|(?:{_GROUPS})?::(?:{_GROUPS})?")
_CHAR: Final = r"(?:[A-Za-z0-9:@!$&'()*+,;=~_\-]|%[0-9A-F][0-9A-F])"
_SEGMENT: Final = rf"(?:{_CHAR}(?:{_CHAR}|\.)*|\.{_CHAR}(?:{_CHAR}|\.)*|\.\.(?:{_CHAR}|\.)+)"
_PATH: Final = parse_regex(rf"/|(?:/{_SEGMENT})+/?")
_QUERY: Final = "x=y"

_Place = tuple[frozenset[int], str]


def urls(patterns: Sequence[UrlParts], tests: Sequence[tuple[str, str]], allowance: Allowance) -> list[Resource] | None:
    """Return URLs that realise every combination of `patterns` and of the tests `like` and ``==``; None when the allowance is used up."""
    liked = [compile_pattern("url", operand) for verb, operand in tests if verb == "like"]
    every = list(dict.fromkeys([*patterns, *(one.parts for one in liked if isinstance(one, UrlPattern))]))
    hosts = _hosts([parts.host for parts in every], allowance)
    paths = _explored([parts.path for parts in every], _PATH, "/", "", allowance)
    if hosts is None or paths is None:
        return None
    found: dict[frozenset[int], Url] = {}
    origins = _origins(every)
    for schemed, (scheme, port) in origins.items():
        for hosted, host in hosts:
            both = schemed & hosted
            for pathed, path in paths:
                found.setdefault(both & pathed, Url(scheme, host, port, path, ""))
            if not allowance.take(len(paths)):
                return None
    literals = [operand for verb, operand in tests if verb == "=="]
    whole = [*found.values(), *(url for text in literals if (url := _canonical(text)) is not None)]
    if literals:
        whole += [Url(url.scheme, url.host, url.port, url.path, _QUERY) for url in whole if not url.query]
    return [Resource("url", url.text, url) for url in whole]


def _canonical(text: str) -> Url | None:
    try:
        return canonical_url(text)
    except Invalid:
        return None


def _origins(every: Sequence[UrlParts]) -> dict[frozenset[int], tuple[str, int]]:
    """Return the pairs of scheme and port that patterns tell apart, the usual ones first."""
    named = [parts.scheme for parts in every if parts.scheme is not None]
    ports = [parts.port for parts in every if parts.port]
    found: dict[frozenset[int], tuple[str, int]] = {}
    for scheme in dict.fromkeys([*_DEFAULT_PORTS, *named, _SPARE_SCHEME]):
        spare = next(port for port in range(_SPARE_PORT, 2 * _SPARE_PORT) if port not in ports)
        for port in dict.fromkeys([_DEFAULT_PORTS.get(scheme, spare), *ports, *_DEFAULT_PORTS.values(), spare]):
            matching = frozenset(
                number
                for number, parts in enumerate(every)
                if parts.scheme in (None, scheme) and parts.ports_of(scheme) in (0, port)
            )
            found.setdefault(matching, (scheme, port))
    return found


def _hosts(globs: Sequence[Sequence_], allowance: Allowance) -> list[_Place] | None:
    """Return hosts, and addresses written with ``:``, which are one label whatever they hold."""
    names = _explored(globs, _HOST, ".", ".", allowance)
    addresses = _explored(globs, _ADDRESS, "\0", "\0", allowance)
    return None if names is None or addresses is None else names + addresses


def _explored(globs: Sequence[Sequence_], base: Node, separator: str, lead: str, allowance: Allowance) -> list[_Place] | None:
    """Return texts for every combination of globs; languages are numbered like `globs`."""
    automaton = Automaton(Chain((spelled(lead), base)))
    numbers = {segments: automaton.add(_rooted(segments, separator, lead)) for segments in dict.fromkeys(globs)}
    found = automaton.explore(allowance, lead=lead)
    if found is None:
        return None
    return [
        (frozenset(place for place, segments in enumerate(globs) if numbers[segments] in vector), text)
        for (vector, _), text in found.items()
    ]


def _rooted(segments: Sequence_, separator: str, lead: str) -> Node:
    """Return the texts that a glob matches; a path without segments is spelled ``/``."""
    node = glob_node(segments, separator)
    return node if lead or not all(isinstance(item, Deep) for item in segments) else Branches((node, spelled("/")))
