"""secret: values that a process may have sent, and never sees. Its arguments hold references; only a device gets the value."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family
from agentos.abi.secret import secret_name

FAMILY = Family("secret")


def _check_name(args: dict[str, Any], pid: int) -> None:
    args["name"] = secret_name(args["name"])


@FAMILY.op("pure", on="id:{name}", sinks=("op", "host"), prepare=_check_name)
def use(name: str, op: str, host: str = "") -> dict[str, Any]:
    """Say that the caller may have a secret put into a call of `op` to `host`: `{name, may}`, never a value.

    Decided for every reference ``{{secret:NAME}}`` in a call with an effect outside; `host` is that of the call's URL, or empty.
    """
    raise NotImplementedError
