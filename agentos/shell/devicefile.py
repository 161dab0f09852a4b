"""`--devices FILE`: the ops of an app's devices, declared for the command line. Data only: no code is imported and nothing is mounted.

    bank.transfer:                      # DEVICE.OP
      args:                             # a JSON schema
        type: object
        properties: {account: {type: string}, to: {type: string}, amount: {type: number}}
        required: [account, to, amount]
      resource: acct/{account}          # template over the arguments; default DEVICE/OP
      kind: id                          # id (default), path, url, argv
      effect: once                      # pure, repeatable, keyed, probeable, once (default)
      sinks: [to, amount]
      result: {type: object, properties: {receipt: {type: string}}}      # what `result(bank.transfer).receipt` may name
      trusted: [receipt]
      late: {dest_ip: string}
      doc: Pay somebody.

Without the option, policy files are checked with what the folder ``devices`` beside them declares, if there is one.

YAML or JSON. The keys are those of `Device.op`; the arguments are a JSON schema, as for `Device.from_functions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from agentos.abi.limits import MANIFEST_BYTES_MAX
from agentos.abi.op import Effect, Op, OpTable, closest
from agentos.abi.ops import builtin
from agentos.abi.resource import Kind, Template
from agentos.abi.yamlstrict import Node, parse_yaml
from agentos.errors import Invalid

__all__ = ["declared", "table_with"]

_KEYS: Final = ("args", "result", "resource", "kind", "effect", "sinks", "trusted", "late", "doc")
_KINDS: Final[dict[str, Kind]] = {"id": "id", "path": "path", "url": "url", "argv": "argv"}
_LATE: Final[dict[str, type]] = {"string": str, "integer": int, "number": float, "boolean": bool}
_USAGE: Final = "see docs/reference/policy-tools.md"


def table_with(files: Iterable[Path] | None, *, beside: Iterable[Path] = ()) -> OpTable:
    """Return the built-in ops and those that `files` declare, or, when none are given, the declarations beside policy files.

    Args:
        files: Declarations.
        beside: Policy files, in whose folders a folder ``devices`` is looked for.

    Raises:
        Invalid: `invalid.op`, a file cannot be read or declares what is no op; a name is taken.
    """
    table = builtin()
    for file in files or _declarations(beside):
        for op in declared(_read(file), str(file)):
            table.add(op)
    return table


def _declarations(policies: Iterable[Path]) -> list[Path]:
    folders = dict.fromkeys(policy.parent / "devices" for policy in policies if policy != Path("-"))
    return [file for folder in folders for kind in ("yaml", "yml", "json") for file in sorted(folder.glob(f"*.{kind}"))]


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise Invalid("op", f"`{file}` cannot be read: {error.strerror}", hint=_USAGE, where=str(file)) from error
    if len(data) > MANIFEST_BYTES_MAX:
        raise Invalid("op", f"`{file}` has over {MANIFEST_BYTES_MAX} bytes", hint="split it", where=str(file))
    return data


def declared(data: bytes, source: str) -> list[Op]:
    """Return the ops that a file's bytes declare.

    Raises:
        Invalid: `invalid.op` with `where` as ``file:line:col``.
    """
    try:
        root = parse_yaml(data, source)
        if not isinstance(root.value, dict):
            raise root.wrong(f"`{source}` declares no ops", "write `bank.transfer: {args: {...}, effect: once}`")
        return [_op(name, node) for name, node in root.value.items()]
    except Invalid as error:
        where = error.fields.get("where", source)
        raise Invalid("op", error.message, hint=error.hint or _USAGE, where=where) from error


def _op(name: str, node: Node) -> Op:
    from agentos.devices.signature import from_json_schema  # noqa: PLC0415 - only where ops are declared

    items = _items(name, node)
    plain: dict[str, Any] = {key: item.plain() for key, item in items.items()}
    signature, _ = from_json_schema(name, plain.get("args", {"type": "object"}), str(plain.get("doc", "")))
    if "result" in plain:
        whole = {"type": "object", "properties": {"result": plain["result"]}, "required": ["result"]}
        signature.__annotations__["return"] = from_json_schema(name, whole, "")[0].__annotations__["result"]
    kind = _choice(items, "kind", "id", list(_KINDS))
    text = str(plain.get("resource", name.replace(".", "/")))
    if kind != "id" and not (text[:1] == "{" and text[-1:] == "}" and text[1:-1].isidentifier()):
        raise items.get("resource", node).wrong(f"a {kind} resource of `{name}` is one argument", "write `{argument}`")
    late = _texts_of(items, "late")
    return Op(
        name, signature, Effect(_choice(items, "effect", "once", [str(effect) for effect in Effect])),
        (Template(_KINDS[kind], text),), sinks=_texts(items, "sinks"), trusted=_texts(items, "trusted"),
        untrusted="*" not in _texts(items, "trusted"), late={key: _LATE[word] for key, word in late.items()},
    )  # fmt: skip


def _items(name: str, node: Node) -> dict[str, Node]:
    if not isinstance(node.value, dict):
        raise node.wrong(f"`{name}` must be a mapping", f"it takes {', '.join(_KEYS)}")
    for key in node.value:
        if key not in _KEYS:
            raise node.wrong(f"unknown key `{key}` in `{name}`", closest(key, _KEYS) or f"it takes {', '.join(_KEYS)}", key=key)
    items: dict[str, Node] = node.value
    return items


def _choice(items: dict[str, Node], key: str, default: str, known: list[str]) -> str:
    if key not in items:
        return default
    node = items[key]
    if not isinstance(node.value, str) or node.value not in known:
        raise node.wrong(f"`{key}` is `{node.raw}`", closest(str(node.raw), known) or f"use one of {', '.join(known)}")
    return node.value


def _texts(items: dict[str, Node], key: str) -> list[str]:
    node = items.get(key)
    if node is None:
        return []
    values = node.plain()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise node.wrong(f"`{key}` must be a list of names", f"write `{key}: [to, amount]`")
    return values


def _texts_of(items: dict[str, Node], key: str) -> dict[str, str]:
    node = items.get(key)
    values = node.plain() if node is not None else {}
    if not isinstance(values, dict) or not all(word in _LATE for word in values.values()):
        assert node is not None
        raise node.wrong(f"`{key}` maps names to types", f"the types are {', '.join(_LATE)}")
    return values
