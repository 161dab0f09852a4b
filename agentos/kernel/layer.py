"""Policy layers: the immutable stacks that processes are decided by.

A stack is the kernel's layers, then those a process inherits or was given, then its own (`policy.update`), outermost first. Layers are kept
by digest, so a process's record holds a few digests and a thousand processes share one compiled stack. The kernel's own layers are this
kernel's: a reopened store gets the layers the new kernel was given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from agentos.abi.codec import decode, encode
from agentos.abi.op import OpTable
from agentos.abi.records import Change, PolicyRecord, ProcessRecord
from agentos.errors import Invalid
from agentos.policy import Layer, Policy, Stack, load_layer

__all__ = ["LayerTable"]

log = logging.getLogger("agentos.kernel")

STACKS_MAX: Final = 4_096
"""Compiled stacks that are remembered; a process keeps its own all the same."""


class LayerTable:
    """Digest -> layer, and tuple of digests -> compiled stack."""

    def __init__(self, kernel: Sequence[Policy], ops: OpTable) -> None:
        self._ops = ops
        self._use: Callable[[str], str | None] | None = None
        self._kernel = tuple(kernel)
        self._base: list[Layer] | None = None
        self._layers: dict[str, Layer] = {}
        self._records: dict[str, PolicyRecord] = {}
        self._stored: set[str] = set()
        self._dormant: set[str] = set()
        self._stacks: dict[tuple[int, tuple[str, ...]], Stack] = {}

    def compile(self, policy: Policy) -> Layer:
        """Parse, check and compile a policy against the op table.

        Raises:
            Invalid: `invalid.policy` with file:line:col.
        """
        return self.know(self.read(policy))

    def read(self, policy: Policy) -> Layer:
        """Compile a policy like `compile`, but forget it: nothing may come of it."""
        return load_layer(policy.text, source=policy.source, table=self._ops, use=policy.use)

    def know(self, layer: Layer) -> Layer:
        """Enter a compiled layer; return the one of the same text that is known already, if there is one."""
        return self._layers.setdefault(layer.digest, layer)

    def load(self, record: PolicyRecord) -> None:
        """Enter a layer read from the store; it is compiled when a process needs it."""
        self._records[record.digest] = record
        self._stored.add(record.digest)

    def get(self, digest: str) -> Layer:
        """Return an entered layer. One that names ops of a device that is not mounted denies everything until it is (default-deny)."""
        layer = self._layers.get(digest)
        if layer is None:
            record = self._records[digest]
            try:
                layer = load_layer(decode(record.text), source=record.source, table=self._ops, use=None)
            except Invalid as error:
                log.warning("layer_dormant source=%s error=%s", record.source, error.message)
                layer = load_layer(f'policy "{record.name}"', source=f"{record.source} (not loaded)", table=self._ops)
                self._dormant.add(digest)
            self._layers[digest] = layer
        return layer

    def wake_dormant(self) -> bool:
        """Forget stand-ins, so that their layers are compiled again: a device was mounted. False when there were none."""
        for digest in self._dormant:
            del self._layers[digest]
        woken = bool(self._dormant)
        if woken:
            self._dormant.clear()
            self._stacks.clear()
        return woken

    def keep(self, layer: Layer, changes: list[Change]) -> None:
        """Write a layer down, once."""
        if layer.digest not in self._stored:
            self._stored.add(layer.digest)
            record = PolicyRecord(digest=layer.digest, name=layer.name, source=layer.source, text=encode(layer.text))
            changes.append(Change(record))

    def stack(self, digests: Sequence[str], endorsing: int = 0) -> Stack:
        """Return the compiled stack of the kernel's layers and those of `digests`.

        Args:
            digests: Layers on top of the kernel's, outermost first.
            endorsing: How many of these, from the first, the host gave: they may endorse labels, as the kernel's own do.

        Raises:
            Invalid: `invalid.policy`, more than POLICY_LAYERS_MAX layers, or a layer of this kernel does not load.
        """
        key = (endorsing, tuple(digests))
        stack = self._stacks.get(key)
        if stack is None:
            if self._base is None:
                self._base = [self.compile(policy) for policy in self._kernel]
            stack = Stack([*self._base, *(self.get(digest) for digest in digests)], endorsing=len(self._base) + endorsing)
            if len(self._stacks) >= STACKS_MAX:
                self._stacks.clear()
            self._stacks[key] = stack
        return stack

    def stack_of(self, record: ProcessRecord) -> Stack:
        """Return the compiled stack that a process is decided by: its own layer is the innermost."""
        digests: list[str] = decode(record.layers) if record.layers else []
        return self.stack([*digests, record.own_layer] if record.own_layer else digests, record.endorsing)
