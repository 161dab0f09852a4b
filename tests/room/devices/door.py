"""A hand-made door for the rooms of the devices: validates and renders a call as the broker does, makes a permit, runs the handler."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from agentos.abi.permit import _SEAL, Permit
from agentos.abi.syscall import Syscall
from agentos.errors import Denied


class Door:
    """Records what was rechecked and kept; denies the resolved paths in `denied` and everything beneath them."""

    def __init__(self, syscalls: Iterable[Syscall], denied: Iterable[str] = ()) -> None:
        self.served = {s.op.name: s for s in syscalls}
        self.denied = tuple(denied)
        self.rechecked: list[tuple[str, Any, int]] = []
        self.kept: dict[str, bytes] = {}
        self.calls = 0

    def admit(self, name: str, args: dict[str, Any], *, key: str = "") -> tuple[Permit, dict[str, Any]]:
        op = self.served[name].op
        self.calls += 1
        values = op.validate(args)
        permit = Permit(_SEAL, 1, name, op.render(values, "/", 1), str(self.calls), None)
        permit.key = key or f"key-{self.calls}"
        permit.seq = self.calls
        permit.recheck, permit.keep = self._recheck, self._keep
        return permit, values

    async def __call__(self, name: str, /, *, call_key: str = "", **args: Any) -> Any:
        permit, values = self.admit(name, args, key=call_key)
        return await self.served[name].handler(permit, values)

    async def reconcile(self, name: str, /, *, call_key: str = "", **args: Any) -> Any:
        permit, values = self.admit(name, args, key=call_key)
        reconcile = self.served[name].reconcile
        assert reconcile is not None
        return await reconcile(permit, values)

    async def preview(self, name: str, /, **args: Any) -> Any:
        _, values = self.admit(name, args)
        preview = self.served[name].preview
        assert preview is not None
        return await preview(values, {})

    def _recheck(self, attribute: str, value: Any, index: int = 0) -> None:
        self.rechecked.append((attribute, value, index))
        if any(value == path or str(value).startswith(f"{path}/") for path in self.denied):
            raise Denied("capability", f"`{value}` is denied by the test")

    async def _keep(self, data: bytes) -> str:
        digest = sha256(data).hexdigest()
        self.kept[digest] = data
        return digest
