"""Offers: the rule that an approval stores when a person gives it a wider scope than this one call, and what such rules cover.

    allow bank.transfer "acct/7" when account == "7" and to == "bob" and flow.integrity == trusted and flow.level <= public any memo

An offer names the op, the exact resources, and pins: every argument that names the resource, every sink, every choice (flags, enums),
each equal to what the person saw, and no more labels than the call carried. `any` lists what is left open. Every argument is pinned by a
fingerprint, so that the offer covers exactly this call, where the declaration leaves nothing to pin (neither a resource nor sinks), where
nothing takes the effect back and no sinks are declared, and where a value cannot be written in the language (lists, objects, long or
unprintable texts).

There is no offer where the language cannot name the resource literally, where more than one rule asks, or where the kernel itself asks:
then an approval is for one call.

INVARIANT offer-covers-its-call: an offer is compiled and decided before it is shown; one that does not cover its own call is none.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode
from agentos.abi.labels import LEVELS, UNTRUSTED, level
from agentos.abi.limits import WOULD_COVER_MAX, WOULD_COVER_ROWS
from agentos.abi.op import Op
from agentos.abi.records import AskRecord, ProcessRecord, Row, StandingRecord
from agentos.abi.resource import Resource, Url
from agentos.broker.request import Request
from agentos.errors import Invalid
from agentos.kernel.ask import COVERED, IRREVERSIBLE
from agentos.kernel.standing import EXACTLY, Asked, Asking, fingerprint, rule_holds
from agentos.policy import Stack
from agentos.policy.unparse import quoted

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.policy.layer import BoundRule, Layer

__all__ = ["answers_late", "asked_by", "asking_about", "covering", "offer_of", "still_covered", "would_cover"]

_TEXT_CHARS_MAX: Final = 200
_LABEL_BITS: Final = 0xFFFF
_NONE_LATE: Final[frozenset[str]] = frozenset()


def asked_by(call: Request) -> Asked:
    """Return what people and grants need to know of a call."""
    process = call.process
    return Asked(process.record, call.op, call.resources, call.args, call.encoded, call.label | process.call_label, process.cwd)


def covering(core: Core, call: Request) -> StandingRecord | None:
    """Return the standing grant that answers the ask about a call; None when a person has to.

    A grant for every rule that asks is needed; the one for the deciding rule is returned.
    """
    if call.op.asks or call.verdict is None or not core.standing.is_about(call.op.name):
        return None
    asking = asking_about(call)
    deciding = next((at for at, rule in enumerate(asking) if rule.rule == call.verdict.rule), None)
    if deciding is None:
        return None  # no layer's rule asks, but the kernel: nothing stands in for a person then
    found = core.standing.covering(asked_by(call), asking, core.clock.now(), core.people)
    return found[deciding] if found else None


def still_covered(core: Core, call: Request) -> bool:
    """Say whether what let a call go on still does after a wait: a grant that was revoked or has lapsed meanwhile does not."""
    return call.approval is None or not _is_by_grant(core, call) or covering(core, call) is not None


def answers_late(core: Core, call: Request, resources: tuple[Resource, ...], args: dict[str, Any]) -> bool:
    """Say whether an ask about what the device found out is answered already.

    A person who approved the call was shown where it leads, by its name or its preview: a link that was put there later leads to what
    nobody saw. Whoever gave a standing grant has seen another call: it has to cover what was found as well.

    Args:
        core: The kernel's state.
        call: The call.
        resources: Its resources as they really are.
        args: Its arguments, with every late attribute that is known.
    """
    if not _is_by_grant(core, call):
        asked = call.approval or (core.store.get(AskRecord, call.paid.ask) if call.paid is not None and call.paid.ask else None)
        return asked is not None and all(
            _was_shown(asked, call, at, found.text) for at, found in enumerate(resources) if found is not call.resources[at]
        )
    late = frozenset(name for name in call.op.late if name in args or name in call.process.facts)
    found = replace(asked_by(call), resources=resources, args=args)
    return bool(core.standing.covering(found, asking_about(call, resources, args, late), core.clock.now(), core.people))


def _was_shown(asked: AskRecord, call: Request, at: int, found: str) -> bool:
    """Say whether what a resource turned out to be is what the person saw, or lies in it (a folder that is moved or deleted)."""
    named = call.resources[at].text
    preview = decode(asked.preview) if asked.preview else None
    is_edited = bool(asked.answer and decode(asked.answer)["edit"])
    key = ("resolved", "resolved_to", "")[min(at, 2)]
    shown = named if is_edited or not isinstance(preview, dict) else str(preview.get(key) or named)
    if call.op.name == "fs.mkdir" and shown.startswith(found.rstrip("/") + "/"):
        return True  # a parent that is made along
    return found == shown or found.startswith(shown.rstrip("/") + "/")


def _is_by_grant(core: Core, call: Request) -> bool:
    """Say whether no person has seen a call, or the interrupted attempt that it finishes: a grant answered, or its ask was another's."""
    asked = call.approval
    if asked is None:
        if call.paid is None or not call.paid.ask:
            return False
        asked = core.store.get(AskRecord, call.paid.ask)
    if asked is None or (asked.pid, asked.number) != (call.process.pid, call.number):
        return True
    return not asked.answer or str(decode(asked.answer)["scope"]).startswith(COVERED)


def asking_about(
    call: Request,
    resources: tuple[Resource, ...] | None = None,
    args: dict[str, Any] | None = None,
    late: frozenset[str] = _NONE_LATE,
) -> list[Asking]:
    """Return every rule of every layer that asks about a call, the one that a layer names first; not only the deciding one.

    Args:
        call: The call.
        resources: Its resources where they turned out to be others.
        args: Its arguments with late attributes, where some are known.
        late: The late attributes that are known.
    """
    process, found = call.process, dict[Asking, None]()
    args = call.args if args is None else args
    own = call.op.is_self_right(call.args, process.pid, process.image.profile)
    for layer in process.stack.layers:
        for resource in resources or call.resources:
            verdict = Stack((layer,)).decide(call.op, (resource,), args, process.facts, late=late, own=own)
            if verdict.outcome == "ask":
                found[Asking(verdict.rule, layer.digest, verdict.remember)] = None
                rules = (
                    rule for rule in layer.rules_for(call.op) if rule.checked.rule.outcome == "ask" and _matches(rule, resource)
                )
                found.update((_asking(rule, layer), None) for rule in rules if rule.applies(args, process.facts, late))
    return list(found)


def _asking(rule: BoundRule, layer: Layer) -> Asking:
    return Asking(rule.checked.where, layer.digest, rule.checked.rule.clauses.remember)


def _matches(rule: BoundRule, resource: Resource) -> bool:
    return rule.patterns is None or any(
        pattern.covers(resource) if rule.granting else pattern.matches(resource) for pattern in rule.patterns
    )


# --- the offer --------------------------------------------------------------------------------------------------------------


def offer_of(core: Core, call: Request, asking: list[Asking]) -> str:
    """Return the rule that a wider scope stores for a call, empty when there is none to offer."""
    op, patterns = call.op, [_pattern(resource) for resource in call.resources]
    if len(asking) != 1 or op.asks or "flow" in op.arg_names or None in patterns:
        return ""
    asked = asked_by(call)
    head = f"allow {op.name} {', '.join(dict.fromkeys(quoted(text) for text in patterns if text is not None))}"
    names = _pinned(op)
    pins = [
        pin
        for name in names
        if (pin := _pin(name, call.args[name])) and rule_holds(f"{head} when {pin} any *", asked, core.ops)
    ]
    conditions = [*pins, *_label_bounds(asked.label)]
    when = f" when {' and '.join(conditions)}" if conditions else ""
    if len(pins) < len(names) or _pins_all(op):
        text = f"{head}{when} any *{EXACTLY}{fingerprint(op, call.encoded, asked.cwd)}"
    else:
        free = [name for name in op.arg_names if name not in names]
        text = f"{head}{when}" + (f" any {', '.join(free)}" if free else "")
    return text if rule_holds(text, asked, core.ops) else ""


def _pins_all(op: Op) -> bool:
    return not op.sinks and (not any(template.fields for template in op.resources) or op.effect.value in IRREVERSIBLE)


def _pinned(op: Op) -> list[str]:
    """Return the names of the arguments that an offer pins, in declared order."""
    fields = {name for template in op.resources for name in template.fields}
    everything = _pins_all(op)
    return [name for name in op.arg_names if everything or name in fields | op.sinks or _is_choice(op.hints[name])]


def _is_choice(hint: Any) -> bool:
    """Say whether an argument is a flag or one of a few words, alone, optional or in a list."""
    origin = typing.get_origin(hint)
    if hint is bool or origin is typing.Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return True
    if origin is typing.Annotated:
        return _is_choice(typing.get_args(hint)[0])
    return origin in (typing.Union, types.UnionType, list, tuple, set, frozenset) and any(
        _is_choice(argument) for argument in typing.get_args(hint)
    )


def _pattern(resource: Resource) -> str | None:
    """Return the pattern that matches a resource and, with its arguments pinned, no other; None when the language has none."""
    text = resource.text
    if isinstance(resource.value, Url):
        text = text.partition("?")[0]  # a pattern has no query; the argument's pin has it
    has_wildcard = resource.kind != "argv" and any(char in "*?" for char in text)  # a command's are quoted
    return None if has_wildcard or not text.isprintable() else text


def _pin(name: str, value: Any) -> str:
    """Return the condition that an argument equals a value, empty when the language cannot say it."""
    if value is None:
        return f"{name} is absent"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return f"{name} == {str(value).lower()}"
    if isinstance(value, str):
        return f"{name} == {quoted(value)}" if len(value) <= _TEXT_CHARS_MAX and value.isprintable() else ""
    if isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return f"{name} == {value}"  # what has an exponent does not load, and is pinned by the fingerprint
    return ""


def _label_bounds(label: int) -> list[str]:
    """Return the conditions that a call carries no label that this one does not."""
    bounds = [] if label & UNTRUSTED else ["flow.integrity == trusted"]
    return bounds if level(label) == len(LEVELS) - 1 else [*bounds, f"flow.level <= {LEVELS[level(label)]}"]


# --- what it would have covered ---------------------------------------------------------------------------------------------


def would_cover(core: Core, record: AskRecord) -> tuple[dict[str, Any], ...]:
    """Return the calls among the newest WOULD_COVER_ROWS rows that an ask's offer covers, newest first, WOULD_COVER_MAX at most."""
    op = core.ops.get(record.op)
    if not record.offer or op is None:
        return ()
    process = core.processes.get(record.pid)
    cwd = process.cwd if process is not None else "/"
    rows = core.store.rows(max(core.journal.head - WOULD_COVER_ROWS, 0), WOULD_COVER_ROWS)
    return tuple(_covered(core, record, op, cwd, reversed(rows)))


def _covered(core: Core, record: AskRecord, op: Op, cwd: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row in rows:
        if row.op == op.name and row.kind in ("call", "intent") and row.args and len(found) < WOULD_COVER_MAX:
            call = _asked_then(core, op, row, cwd)
            if call is not None and rule_holds(record.offer, call, core.ops):
                found.append({"seq": row.seq, "pid": row.pid, "op": row.op, "resource": row.resource, "at": row.at})
    return found


def _asked_then(core: Core, op: Op, row: Row, cwd: str) -> Asked | None:
    """Return a journaled call as it would be asked about; None when its process is gone for good or its op has changed."""
    record = core.store.get(ProcessRecord, row.pid)
    try:
        args = op.validate(decode(row.args))
        resources = op.render(args, cwd, row.pid)
    except Invalid:
        return None
    return Asked(record, op, resources, args, row.args, row.labels & _LABEL_BITS, cwd) if record is not None else None
