"""What a manifest may say: the keys of an image, their types, their bounds, and the messages for everything else.

Every key is one row of a table that says how its value is read. A reader gets the `Node` with its place, so that each message names
``file:line:col``, what was expected and the nearest known word. Reading observes only files of the image's own package.

INVARIANT visibility-is-not-authority: a manifest imports nothing, runs nothing and grants nothing. `capabilities` is a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from agentos.abi.callspec import read_calls, read_steps
from agentos.abi.limits import CAPS_PER_PROCESS_MAX, TURNS_DEFAULT, TURNS_MAX
from agentos.abi.op import OP_NAME
from agentos.abi.package import Package
from agentos.abi.typed import (
    COUNT_MAX,
    choice_of,
    duration_of,
    list_of,
    mapping_of,
    number_of,
    text_like,
    text_of,
    unit_of,
    whole_of,
)
from agentos.abi.units import parse_size_bytes
from agentos.abi.yamlstrict import Node

__all__ = [
    "BUDGET_KEYS",
    "IMAGE_NAME",
    "IMAGE_VERSION",
    "KEYS",
    "PolicyFile",
    "Program",
    "Tool",
    "read_manifest",
]

IMAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*")
IMAGE_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
BUDGET_KEYS: Final = {
    "tokens": "tokens", "usd": "usd", "wall": "wall_s", "calls": "calls", "children": "children", "depth": "depth",
    "rss": "rss_bytes",
}  # fmt: skip
"""Key under ``limits`` -> key of a budget."""
_OP_PATTERN = re.compile(rf"\*|{OP_NAME.pattern}|[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*\.\*")


class Program(msgspec.Struct, frozen=True):
    """What a process of the image runs. `turns` is of react, `steps` of script, `calls` of plan, `name` of python."""

    kind: Literal["react", "plan", "script", "python", "host"] = "react"
    turns: int = TURNS_DEFAULT
    name: str = ""
    steps: tuple[dict[str, Any], ...] = ()
    calls: tuple[dict[str, Any], ...] = ()


class Tool(msgspec.Struct, frozen=True):
    """One thing shown to the model.

    kind `op`: `name` is an op pattern. `jit`: `files` holds its source. `mcp`: `name` is the mounted server and `allow` which of its
    tools are shown (none named: all). `skill`: `files` holds the folder.
    """

    kind: Literal["op", "jit", "mcp", "skill"]
    name: str
    allow: tuple[str, ...] = ()
    files: dict[str, bytes] = {}


class PolicyFile(msgspec.Struct, frozen=True):
    """The image's policy layer: its text, and what rule references call it."""

    source: str
    text: str


def read_manifest(node: Node, package: Package) -> dict[str, Any]:
    """Check a manifest and return the fields of an image that it sets.

    Raises:
        Invalid: `invalid.manifest`, the first thing that is wrong, in the order of the file.
    """
    items = mapping_of(node, KEYS, required=("agentos", "name"), what="the manifest")
    fields: dict[str, Any] = {}
    for key, item in items.items():
        fields |= KEYS[key](item, package)
    if "from" not in items and "prompt" not in items and fields.get("body", Program()).kind == "react":
        raise node.wrong("`prompt` is missing", "a react program needs one: `prompt: {file: NAME.md}` or `prompt: {text: |}`")
    return fields


Fields = dict[str, Any]


def _utf8(node: Node, package: Package, hint: str) -> str:
    name = text_of(node, hint, 4096)
    data = package.read(name, node)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise node.wrong(f"file `{name}` is not UTF-8 at byte {error.start}", "save it as UTF-8") from error


def _agentos(node: Node, package: Package) -> Fields:
    if node.value != 1 or not isinstance(node.value, int) or isinstance(node.value, bool):
        raise node.wrong(f"manifest version `{node.raw or node.kind}` is not supported", "write `agentos: 1`")
    return {}


def _name(node: Node, package: Package) -> Fields:
    return {"name": text_like(node, IMAGE_NAME, "an image name", "use letters, digits, `-`, `_`, `.`, for example `coder`")}


def _version(node: Node, package: Package) -> Fields:
    hint = "write for example `1.2.0`, and quote what reads as a number: `'1.2'`"
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return {"version": str(node.value)}
    return {"version": text_like(node, IMAGE_VERSION, "a version", hint)}


def _from(node: Node, package: Package) -> Fields:
    hint = "write `NAME:VERSION`, for example `base:1`"
    name, colon, version = text_of(node, hint).partition(":")
    if not IMAGE_NAME.fullmatch(name) or (colon and not IMAGE_VERSION.fullmatch(version)):
        raise node.wrong(f"`{node.value}` does not name an image", hint)
    return {"parent": f"{name}:{version}" if colon else f"{name}:1"}


_PROGRAM_KEYS = {"react": ("turns",), "plan": ("calls",), "script": ("steps",), "python": ("name",), "host": ()}


def _program(node: Node, package: Package) -> Fields:
    items = mapping_of(node, ("kind", "turns", "steps", "name", "calls"))
    kind = choice_of(items["kind"], tuple(_PROGRAM_KEYS)) if "kind" in items else "react"
    for key in [key for key in items if key not in ("kind", *_PROGRAM_KEYS[kind])]:
        home = next(name for name, keys in _PROGRAM_KEYS.items() if key in keys)
        raise node.wrong(f"`{key}` does not belong to a {kind} program", f"it is for `kind: {home}`", key=key)
    for key in _PROGRAM_KEYS[kind]:
        if key not in items and key != "turns":
            raise node.wrong(f"`{key}` is missing in `program`", f"a {kind} program needs it")
    fields = {key: _PROGRAM_VALUES[key](item) for key, item in items.items() if key != "kind"}
    return {"body": Program(kind=kind, **fields)}  # type: ignore[arg-type] # choice_of checked it


_PROGRAM_VALUES: dict[str, Callable[[Node], Any]] = {
    "turns": lambda node: whole_of(node, 1, TURNS_MAX),
    "name": lambda node: text_of(node, "the name under which the host registered the program"),
    "steps": read_steps,
    "calls": read_calls,
}


def _model(node: Node, package: Package) -> Fields:
    if isinstance(node.value, dict):
        for key in node.value:
            if key in ("key", "api_key", "token", "base_url", "url"):
                raise node.wrong(f"`{key}` does not belong into an image", "the host keeps it; name a profile only", key=key)
    items = mapping_of(node, ("profile",))
    return {"profile": text_of(items["profile"], "name a profile of the host, for example `default`")} if items else {}


def _prompt(node: Node, package: Package) -> Fields:
    items = mapping_of(node, ("file", "text"))
    if len(items) != 1:
        raise node.wrong("`prompt` takes exactly one of `file` and `text`", "write `prompt: {file: coder.md}`")
    if "file" in items:
        return {"prompt": _utf8(items["file"], package, "name a text file beside the manifest")}
    return {"prompt": text_of(items["text"], "write the prompt as text", COUNT_MAX)}


def _tools(node: Node, package: Package) -> Fields:
    return {"tools": tuple(_tool(item, package) for item in list_of(node, "write `tools: [fs.*, exec.run]`"))}


def _tool(node: Node, package: Package) -> Tool:
    if isinstance(node.value, str):
        return Tool("op", text_like(node, _OP_PATTERN, "an op or a family of ops", "write for example `fs.read` or `fs.*`"))
    items = mapping_of(node, ("jit", "mcp", "skill", "allow"))
    kinds = [key for key in ("jit", "mcp", "skill") if key in items]
    if len(kinds) != 1:
        raise node.wrong(f"`{node.path}` takes exactly one of `jit`, `mcp` and `skill`", "write `{jit: tools/count.ts}`")
    kind = kinds[0]
    if "allow" in items and kind != "mcp":
        raise node.wrong("`allow` is for `mcp` tools", f"leave it out of a `{kind}` tool", key="allow")
    return _TOOLS[kind](items, package)


def _jit(items: dict[str, Node], package: Package) -> Tool:
    node = items["jit"]
    path = text_of(node, "name a TypeScript file beside the manifest", 4096)
    stem, dot, ending = path.rpartition("/")[2].rpartition(".")
    if not dot or ending != "ts":
        raise node.wrong(f"`{path}` is not a TypeScript file", "name a `.ts` file")
    return Tool("jit", stem, files={f"{stem}.ts": package.read(path, node)})


def _mcp(items: dict[str, Node], package: Package) -> Tool:
    allow = list_of(items["allow"], "write `allow: [get_issue]`") if "allow" in items else []
    return Tool(
        "mcp", text_of(items["mcp"], "name a mounted server"), allow=tuple(text_of(item, "name a tool") for item in allow)
    )


def _skill(items: dict[str, Node], package: Package) -> Tool:
    node = items["skill"]
    path = text_of(node, "name a folder beside the manifest", 4096).rstrip("/")
    files = package.tree(path, node)
    if "SKILL.md" not in files:
        raise node.wrong(f"`{path}` holds no SKILL.md", "a skill is a folder with SKILL.md")
    return Tool("skill", path.rpartition("/")[2], files=files)


_TOOLS: dict[str, Callable[[dict[str, Node], Package], Tool]] = {"jit": _jit, "mcp": _mcp, "skill": _skill}


def _capabilities(node: Node, package: Package) -> Fields:
    hint = 'write `capabilities: ["fs.read /docs/**"]`'
    return {"capabilities": tuple(text_of(item, hint, 10_000).strip() for item in list_of(node, hint, CAPS_PER_PROCESS_MAX))}


def _policy(node: Node, package: Package) -> Fields:
    text = _utf8(node, package, "name a policy file, relative to the manifest")
    return {"policy": PolicyFile(node.value.removeprefix("../"), text)}


def _asks(node: Node, package: Package) -> Fields:
    items = mapping_of(node, ("timeout", "on_timeout"))
    fields: Fields = {}
    if "timeout" in items:
        fields["ask_timeout_s"] = duration_of(items["timeout"])
    if "on_timeout" in items:
        fields["on_timeout"] = choice_of(items["on_timeout"], ("deny", "suspend"))
    return fields


def _memory(node: Node, package: Package) -> Fields:
    items = mapping_of(node, ("context_tokens", "namespaces", "handles"))
    fields: Fields = {}
    if "context_tokens" in items:
        fields["context_tokens"] = whole_of(items["context_tokens"], 1)
    if "namespaces" in items:
        names = list_of(items["namespaces"], "write `namespaces: [project]`")
        hint = "use letters, digits, `-`, `_`, `.`, `/`"
        fields["namespaces"] = tuple(text_like(item, IMAGE_NAME, "a namespace", hint) for item in names)
    if "handles" in items:
        fields["handles"] = choice_of(items["handles"], ("never", "large", "untrusted"))
    return fields


_LIMITS: dict[str, Callable[[Node], float]] = {
    "tokens": whole_of,
    "usd": number_of,
    "wall": duration_of,
    "calls": whole_of,
    "children": whole_of,
    "depth": whole_of,
    "rss": lambda node: int(unit_of(node, parse_size_bytes, "1GiB")),
}


def _limits(node: Node, package: Package) -> Fields:
    items = mapping_of(node, _LIMITS)
    return {"limits": {BUDGET_KEYS[key]: _LIMITS[key](item) for key, item in items.items()}}


def _result(node: Node, package: Package) -> Fields:
    schema = mapping_of(node, ("schema",), required=("schema",))["schema"]
    value = schema.plain() if isinstance(schema.value, dict) else _json(schema, package)
    if not isinstance(value, dict):
        raise schema.wrong("the result's schema is not a JSON object", "write a JSON schema with `type` and `properties`")
    return {"result_schema": value}


def _json(node: Node, package: Package) -> Any:
    text = _utf8(node, package, "name a JSON schema file, relative to the manifest")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise node.wrong(f"file `{node.value}` is not JSON: {error}", "write one JSON object") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        raise ValueError("a key occurs twice")
    return items


def _no_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is not a JSON value")


KEYS: Final[dict[str, Callable[[Node, Package], Fields]]] = {
    "agentos": _agentos,
    "name": _name,
    "version": _version,
    "from": _from,
    "program": _program,
    "model": _model,
    "prompt": _prompt,
    "tools": _tools,
    "capabilities": _capabilities,
    "policy": _policy,
    "asks": _asks,
    "memory": _memory,
    "limits": _limits,
    "result": _result,
}
"""Key -> how its value is read: the whole vocabulary of a manifest."""
