"""obj: typed, versioned, labelled objects with a name in a namespace."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from annotated_types import Ge, Le

from agentos.abi.codec import digest, encode
from agentos.abi.limits import LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from agentos.abi.ops.declare import Family
from agentos.abi.values import Ref

FAMILY = Family("obj")
_ONE = "id:{namespace:path}/{name:path}"


def own_namespace(args: dict[str, Any], pid: int) -> None:
    """Fill the default namespace, the caller's private one, and the default name, which comes from the content."""
    ref = args.get("ref")
    if ref is not None:
        args["namespace"], args["name"], args["version"] = ref.namespace, ref.name, ref.version
        args["ref"] = None
    if args["namespace"] is None:
        args["namespace"] = f"proc/{pid}"
    if "name" in args and args["name"] is None:
        args["name"] = digest(encode(args.get("value"))).hex()[:16]
    for part in (
        "start",
        "count",
    ):  # what is not given is no argument, so that calls recorded before there was one are known again
        if part in args and args[part] is None:
            del args[part]


def _is_own(args: dict[str, Any], pid: int) -> bool:
    return bool(args["namespace"] == f"proc/{pid}")


_op = partial(FAMILY.op, on=_ONE, prepare=own_namespace, self_right=_is_own)


@_op("local")
def put(
    value: Any,
    name: str | None = None,
    namespace: str | None = None,
    type: str | None = None,  # noqa: A002 - frozen name
    labels: list[str] = [],  # noqa: B006
    if_version: int | None = None,
) -> Ref:
    """Store a value as the next version of `namespace/name`. Without a name it gets one from its content."""
    raise NotImplementedError


@_op("local")
def append(name: str, value: Any, namespace: str | None = None) -> Ref:
    """Append one element to a list object; costs the element, not the list."""
    raise NotImplementedError


@_op("pure")
def get(
    name: str | None = None,
    ref: Ref | None = None,
    namespace: str | None = None,
    version: int | None = None,
    start: Annotated[int, Ge(0)] | None = None,
    count: Annotated[int, Ge(1)] | None = None,
) -> Any:
    """Return the value of an object, by default its newest version.

    `start` and `count` take a part: characters of a text, items of a list, bytes.
    """
    raise NotImplementedError


@FAMILY.op("pure", on="id:{namespace:path}", prepare=own_namespace, self_right=_is_own, name="list")
def list_(
    namespace: str | None = None,
    type: str | None = None,  # noqa: A002 - frozen name
    tag: str | None = None,
    label: str | None = None,
    limit: Annotated[int, Ge(1), Le(LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT,
    cursor: str | None = None,
) -> dict[str, Any]:
    """List the objects of a namespace by name: `{items: [{namespace, name, version, type, labels, size_bytes, at}], cursor}`."""
    raise NotImplementedError


@FAMILY.op("local", on=("id:{a:path}", "id:{b:path}"))
def link(a: str, b: str, kind: str) -> None:
    """Record that object `a` relates to object `b`."""
    raise NotImplementedError


@_op("local")
def drop(name: str, namespace: str | None = None) -> None:
    """Drop a name; its versions stay readable for checkpoints."""
    raise NotImplementedError
