"""net: requests to other machines. The URL is decided before any name is resolved, the address again before the first byte."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Gt

from agentos.abi.ops.declare import Family
from agentos.abi.resource import canonical_url

FAMILY = Family("net")


def _host(args: dict[str, Any]) -> str:
    return canonical_url(args["url"]).host


def _scheme(args: dict[str, Any]) -> str:
    return canonical_url(args["url"]).scheme


def _port(args: dict[str, Any]) -> int:
    return canonical_url(args["url"]).port


@FAMILY.op(
    "once",  # the strictest of its methods: GET and HEAD are harmless to repeat, the declaration cannot say so
    on="url:{url}",
    sinks=("url",),
    late={"dest_ip": str, "redirect": str},
    derived={"host": (str, _host), "scheme": (str, _scheme), "port": (int, _port)},
    trusted=("status",),
    untrusted=True,
    clearance="public",
    slot="net",
)
def fetch(
    url: str,
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET",
    headers: dict[str, str] = {},  # noqa: B006 - a declaration, never called
    body: str | bytes | None = None,
    timeout_s: Annotated[float, Gt(0)] = 30,
) -> dict[str, Any]:
    """Make one request: `{status, headers, body, ref, url}`. Every redirect is decided like a new call."""
    raise NotImplementedError
