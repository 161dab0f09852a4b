"""Who may answer: a name holds capability texts, and answers only the asks that they cover.

    open(people={"alice": ["bank.transfer acct/7/** when amount <= 100"], "ops": ["*"]})

``*`` covers every ask. Any other text covers an ask when it covers the call: op, every resource, every condition. Questions, requests for a
capability and unknown outcomes are covered by their op. The name comes with the answer: it is for whoever hands the API out (a web
console, a chat bridge) to make sure of it. A process has no way to answer: no op does.

INVARIANT answering-is-a-right: where `people` is given, an answer by a name that does not hold the right changes nothing, whichever way
it comes, and a standing grant lasts only as long as the right of who gave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode
from agentos.abi.op import PROFILE_DEFAULT, Op, OpTable
from agentos.abi.records import AskRecord
from agentos.abi.resource import Resource
from agentos.errors import Denied, Invalid
from agentos.policy import CapSpec, parse_capability

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess

__all__ = ["People"]

_EVERYTHING = "*"


class People:
    """Name -> what asks it may answer.

    Args:
        given: Name -> capability texts.
        ops: The op table, with every device that `open` mounts.

    Raises:
        Invalid: `invalid.argument`, a malformed text, one that counts uses or lapses, or not a mapping of lists.
    """

    def __init__(self, given: Mapping[str, Sequence[str]], ops: OpTable) -> None:
        self._ops = ops
        self._all: set[str] = set()
        self._held: dict[str, list[CapSpec]] = {}
        for name, texts in _checked(given).items():
            self._held[name] = [_right(text, ops) for text in texts if text.strip() != _EVERYTHING]
            if len(self._held[name]) < len(texts):
                self._all.add(name)

    def check(self, by: str, ask: AskRecord, process: AgentProcess | None, edit: dict[str, Any] | None = None) -> None:
        """Refuse an answer of somebody who may not answer this ask, or may not have it done as edited.

        Raises:
            Denied: `denied.human`.
        """
        if by in self._all:
            return
        if by in self._held:
            args = decode(ask.args) if ask.args else {}
            versions = [args] if edit is None else [args, {**args, **edit}]
            if all(self._covers_version(by, ask, version, process) for version in versions):
                return
        raise Denied(
            "human",
            f"`{by[:100]}` may not answer this ask",
            hint="somebody who holds a right that covers it has to",
            ask=ask.ask,
        )

    def may_allow(self, by: str, op: Op, resources: tuple[Resource, ...], args: Mapping[str, Any]) -> bool:
        """Say whether a name may answer an ask about this call."""
        return by in self._all or any(held.covers(op, resources, args) for held in self._held.get(by, ()))

    def _covers_version(self, by: str, ask: AskRecord, args: dict[str, Any], process: AgentProcess | None) -> bool:
        """Say whether a name may answer about these arguments; what is no call of the op as it is now is covered by ``*`` alone."""
        op = self._ops.get(ask.op)
        if op is None:
            return False
        try:
            typed = op.validate({name: value for name, value in args.items() if name in op.arg_names})
            profile = process.image.profile if process is not None else PROFILE_DEFAULT
            resources = op.render(typed, process.cwd if process is not None else "/", ask.pid, profile)
        except Invalid:
            return False
        return self.may_allow(by, op, resources, typed)


def _checked(given: Any) -> Mapping[str, Sequence[str]]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise Invalid("argument", "people is no mapping of names", hint='give {"alice": ["fs.write /**"]}', field="people")
    for name, texts in given.items():
        if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            hint = 'give a list of capability texts, or ["*"]'
            raise Invalid("argument", f"what `{name}` may answer is no list of texts", hint=hint, field="people")
    return given


def _right(text: str, ops: OpTable) -> CapSpec:
    spec = parse_capability(text, ops)
    if spec.uses is not None or spec.ttl_s is not None or spec.depth is not None:
        hint = "leave `uses`, `for` and `depth` out: a right to answer is held for as long as the kernel runs"
        raise Invalid("argument", f"`{text}` counts uses, lapses or may be passed on", hint=hint, field="people")
    return spec
