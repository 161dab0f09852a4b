"""The stack of layers and its decision: pure, deterministic, and the same whether anything is remembered or not.

For op and resources the stack is reduced once to a *residual*: one verdict where nothing depends on arguments, and the few conditional
rules that are left. Residuals are remembered, at most DECISION_CACHE_MAX; a decision is then one lookup and the conditions left.

INVARIANT deny-wins: the verdict is the least over layers and resources, so adding a layer, or a deny to a layer, never grants.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.limits import DECISION_CACHE_MAX, POLICY_LAYERS_MAX
from agentos.abi.op import Op
from agentos.abi.resource import Resource
from agentos.errors import Invalid
from agentos.policy.duty import Duties
from agentos.policy.flow import Charge
from agentos.policy.label import Labels
from agentos.policy.layer import BoundRule, Layer
from agentos.policy.pattern import keys_of
from agentos.policy.verdict import UNRESTRICTED, Verdict, least

if TYPE_CHECKING:
    from agentos.policy.explain import Explanation

__all__ = ["Stack"]

_NONE_LATE: Final[frozenset[str]] = frozenset()


class _Residual:
    """What is left of a stack for one op and its resources: a settled verdict, and open lists of rules with their default."""

    __slots__ = ("open", "settled")

    def __init__(self, settled: Verdict | None, still_open: tuple[tuple[tuple[BoundRule, ...], Verdict], ...]) -> None:
        self.settled = settled
        self.open = still_open

    def decide(self, args: Mapping[str, Any], facts: Mapping[str, Any], late: frozenset[str]) -> Verdict:
        verdict = self.settled
        for rules, default in self.open:
            applying = next((rule for rule in rules if rule.applies(args, facts, late)), None)
            found = default if applying is None else applying.verdict_on(args, facts)
            if found.outcome == "deny":
                return found
            verdict = found if verdict is None else least(verdict, found)
        assert verdict is not None, "a residual without rules is settled"
        return verdict


class Stack:
    """An immutable stack of layers, outermost first. An empty one allows every call: capabilities alone decide.

    Args:
        layers: The layers.
        endorsing: How many of them, from the first, may call a result trusted; None = all. Layers pushed later never may.

    Raises:
        Invalid: `invalid.policy`, more than POLICY_LAYERS_MAX layers.
    """

    __slots__ = ("_duties", "_labels", "_residuals", "endorsing", "labels_values", "layers", "uses_provenance")

    def __init__(self, layers: Sequence[Layer] = (), endorsing: int | None = None) -> None:
        if len(layers) > POLICY_LAYERS_MAX:
            hint = "end a process of this lineage, or put rules of several layers into one file"
            raise Invalid("policy", f"a stack has {len(layers)} layers, {POLICY_LAYERS_MAX} at most", hint=hint)
        self.layers = tuple(layers)
        self.endorsing = len(self.layers) if endorsing is None else min(endorsing, len(self.layers))
        self.uses_provenance = any(layer.uses_provenance for layer in self.layers)
        self.labels_values = any(layer.labels for layer in self.layers)
        self._residuals: dict[tuple[Any, ...], _Residual] = {}
        self._duties: dict[Op, Duties] = {}
        self._labels: Labels | None = None

    def push(self, layer: Layer) -> Stack:
        """Return a stack with one more, innermost layer. It never allows more than this one, and endorses nothing more."""
        return Stack((*self.layers, layer), self.endorsing)

    @property
    def labels(self) -> Labels:
        """What the layers' label statements say, by source."""
        if self._labels is None:
            self._labels = Labels([layer.labels for layer in self.layers], self.endorsing)
        return self._labels

    def decide(
        self,
        op: Op,
        resources: tuple[Resource, ...],
        args: dict[str, Any],
        facts: Mapping[str, Any],
        *,
        late: bool | Collection[str] = False,
        own: bool = False,
    ) -> Verdict:
        """Decide one call; every resource is decided, the strictest verdict counts.

        Args:
            op: The op.
            resources: Canonical resources, as the op renders them; at least one.
            args: Validated arguments with canonical values.
            facts: Attribute name -> value: ``proc.pid`` and its like, and late attributes once they are known; ``flow`` is the `Flow`.
            late: False on the first pass: tests on late attributes are ignored. True on the second: those that `facts` or `args` holds
                are tested, null being unknown; a device hands in each before the first byte. A collection names them outright.
            own: The process has a right over itself to this call: a layer's default then lets it pass, a rule still decides it.

        Returns:
            The verdict. Cost: under a microsecond where the op and resources were decided before and no condition is left.
        """
        key = (op, own, resources[0].text) if len(resources) == 1 else (op, own, *(resource.text for resource in resources))
        residual = self._residuals.get(key)
        if residual is None:
            residual = self._remember(key, op, resources, own=own)
        if not residual.open:
            assert residual.settled is not None
            return residual.settled
        known = _known_late(op, args, facts, late) if late else _NONE_LATE
        return residual.decide(args, facts, known)

    def charges(
        self, op: Op, resources: tuple[Resource, ...], args: dict[str, Any], facts: Mapping[str, Any]
    ) -> tuple[Charge, ...]:
        """Return what the call takes from every limit of every layer that is about it, and adds to the history that layers test."""
        return self._duties_of(op).charges(resources, args, facts)

    def obligations(
        self, op: Op, resources: tuple[Resource, ...], args: dict[str, Any], facts: Mapping[str, Any]
    ) -> frozenset[str]:
        """Return the obligations of the call: the union over the layers."""
        return self._duties_of(op).obligations(resources, args, facts)

    def _duties_of(self, op: Op) -> Duties:
        duties = self._duties.get(op)
        if duties is None:
            if len(self._duties) >= DECISION_CACHE_MAX:
                self._duties.clear()
            duties = self._duties[op] = Duties(self.layers, op)
        return duties

    def explain(
        self,
        op: Op,
        resources: tuple[Resource, ...],
        args: dict[str, Any],
        facts: Mapping[str, Any],
        *,
        late: bool | Collection[str] = False,
        own: bool = False,
    ) -> Explanation:
        """Say what `decide` says and why: per layer the rules that applied or nearly did, and the closest change that would allow it."""
        from agentos.policy.explain import explain_call  # noqa: PLC0415 - explaining is rare, deciding is not

        known = _known_late(op, args, facts, late)
        verdict = self.decide(op, resources, args, facts, late=late, own=own)
        return explain_call(self.layers, verdict, op, resources, (args, facts, known), own=own)

    def _remember(self, key: tuple[Any, ...], op: Op, resources: tuple[Resource, ...], *, own: bool) -> _Residual:
        if len(self._residuals) >= DECISION_CACHE_MAX:
            self._residuals.clear()
        residual = self._residuals[key] = self._reduce(op, resources, own=own)
        return residual

    def _reduce(self, op: Op, resources: tuple[Resource, ...], *, own: bool) -> _Residual:
        assert resources, "every op touches at least one resource"
        if not self.layers:
            return _Residual(UNRESTRICTED, ())
        settled: Verdict | None = None
        still_open: list[tuple[tuple[BoundRule, ...], Verdict]] = []
        for resource in resources:
            keys = keys_of(resource)
            for layer in self.layers:
                rules = layer.match(op, resource, keys)
                if rules and rules[0].has_condition:
                    still_open.append((tuple(rules), replace(layer.default(op, own=own), constant=False)))
                    continue
                verdict = rules[0].settled if rules else layer.default(op, own=own)
                settled = verdict if settled is None else least(settled, verdict)
        if settled is not None and settled.outcome == "deny":
            return _Residual(settled, ())
        if still_open and settled is not None:
            settled = replace(settled, constant=False)
        return _Residual(settled, tuple(still_open))


def _known_late(op: Op, args: Mapping[str, Any], facts: Mapping[str, Any], late: bool | Collection[str]) -> frozenset[str]:
    if isinstance(late, bool):
        return frozenset(name for name in op.late if name in facts or name in args) if late else _NONE_LATE
    return frozenset(late)
