"""Policy layers: the immutable stacks that processes are decided by.

A stack is the kernel's layers, then those a process inherits or was given, outermost first. Layers are kept by digest, so a process's
record holds a few digests and a thousand processes share one compiled stack. The kernel's own layers are this kernel's: a reopened
store gets the layers the new kernel was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentos.abi.codec import decode, encode
from agentos.abi.op import OpTable
from agentos.abi.records import Change, PolicyRecord
from agentos.policy import Layer, Policy, Stack, load_layer

__all__ = ["LayerTable"]


class LayerTable:
    """Digest -> layer, and tuple of digests -> compiled stack."""

    def __init__(self, kernel: Sequence[Policy], ops: OpTable) -> None:
        self._ops = ops
        self._use: Callable[[str], str | None] | None = None
        self._kernel = tuple(kernel)
        self._base: list[Layer] | None = None
        self._layers: dict[str, Layer] = {}
        self._stored: set[str] = set()
        self._stacks: dict[tuple[str, ...], Stack] = {}

    def compile(self, policy: Policy) -> Layer:
        """Parse, check and compile a policy against the op table.

        Raises:
            Invalid: `invalid.policy` with file:line:col.
        """
        layer = load_layer(policy.text, source=policy.source, table=self._ops, use=policy.use)
        self._layers.setdefault(layer.digest, layer)
        return self._layers[layer.digest]

    def load(self, record: PolicyRecord) -> None:
        """Compile a layer read from the store."""
        layer = load_layer(decode(record.text), source=record.source, table=self._ops, use=None)
        self._layers[record.digest] = layer
        self._stored.add(record.digest)

    def keep(self, layer: Layer, changes: list[Change]) -> None:
        """Write a layer down, once."""
        if layer.digest not in self._stored:
            self._stored.add(layer.digest)
            record = PolicyRecord(digest=layer.digest, name=layer.name, source=layer.source, text=encode(layer.text))
            changes.append(Change(record))

    def stack(self, digests: Sequence[str]) -> Stack:
        """Return the compiled stack of the kernel's layers and those of `digests`."""
        key = tuple(digests)
        stack = self._stacks.get(key)
        if stack is None:
            if self._base is None:
                self._base = [self.compile(policy) for policy in self._kernel]
            stack = self._stacks[key] = Stack([*self._base, *(self._layers[digest] for digest in key)])
        return stack
