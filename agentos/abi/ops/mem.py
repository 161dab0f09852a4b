"""mem: notes with kinds, labels and sources in namespaces, and the view of them that a prompt is built from.

A note's id is the text ``NAMESPACE/ID`` that `mem.put` returned, so that every call shows its namespace before anything is looked at.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from agentos.abi.limits import LIST_LIMIT_MAX
from agentos.abi.ops.declare import Family
from agentos.abi.values import Ref
from agentos.errors import Invalid

FAMILY = Family("mem")
Rights = Literal["read", "write"]


def _own(pid: int) -> str:
    return f"proc/{pid}"


def _prepare(args: dict[str, Any], pid: int) -> None:
    """Write object handles as ``NAMESPACE/NAME`` and fill the namespace: the one of `ref`, else the caller's own.

    Raises:
        Invalid: `ref` lies in another namespace than the one named, so the decision would be about the wrong one.
    """
    ref = args.get("ref")
    if isinstance(ref, Ref):
        ref = args["ref"] = f"{ref.namespace}/{ref.name}"
    if "namespace" not in args:
        return
    home = ref.rpartition("/")[0] if ref else None
    if args["namespace"] is None:
        args["namespace"] = home or _own(pid)
    elif home is not None and home != args["namespace"]:
        message = f"`{ref}` is not in namespace `{args['namespace']}`"
        raise Invalid("argument", message, field="namespace", hint="leave `namespace` out")


def _is_own(args: dict[str, Any], pid: int) -> bool:
    own = _own(pid)
    places = [args[name] for name in ("namespace", "ref", "id", "a", "b") if args.get(name) is not None]
    if "namespace" in args:
        places = [args["namespace"]]
    return all(place == own or place.startswith(f"{own}/") for place in places)


_op = partial(FAMILY.op, prepare=_prepare, self_right=_is_own)
_in_namespace = partial(_op, on="id:{namespace:path}")
_by_ref = partial(_op, on="id:{ref:path}")
_by_id = partial(_op, on="id:{id:path}")


@_in_namespace("local")
def put(
    text: str,
    namespace: str | None = None,
    kind: str = "note",
    labels: list[str] = [],  # noqa: B006 - a declaration, never called
    source_ids: list[str] = [],  # noqa: B006
    at: float | None = None,
    id: str | None = None,  # noqa: A002 - frozen name
) -> str:
    """Keep a note and return its id. The same text in the same namespace is kept once."""
    raise NotImplementedError


@_by_id("local")
def supersede(id: str, text: str) -> str:  # noqa: A002 - frozen name
    """Put a newer note in the place of an older one, which stays readable in the past; returns the new id."""
    raise NotImplementedError


@_op("local", on=("id:{a:path}", "id:{b:path}"))
def link(a: str, b: str, kind: str) -> None:
    """Record that note or object `a` relates to `b`."""
    raise NotImplementedError


@_by_ref("local")
def pin(ref: str | Ref) -> None:
    """Keep a note or object in every prompt of the caller; it is never compacted."""
    raise NotImplementedError


@_by_ref("local")
def unpin(ref: str | Ref) -> None:
    """Undo `mem.pin`."""
    raise NotImplementedError


@_in_namespace("local")
def forget(
    ref: str | Ref | None = None,
    query: str | None = None,
    namespace: str | None = None,
    mode: Literal["retire", "erase"] = "retire",
) -> int:
    """End notes from now on (`retire`), or remove their content for good (`erase`); returns how many."""
    raise NotImplementedError


@_by_ref("pure")
def get(ref: str | Ref) -> dict[str, Any]:
    """Return one note: `{id, text, kind, labels, source_ids, at, superseded_by}`."""
    raise NotImplementedError


@_in_namespace("pure")
def search(
    query: str,
    namespace: str | None = None,
    k: Annotated[int, Ge(1), Le(LIST_LIMIT_MAX)] = 10,
    as_of: float | None = None,
    kind: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> list[dict[str, Any]]:
    """Return the `k` best notes, best first: `[{id, text, score, at, labels, source_ids}]`. `as_of` searches the past."""
    raise NotImplementedError


@_by_id("pure")
def expand(id: str) -> list[dict[str, Any]]:  # noqa: A002 - frozen name
    """Return the originals that a digest or page stands for."""
    raise NotImplementedError


@_in_namespace("local")
def view(budget_tokens: Annotated[int, Ge(1)], query: str | None = None, namespace: str | None = None) -> dict[str, Any]:
    """Build and record what a prompt may show within a budget: `{items: [{id, form, tokens, reason}], text, tokens}`."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True)
def stat() -> dict[str, Any]:
    """Count the caller's notes, pages and tokens per tier."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True)
def explain(turn: int | None = None) -> list[dict[str, Any]]:
    """Say for each item of a prompt why it is there; by default of the last prompt."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self", self_right=True)
def compact(dry_run: bool = False) -> dict[str, Any]:
    """Page the caller's cold events out now; returns what moved."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{namespace:path}")
def share(namespace: str, pid: int, rights: list[Rights]) -> list[int]:
    """Give process `pid` capabilities on a namespace, derived from the caller's; returns their ids."""
    raise NotImplementedError
