"""policy.*: a process's own layer, the innermost of its stack, and what the layers would say.

    update, not wider than what the process has    in force at once, for it and for every live descendant
    update, wider or undecided                     a question to a person, with the call that shows it; then for the process alone

A first layer is never wider: without one everything passes that the other layers let through. Descendants keep an own layer that they were
born under until it gets narrower: nobody's approval for one process widens another.

INVARIANT update-never-widens: without a person's approval of exactly this text in place of exactly that one, no stack allows more after
`policy.update` than before it; with it, the stack of the caller alone does.
"""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import digest, encode
from agentos.abi.limits import ASK_TIMEOUT_S, OWN_LAYER_BYTES_MAX, PREVIEW_BYTES_MAX
from agentos.abi.permit import Permit
from agentos.abi.records import AskRecord, Change
from agentos.abi.syscall import Park, Syscall
from agentos.errors import Denied, Invalid
from agentos.kernel.ask import refusal, verdict_of
from agentos.kernel.lifecycle import decode_layers
from agentos.kernel.ops.serve import serve
from agentos.kernel.process import AgentProcess
from agentos.policy import Layer, Policy, Stack
from agentos.policy.narrow import Comparison, compare

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]

_STATES_MAX: Final = 200_000
_SAMPLES_MAX: Final = 30_000
"""A comparison runs on the kernel's loop, well under a second; what takes more of it is left to a person."""
_CHARS_SHOWN: Final = PREVIEW_BYTES_MAX // 4


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    return serve(core, "policy", {"update": _update, "explain": _explain})


def _explain(core: Core, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
    return core.checker.check(permit.process, args["op"], args["args"])


def _update(core: Core, permit: Permit, args: dict[str, Any]) -> str | Park:
    process: AgentProcess = permit.process
    if len(args["text"].encode(errors="surrogatepass")) > OWN_LAYER_BYTES_MAX:
        hint = "a process's own layer is small; layers that the host gives may be larger"
        raise Invalid("policy", f"the text has over {OWN_LAYER_BYTES_MAX} bytes", hint=hint, field="text")
    layer = core.layers.read(Policy(args["text"], source=f"proc/{process.pid}"))
    old = core.layers.get(process.record.own_layer) if process.record.own_layer else None
    found = compare(old, layer, core.ops, states_max=_STATES_MAX, samples_max=_SAMPLES_MAX, running=True)
    bound = digest(process.record.own_layer.encode(), layer.digest.encode())
    record = core.asks.of_call(permit.pid, permit.number, "widening")
    if record is not None and (found.narrower or record.digest != bound):
        core.asks.close(record, "withdrawn", permit.changes)
        record = None
    if found.narrower:
        return _replace(core, process, layer, [process, *process.descendants()], permit.changes)
    if record is None:
        record = _ask(core, permit, old, layer, found, bound)
    elif record.state == "decided":
        refused = refusal(record) if verdict_of(record).verdict == "deny" else None
        core.asks.close(record, "consumed", permit.changes)
        if refused is not None:
            raise refused
        return _replace(core, process, layer, [process], permit.changes)
    elif 0 < record.expires <= core.clock.now():
        core.asks.close(record, "expired", permit.changes)
        raise refusal(record)
    return Park((("ask", record.ask),), record.expires or None, f"ask {record.ask}")


# --- asking -----------------------------------------------------------------------------------------------------------------


def _ask(core: Core, permit: Permit, old: Layer | None, layer: Layer, found: Comparison, bound: bytes) -> AskRecord:
    shown = found.witness.text() if found.witness is not None else "it could not be decided whether this lets more through"
    if core.mode == "noninteractive":
        hint = "this kernel runs noninteractive; a narrower layer needs nobody"
        raise Denied(
            "human", f"this layer is wider than the process's own ({shown[:400]}), and nobody is there to ask", hint=hint
        )
    process: AgentProcess = permit.process
    now, image = core.clock.now(), process.image
    expires = 0.0 if image.on_timeout == "suspend" else now + (image.ask_timeout_s or ASK_TIMEOUT_S)
    return core.asks.open(
        process, permit.number, "widening", permit.changes, now=now, expires=expires, op="policy.update", resource="self",
        args=encode({"text": layer.text, "witness": shown[:_CHARS_SHOWN]}), preview=encode(_preview(old, layer, shown)), digest=bound,
        because="it lets more through than the process's own layer does now", labels=process.label,
    )  # fmt: skip


def _preview(old: Layer | None, layer: Layer, shown: str) -> dict[str, Any]:
    before = old.text if old is not None else ""
    lines = unified_diff(before.splitlines(), layer.text.splitlines(), "own layer now", "own layer then", lineterm="")
    difference = "\n".join(lines)
    preview: dict[str, Any] = {"summary": f"for example: {shown[:_CHARS_SHOWN]}", "diff": difference[:_CHARS_SHOWN]}
    return preview | ({"cut": True} if len(difference) > _CHARS_SHOWN else {})


# --- replacing --------------------------------------------------------------------------------------------------------------


def _replace(core: Core, process: AgentProcess, layer: Layer, reached: list[AgentProcess], changes: list[Change]) -> str:
    """Give the process its new own layer, and every other of `reached` that in place of the old one, or on top.

    Raises:
        Invalid: `invalid.policy`, one of them would have more layers than a stack may; nothing was changed.
    """
    old, layer = process.record.own_layer, core.layers.know(layer)
    if old == layer.digest:
        return old
    given = {
        one.pid: _with(decode_layers(one.record), one.record.endorsing, old, layer.digest)
        for one in reached
        if one is not process
    }
    stacks = {
        one.pid: _stack(core, one, layer.digest if one is process else one.record.own_layer, given.get(one.pid))
        for one in reached
    }
    core.layers.keep(layer, changes)
    for one in reached:
        replaced = one.record.seq
        if one is process:
            one.record.own_layer = layer.digest
        else:
            one.record.layers = encode(given[one.pid])
        one.stack = stacks[one.pid]
        one.forget_decisions()
        changes.append(Change(one.record, replaced))
    return layer.digest


def _with(digests: list[str], endorsing: int, old: str, new: str) -> list[str]:
    """Return the layers with `new` for the innermost `old`, which is what an ancestor passed on; on top when they do not have it."""
    for place in range(len(digests) - 1, endorsing - 1, -1):
        if old and digests[place] == old:
            return [*digests[:place], new, *digests[place + 1 :]]
    return [*digests, new]


def _stack(core: Core, process: AgentProcess, own: str, digests: list[str] | None) -> Stack:
    mine = decode_layers(process.record) if digests is None else digests
    return core.layers.stack([*mine, own] if own else mine, process.record.endorsing)
